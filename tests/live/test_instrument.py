"""The runs of an instrument over real stores: minutes in any order, failures in between."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from ingest.stores.clickhouse import ClickHouse
from live.leases import LeaseLost
from tests.live.stage import START_MS, Stage, expire, minute, on_stage

EMA: dict[str, Any] = {
    "timeframe": "1m",
    "indicators": [
        {"id": "ma.ema", "inputs": {"source": "close"}, "params": {"window": 9}},
        {"id": "momentum.rsi", "inputs": {"source": "close"}, "params": {"window": 7}},
    ],
    "signals": {"momentum.rsi": {"long_threshold": 51, "short_threshold": 49}},
    "risk": {"sl_enabled": True, "sl_pct": 0.4},
    "warmup_bars": 30,
}

UNREADABLE: dict[str, Any] = {
    "schema_version": 1,
    "timeframe": "5m",
    "indicators": [{"name": "MA", "params": {"fast": 20, "slow": 50}}],
}
"""A strategy that cannot be evaluated."""


def test_minutes_of_the_feed_are_the_back_test_of_what_is_stored(
    database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(560))
        stage.now_ms = minute(200) + 700
        runs = [
            await stage.start(minute(199) + 5, **{**EMA, "timeframe": frame})
            for frame in ("1m", "5m", "15m")
        ]
        worker = await stage.worker()
        for number in range(200, 560):
            stage.now_ms = minute(number + 1) + 200
            worker.offer(stage.entries(number))
            await stage.step(worker)
            assert [one.ts_open_ms for one in worker.dealt_with()] == [minute(number)]
        for run in runs:
            await stage.assert_is_the_back_test(run, least_trades=0)
            row = await stage.row(run.run_id)
            assert row.state == "running"
            assert row.checkpoint_ts_open is not None
            assert row.checkpoint_ts_open.timestamp() * 1000 == minute(559)
        assert len(await stage.trades(runs[0].run_id)) > 5
        # Nothing but the seed was asked of the store: the feed had all the rest.
        assert max(period.start_ms for period in stage.reads) < minute(201)
        kinds = [kind for kind, _ in await stage.events(runs[0].run_id)]
        assert kinds[:3] == ["run_started", "run_state_changed", "run_state_changed"]
        assert {"signal", "trade_open", "trade_close"} <= set(kinds)

    on_stage(database, db, "FEED", work)


def test_late_twice_out_of_order_missing_and_killed_makes_no_difference(
    database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        rng = np.random.default_rng(11)
        stage.keep(range(420))
        run = await stage.start(minute(149) + 5, **{**EMA, "timeframe": "5m"})
        worker = await stage.worker()
        held: list[int] = []
        for number in range(150, 420):
            stage.now_ms = minute(number + 1) + 200
            fate = rng.random()
            if fate < 0.15:
                held.append(number)  # comes late, or never
            else:
                some = [number, number] if fate < 0.3 else [number]
                if held and fate > 0.8:
                    some += held
                    held = []
                worker.offer(stage.entries(*rng.permutation(some).tolist()))
            if fate > 0.95:
                worker = await stage.worker()  # the process was killed
            await stage.step(worker)
        stage.now_ms = minute(420) + 30_000
        await stage.step(worker)
        await stage.assert_is_the_back_test(run)
        bars = [bar for bar, _, _ in await stage.bars(run.run_id)]
        assert np.diff(bars).tolist() == [300_000] * (len(bars) - 1)
        events = await stage.events(run.run_id)
        assert [payload["attempts"] for kind, payload in events if kind == "repair"]

    on_stage(database, db, "MESS", work)


def test_a_gap_waits_for_the_store_then_for_ten_minutes(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(100))
        stage.now_ms = minute(100) + 200
        run = await stage.start(minute(99) + 5, **EMA)
        worker = await stage.worker()
        await stage.step(worker)
        stage.now_ms = minute(104) + 200
        stage.keep([100, 103])
        worker.offer(stage.entries(100, 103))
        await stage.step(worker)
        assert await checkpoint(stage, run) == 100
        stage.absent(101, 102)
        stage.keep([102])
        await stage.step(worker)
        assert await checkpoint(stage, run) == 103
        stage.now_ms = minute(106) + 200
        stage.keep([105])
        worker.offer(stage.entries(105))
        await stage.step(worker)
        assert await checkpoint(stage, run) == 103
        stage.now_ms = minute(115)
        stage.keep(range(106, 115))
        await stage.step(worker)
        assert await checkpoint(stage, run) == 114
        await stage.assert_is_the_back_test(run, least_trades=0)

    on_stage(database, db, "GAPS", work)


def test_a_run_that_fails_or_stops_leaves_the_others_alone(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(100))
        stage.now_ms = minute(100) + 200
        good, stopped, bad = [await stage.start(minute(99) + 5, **EMA) for _ in range(3)]
        worker = await stage.worker()
        await stage.step(worker)
        worker._members[bad.run_id].live._votes = []
        await stage.runs.stop(stopped.strategy_id, stopped.user_id)
        stage.now_ms = minute(101) + 200
        stage.keep([100])
        worker.offer(stage.entries(100))
        await stage.step(worker)
        await stage.step(worker)
        states = [(await stage.row(run.run_id)).state for run in (good, stopped, bad)]
        assert states == ["running", "stopped", "failed"]
        assert (await stage.row(bad.run_id)).last_error
        assert await checkpoint(stage, good) == 100
        kinds = [kind for kind, _ in await stage.events(bad.run_id)]
        assert kinds[-1] == "run_failed"
        assert [one.kind for one in stage.told if one.source.run_id == stopped.run_id][-1:] != []

    on_stage(database, db, "FAIL", work)


def test_a_run_that_is_stopped_as_it_is_taken_up_stays_stopped(
    database: str, db: ClickHouse
) -> None:
    """A runner found it starting, and its user stops it before the first commit."""

    async def work(stage: Stage) -> None:
        stage.keep(range(100))
        stage.now_ms = minute(100) + 200
        good, gone, bad = [
            await stage.start(minute(99) + 5, **body) for body in (EMA, EMA, UNREADABLE)
        ]
        worker = await stage.worker()
        worker.want([one for one in await stage.ledger.active() if one.instrument_key == stage.key])
        ends = [await stage.runs.stop(run.strategy_id, run.user_id) for run in (gone, bad)]
        while await worker.step():
            pass
        for ended in ends:
            assert ended.state == "stopped"
            assert await stage.row(ended.run_id) == ended
            kinds = [kind for kind, _ in await stage.events(ended.run_id)]
            assert kinds == ["run_started", "run_stopped"]
        assert await checkpoint(stage, good) == 99
        assert {one.source.run_id for one in stage.told} == {good.run_id}

    on_stage(database, db, "EARLY", work)


def test_a_worker_that_was_replaced_writes_nothing(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(100))
        stage.now_ms = minute(100) + 200
        run = await stage.start(minute(99) + 5, **EMA)
        one = await stage.worker("one")
        await stage.step(one)
        await expire(stage.engine, "one")
        two = await stage.worker("two")
        stage.now_ms = minute(101) + 200
        for worker in (one, two):
            worker.offer(stage.entries(100))
        with pytest.raises(LeaseLost):
            await stage.step(one)
        assert await checkpoint(stage, run) == 99
        await stage.step(two)
        assert await checkpoint(stage, run) == 100

    on_stage(database, db, "LOST", work)


def test_a_look_from_before_a_commit_undoes_nothing(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(101))
        stage.now_ms = minute(100) + 200
        run = await stage.start(minute(99) + 5, **EMA)
        worker = await stage.worker()
        await stage.step(worker)
        before = await stage.ledger.active()
        stage.now_ms = minute(101) + 200
        worker.offer(stage.entries(100))
        assert await worker.step()
        worker.want([one for one in before if one.instrument_key == stage.key])
        worker.forget()
        assert worker.lag_seconds() == 0.2
        assert await checkpoint(stage, run) == 100

    on_stage(database, db, "LOOK", work)


def test_a_strategy_that_cannot_be_evaluated_fails_its_run(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        run = await stage.start(START_MS, **UNREADABLE)
        worker = await stage.worker()
        await stage.step(worker)
        row = await stage.row(run.run_id)
        assert row.state == "failed"
        assert "MA" in (row.last_error or "").upper()

    on_stage(database, db, "OLD", work)


async def checkpoint(stage: Stage, run: Any) -> int:
    """The number of the last minute that was committed."""
    row = await stage.row(run.run_id)
    assert row.checkpoint_ts_open is not None
    return (int(row.checkpoint_ts_open.timestamp() * 1000) - START_MS) // 60_000
