"""Runs: the whole table of transitions, one active run, writes that lose and are told so."""

from __future__ import annotations

import asyncio
import itertools
from datetime import UTC, datetime, timedelta
from typing import Any
from uuid import UUID

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from compute.errors import InvalidInput
from live.strategies.errors import (
    ForeignStrategy,
    IdempotencyConflict,
    IllegalTransition,
    NoActiveRun,
    QuotaExceeded,
    RunActive,
    RunChanged,
    RunNotFound,
    RunStopping,
    StrategyActive,
    StrategyNotFound,
)
from live.strategies.events import events_page
from live.strategies.run_store import RunStore
from live.strategies.runs import ACTIVE, STATES, TERMINAL, Run, metadata_of
from live.strategies.store import StrategyStore
from tests.live.strategies.stored import ANN, BOB, created, execute, fetch, run, started

LEGAL = {
    ("starting", "warming_up"), ("starting", "stopping"), ("starting", "stopped"),
    ("starting", "failed"),
    ("warming_up", "running"), ("warming_up", "stopping"), ("warming_up", "failed"),
    ("running", "stopping"), ("running", "failed"),
    ("stopping", "stopped"), ("stopping", "failed"),
}  # fmt: skip
WAYS = {
    "starting": (),
    "warming_up": ("warming_up",),
    "running": ("warming_up", "running"),
    "stopping": ("stopping",),
    "stopped": ("stopping", "stopped"),
    "failed": ("failed",),
}
AT = datetime(2026, 1, 1, tzinfo=UTC)


def error_of(state: str) -> str | None:
    return "no" if state == "failed" else None


async def brought(found: AsyncEngine, state: str) -> Run:
    """A run that has come to a state."""
    made = await started(found)
    for step in WAYS[state]:
        made = await RunStore(found).move(made, step, last_error=error_of(step))
    return made


async def types(found: AsyncEngine, made: Run) -> list[str]:
    return [one.event_type for one in await events_page(found, made.strategy_id, 99)]


def test_every_pair_of_states(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = RunStore(found)
        for before, after in itertools.product(STATES, STATES):
            made = await brought(found, before)
            log = await types(found, made)
            if (before, after) not in LEGAL:
                with pytest.raises(IllegalTransition) as refused:
                    await store.move(made, after, last_error=error_of(after))
                assert refused.value.details["reason"] == f"{before} -> {after}"
                assert await types(found, made) == log
                continue
            moved = await store.move(made, after, last_error=error_of(after))
            assert moved.state == after
            assert moved.updated_at > made.updated_at
            assert (moved.stopped_at == moved.updated_at) == (after in TERMINAL)
            last = (await events_page(found, made.strategy_id, 99))[-1]
            assert (last.ts, last.run_id) == (moved.updated_at, made.run_id)
            assert last.payload_json["from"] == before
            assert last.payload_json["state"] == after

    run(database, work)
    assert {*ACTIVE} | {*TERMINAL} == {*STATES}


def test_what_each_transition_writes_down(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        assert await types(found, await brought(found, "running")) == [
            "strategy_created", "run_started", "run_state_changed", "run_state_changed",
        ]  # fmt: skip
        assert (await types(found, await brought(found, "stopped")))[2:] == [
            "run_stop_requested", "run_stopped",
        ]  # fmt: skip
        failed = await brought(found, "failed")
        last = (await events_page(found, failed.strategy_id, 99))[-1]
        assert (last.event_type, last.payload_json["error"]) == ("run_failed", "no")

    run(database, work)


def test_checkpoint_and_error_are_those_that_are_given(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = RunStore(found)
        made = await started(found)
        warm = await store.move(
            made, "warming_up", checkpoint_ts_open=AT, last_error="odd", metadata={"b": 1, "a": {2}}
        )
        assert (warm.checkpoint_ts_open, warm.last_error) == (AT, "odd")
        assert warm.metadata_json == {"a": "{2}", "b": 1}
        at = AT + timedelta(minutes=1)
        further = await store.advance(warm, at, {"bars": 3})
        assert (further.state, further.checkpoint_ts_open) == ("warming_up", at)
        assert further.last_error == "odd"
        assert further.updated_at > warm.updated_at
        stopping = await store.stop(made.strategy_id, ANN)
        assert (stopping.checkpoint_ts_open, stopping.last_error) == (at, "odd")
        assert stopping.metadata_json == {"bars": 3}
        ended = await store.move(stopping, "stopped")
        assert (ended.checkpoint_ts_open, ended.last_error) == (None, None)  # nothing given
        for error in ("", " "):
            with pytest.raises(InvalidInput):
                await store.move(made, "failed", last_error=error)
        with pytest.raises(InvalidInput, match="needs an error"):
            await store.move(made, "failed")

    run(database, work)


def test_a_tick_cannot_take_back_a_stop(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = RunStore(found)
        read = await store.move(await started(found), "warming_up")
        await store.stop(read.strategy_id, ANN)
        log = await types(found, read)
        for late in (
            lambda: store.move(read, "running"),
            lambda: store.move(read, "failed", last_error="x"),
            lambda: store.advance(read, AT, {}),
        ):
            with pytest.raises(RunChanged) as refused:
                await late()
            assert refused.value.details["error"] == "lost_race"
            assert "is stopping since" in refused.value.details["reason"]
        assert await types(found, read) == log
        assert (await store.get(read.strategy_id, read.run_id, ANN)).state == "stopping"

    run(database, work)


def test_what_no_runner_has_begun_with_is_stopped_at_once(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = RunStore(found)
        made = await started(found)
        ended = await store.stop(made.strategy_id, ANN)
        assert (ended.state, ended.stopped_at) == ("stopped", ended.updated_at)
        last = (await events_page(found, made.strategy_id, 99))[-1]
        assert (last.event_type, last.ts) == ("run_stopped", ended.updated_at)
        assert last.payload_json["from"] == "starting"
        assert await types(found, made) == ["strategy_created", "run_started", "run_stopped"]
        with pytest.raises(NoActiveRun):
            await store.stop(made.strategy_id, ANN)
        with pytest.raises(RunChanged, match="is stopped since"):  # the runner that comes late
            await store.move(made, "warming_up")
        again, new = await store.start(made.strategy_id, ANN, most=1)
        assert new
        begun = await store.advance(again, AT, {})
        assert (await store.stop(begun.strategy_id, ANN)).state == "stopping"

    run(database, work)


def test_of_two_movers_one_wins(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = RunStore(found)
        made = await started(found)
        moves = [store.move(made, state, last_error=error_of(state))
                 for state in ("warming_up", "failed", "stopping") * 3]  # fmt: skip
        results = await asyncio.gather(*moves, return_exceptions=True)
        won = [one for one in results if isinstance(one, Run)]
        assert len(won) == 1
        assert sum(isinstance(one, RunChanged) for one in results) == 8
        assert len(await types(found, made)) == 3

    run(database, work)


def test_time_never_goes_back(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = RunStore(found)
        made = await started(found)
        await execute(found, "update strategy_runs set updated_at = now() + interval '1 day'")
        ahead = await store.get(made.strategy_id, made.run_id, ANN)
        moved = await store.move(ahead, "warming_up")
        assert moved.updated_at == ahead.updated_at + timedelta(microseconds=1)

    run(database, work)


def test_of_fifty_starts_at_once_one_is_made(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = RunStore(found)
        strategy = await created(found)
        results = await asyncio.gather(
            *(store.start(strategy.strategy_id, ANN, most=99) for _ in range(50)),
            return_exceptions=True,
        )
        assert sum(isinstance(one, RunActive) for one in results) == 49
        assert len(await fetch(found, "select 1 from strategy_runs")) == 1
        query = "select 1 from strategy_events where event_type = 'run_started'"
        assert len(await fetch(found, query)) == 1

    run(database, work)


def test_a_run_that_came_past_the_lock_is_found_by_the_index(database: str) -> None:
    """Another writer inserts a run without asking; the index lets one of the two in."""

    async def work(found: AsyncEngine) -> None:
        strategy = await created(found)
        async with found.connect() as other:
            await other.execute(
                text(
                    "insert into strategy_runs (run_id, user_id, strategy_id, state, started_at,"
                    " updated_at) values (gen_random_uuid(), :user, :strategy, 'running', now(),"
                    " now())"
                ),
                {"user": ANN, "strategy": strategy.strategy_id},
            )
            task = asyncio.create_task(RunStore(found).start(strategy.strategy_id, ANN, most=9))
            waiting = "select 1 from pg_stat_activity where wait_event_type = 'Lock'"
            while not await fetch(found, waiting):
                await asyncio.sleep(0.01)
            await other.commit()
        with pytest.raises(RunChanged) as refused:
            await task
        assert refused.value.details["reason"].endswith("came first")
        assert await fetch(found, "select 1 from strategy_events where run_id is not null") == []

    run(database, work)


def test_other_violations_are_no_conflict(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        strategy = await created(found)
        await execute(found, "alter table strategy_runs add constraint odd check (false)")
        with pytest.raises(Exception, match="odd") as failed:
            await RunStore(found).start(strategy.strategy_id, ANN, most=9)
        assert not isinstance(failed.value, RunChanged)

    run(database, work)


def test_metadata_is_json() -> None:
    odd = {"b": float("nan"), 1: (1, {"y": AT, "x": None}), "a": True, "c": 0.5}
    assert metadata_of(odd) == {
        "1": [1, {"x": None, "y": str(AT)}], "a": True, "b": "nan", "c": 0.5,
    }  # fmt: skip
    assert [*metadata_of(odd)] == ["1", "a", "b", "c"]


class Model:
    """What users may see of two strategies, told by the rules alone."""

    def __init__(self) -> None:
        self.state: str | None = None  # of the last run
        self.runs = 0
        self.deleted = False
        self.keys: dict[str, int] = {}

    @property
    def active(self) -> bool:
        return self.state in ACTIVE

    def expected(self, call: str, user: UUID, key: str | None) -> type[Exception] | str:
        """The refusal of a call, or the state that it leaves."""
        if self.deleted:
            return StrategyNotFound
        if user != ANN:
            return ForeignStrategy
        if call == "start":
            if key in self.keys:
                return "known"
            return RunActive if self.active else "starting"
        if call == "stop":
            if not self.active:
                return NoActiveRun
            if self.state == "stopping":
                return RunStopping
            return "stopped" if self.state == "starting" else "stopping"
        return StrategyActive if self.active else "deleted"


CALLS = st.lists(
    st.tuples(
        st.sampled_from(["start", "stop", "delete", *STATES]),
        st.sampled_from([ANN, ANN, ANN, BOB]),
        st.sampled_from([None, None, "a", "b"]),
    ),
    max_size=14,
)


@settings(max_examples=40, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(CALLS)
def test_any_sequence_of_calls_does_what_the_rules_say(
    database: str, calls: list[tuple[str, UUID, str | None]]
) -> None:
    async def walked(found: AsyncEngine) -> None:
        store, model = RunStore(found), Model()
        strategy = await created(found)
        there = strategy.strategy_id
        current: Run | None = None
        for call, user, key in calls:
            if call in STATES:  # the runner's part
                if current is None:
                    continue
                try:
                    current = await store.move(current, call, last_error=error_of(call))
                except IllegalTransition:
                    assert (model.state, call) not in LEGAL
                else:
                    assert (model.state, call) in LEGAL
                    model.state = call
                continue
            expected = model.expected(call, user, key)
            wanted: Any
            if call == "start":
                wanted = store.start(there, user, most=99, key=f"{there} {key}" if key else None)
            elif call == "stop":
                wanted = store.stop(there, user)
            else:
                wanted = StrategyStore(found).delete(there, user)
            if isinstance(expected, type):
                with pytest.raises(expected):
                    await wanted
                continue
            result = await wanted
            if call == "start":
                made, new = result
                assert new == (expected != "known")
                if new:
                    model.runs += 1
                    current = made
                    if key:
                        model.keys[key] = model.runs
            if call == "stop":
                current = result
            if expected == "deleted":
                model.deleted = True
            elif expected != "known":
                model.state = expected
        query = "select count(*), count(*) filter (where stopped_at is null) from strategy_runs" \
                " where strategy_id = :id"  # fmt: skip
        assert await fetch(found, query, id=there) == [(model.runs, int(model.active))]

    run(database, walked, connections=2)


def test_refusals_of_runs(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = RunStore(found)
        made = await started(found)
        other = await created(found)
        with pytest.raises(RunNotFound):
            await store.get(other.strategy_id, made.run_id, ANN)
        for refusal in (store.get(made.strategy_id, made.run_id, BOB),
                        store.page(made.strategy_id, BOB, 5)):  # fmt: skip
            with pytest.raises(ForeignStrategy):
                await refusal
        with pytest.raises(QuotaExceeded) as full:
            await store.start(other.strategy_id, ANN, most=1)
        assert full.value.details["max_active_runs"] == 1
        again, _ = await store.start(other.strategy_id, ANN, most=2, key="k")
        assert await store.start(other.strategy_id, ANN, most=0, key="k") == (again, False)
        third = await created(found)
        with pytest.raises(IdempotencyConflict):
            await store.start(third.strategy_id, ANN, most=9, key="k")
        with pytest.raises(InvalidInput, match="printable ASCII"):
            await store.start(third.strategy_id, ANN, most=9, key="\n")

    run(database, work)
