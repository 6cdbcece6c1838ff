"""Strategies and their log in the database: kept as they were made, whatever is tried."""

from __future__ import annotations

import asyncio
from datetime import UTC, timedelta
from typing import Any
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from live.strategies.errors import QuotaExceeded, StrategyNotFound
from live.strategies.events import events_page
from live.strategies.run_store import RunStore
from live.strategies.spec import spec_of
from live.strategies.store import Draft, StrategyStore
from tests.live.strategies.stored import (
    ANN,
    BOB,
    BODY,
    RULES,
    created,
    execute,
    fetch,
    run,
    started,
)
from tests.postgres import execute as plainly

ODD = {
    "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
    "timeframe": "1m",
    "indicators": [{"name": "x", "params": {"a": 1e16, "b": -0.0, "c": 1.50, "d": 1e-7}}],
}


def test_what_is_stored_comes_back_and_its_hash_is_not_made_again(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = StrategyStore(found)
        for body in (BODY, ODD):
            made, _ = await store.create(Draft(spec_of(body, RULES)), ANN, most=9)
            assert made.spec_json == spec_of(body, RULES)
            assert await store.get(made.strategy_id) == made
            assert await store.owned(made.strategy_id, ANN) == made
        # A name that no specification gives would be shown all the same.
        await execute(found, "alter table strategy_strategies disable trigger all")
        await execute(
            found, "update strategy_strategies set name = 'n', spec_hash = repeat('0', 64)"
        )
        assert {one.name for one in await store.page(ANN, 5)} == {"n"}

    run(database, work)


CHANGES = [
    "name = 'mine'", "user_id = gen_random_uuid()", "created_at = created_at + interval '1 s'",
    "spec_json = spec_json || '{\"timeframe\": \"4h\"}'",
    "spec_json = jsonb_set(spec_json, '{execution,fee_pct}', '0.0750')",
    "symbol = 'X'", "is_deleted = true, spec_hash = repeat('a', 64)",
]  # fmt: skip


def test_a_strategy_cannot_be_changed(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        before = await fetch(found, "select cast(s as text) from strategy_strategies s")
        for change in CHANGES:
            with pytest.raises(IntegrityError, match="never changed or removed"):
                await execute(found, f"update strategy_strategies set {change}")
        await execute(found, "update strategy_strategies set request_hash = null")  # as it is
        assert await fetch(found, "select cast(s as text) from strategy_strategies s") == before
        await execute(found, "update strategy_strategies set is_deleted = true")

    run(database, work)


def test_the_log_only_grows(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        for statement in (
            "update strategy_events set ts = ts",
            "update strategy_events set event_type = 'no'",
            "delete from strategy_events",
            "truncate strategy_events",
            "delete from strategy_strategies",
        ):
            with pytest.raises(IntegrityError, match="never changed or removed"):
                await execute(found, statement)
        assert len(await fetch(found, "select 1 from strategy_events")) == 1

    run(database, work)


CHECKED = [
    ("strategy_strategies", "spec_kind_chk", {"spec_json": '{"schema_version": 2}'}),
    ("strategy_strategies", "spec_kind_chk",
     {"spec_json": '{"schema_version": 1, "spec_kind": "roehub.strategy.v2"}'}),
    ("strategy_strategies", "spec_schema_version_chk",
     {"spec_json": '{"schema_version": 3, "spec_kind": "roehub.strategy.v3"}'}),
    ("strategy_strategies", "spec_kind_chk", {"spec_json": "{}"}),
    ("strategy_strategies", "instrument_id_shape_chk", {"instrument_id": '{"market_id": 1}'}),
    ("strategy_strategies", "instrument_id_shape_chk", {"instrument_id": "[]"}),
    ("strategy_strategies", "market_type_chk", {"market_type": "margin"}),
    ("strategy_strategies", "timeframe_chk", {"timeframe": "2h"}),
    ("strategy_strategies", "name_chk", {"name": " "}),
    ("strategy_strategies", "indicators_json_chk", {"indicators_json": "{}"}),
    ("strategy_strategies", "hashes_chk", {"spec_hash": "A" * 64}),
    ("strategy_strategies", "idempotency_chk", {"idempotency_key": "k"}),
    ("strategy_runs", "state_chk", {"state": "paused"}),
    ("strategy_runs", "times_chk", {"updated_at": "2020-01-01Z"}),
    ("strategy_runs", "stopped_at_chk", {"state": "stopped"}),
    ("strategy_runs", "stopped_at_chk", {"stopped_at": "2030-01-01Z"}),
    ("strategy_runs", "last_error_chk", {"last_error": " "}),
    ("strategy_runs", "last_error_chk", {"state": "failed", "stopped_at": "2030-01-01Z"}),
    ("strategy_runs", "metadata_json_chk", {"metadata_json": "[]"}),
    ("strategy_events", "event_type_nonempty_chk", {"event_type": ""}),
    ("strategy_events", "payload_shape_chk", {"payload_json": "1"}),
]  # fmt: skip
_KEYS = {"strategy_strategies": "strategy_id", "strategy_runs": "run_id",
         "strategy_events": "event_id"}  # fmt: skip
_JSON = ("instrument_id", "indicators_json", "spec_json", "metadata_json", "payload_json")


def test_rows_that_cannot_be(database: str) -> None:
    """A copy of a good row with these values is refused by the check of that name."""

    async def work(found: AsyncEngine) -> None:
        await started(found)
        await execute(found, "drop index strategy_runs_one_active")
        for table, check, values in CHECKED:
            changes = {_KEYS[table]: str(uuid4()), **values}
            given = ", ".join(
                f"'{name}', cast(:{name} as {'jsonb' if name in _JSON else 'text'})"
                for name in changes
            )
            row = f"jsonb_populate_record(t, jsonb_build_object({given}))"
            with pytest.raises(IntegrityError, match=f"{table}_{check}"):
                await execute(
                    found, f"insert into {table} select ({row}).* from {table} t", **changes
                )

    run(database, work)


def test_of_creations_at_once_as_many_are_made_as_are_allowed(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store, draft = StrategyStore(found), Draft(spec_of(BODY, RULES))
        results = await asyncio.gather(
            *(store.create(draft, ANN, most=3) for _ in range(12)), return_exceptions=True
        )
        assert sum(isinstance(one, QuotaExceeded) for one in results) == 9
        made = [one[0] for one in results if not isinstance(one, BaseException)]
        ordered = sorted(made, key=lambda one: (one.created_at, one.strategy_id))
        assert await store.page(ANN, 9) == ordered
        await store.delete(made[0].strategy_id, ANN)
        await store.create(draft, ANN, most=3)
        with pytest.raises(StrategyNotFound):
            await store.delete(made[0].strategy_id, ANN)
        await store.create(draft, BOB, most=1)

    run(database, work)


def test_times_are_utc_whatever_the_zone_of_the_database(database: str) -> None:
    name = database.rpartition("/")[2]
    plainly(database, f"alter database {name} set timezone to 'Pacific/Auckland'")

    async def work(found: AsyncEngine) -> None:
        made = await started(found)
        strategy = await StrategyStore(found).owned(made.strategy_id, ANN)
        log = await events_page(found, made.strategy_id, 9)
        for at in (strategy.created_at, made.started_at, made.updated_at, log[0].ts):
            assert at.utcoffset() == timedelta(0)
        ((there,),) = await fetch(found, "select cast(started_at at time zone 'UTC' as text)"
                                         " from strategy_runs")  # fmt: skip
        assert made.started_at.astimezone(UTC).isoformat(" ").startswith(there)
        assert made.record()["started_at"].endswith("Z")

    run(database, work)


def test_the_log_is_read_in_pages_without_gaps(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        runs = RunStore(found)
        strategy = await created(found)
        made = None
        for _ in range(3):
            made, _ = await runs.start(strategy.strategy_id, ANN, most=9)
            await runs.move(made, "warming_up")
            stopping = await runs.stop(strategy.strategy_id, ANN)
            assert stopping.run_id == made.run_id
            await runs.move(stopping, "stopped")
        whole = await events_page(found, strategy.strategy_id, 99)
        assert len(whole) == 13
        walked: list[Any] = []
        place = None
        while page := await events_page(found, strategy.strategy_id, 3, place):
            walked += page[:3]
            place = (walked[-1].ts, walked[-1].event_id)
        assert walked == whole
        assert made is not None
        only = await events_page(found, strategy.strategy_id, 99, run_id=made.run_id)
        assert only == whole[-4:]
        assert await events_page(found, UUID(int=9), 5) == []

    run(database, work)
