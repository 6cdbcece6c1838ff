"""Runs on their way in: a restart goes through the minutes that were traded on, and no others."""

from __future__ import annotations

import dataclasses
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from threading import Event
from typing import Any

import numpy as np
from sqlalchemy import text

from compute.market.period import Period
from ingest.rows import MINUTE_MS
from ingest.stores.clickhouse import ClickHouse
from live.batch import batch
from live.feed import Entry
from live.gaps import MOST_RANGES, Without
from live.member import course_of
from live.output import moment_text
from tests.live.stage import START_MS, Stage, minute, on_stage
from tests.live.test_faults import begun, kinds
from tests.live.test_instrument import EMA, checkpoint


async def fed(stage: Stage, worker: Any, *numbers: int) -> None:
    """Minutes of the feed, which the store does not have."""
    for number in numbers:
        stage.now_ms = minute(number + 1) + 200
        worker.offer(stage.entries(number))
        await stage.step(worker)


def test_a_restart_waits_for_minutes_that_were_traded_on(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        await fed(stage, await stage.worker(), *range(150, 160))
        worker = await stage.worker()
        await fed(stage, worker, 160)
        assert await checkpoint(stage, run) == 159
        assert "10 minutes from 2023-11-15T02:30:00.000Z on" in (worker.trouble or "")
        assert worker.lag_seconds() == 60.2
        # A run that begins meanwhile does not wait for them.
        stage.keep([160])
        beside = await stage.start(minute(160) + 5, **EMA)
        await stage.step(worker)
        assert (await stage.row(beside.run_id)).state == "warming_up"
        stage.keep(range(150, 160))
        await fed(stage, worker, *range(161, 200))
        assert worker.trouble is None
        stage.keep(range(161, 200))
        await stage.assert_is_the_back_test(run, least_trades=1)

    on_stage(database, db, "WAITS", work, 250)


def test_a_restart_takes_from_the_feed_what_the_store_lacks(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        await fed(stage, await stage.worker(), *range(150, 160))
        asked: list[Period] = []

        async def recent(_key: str, period: Period) -> Sequence[Entry]:
            asked.append(period)
            return stage.entries(*range(148, 161))

        worker = await stage.worker(access=dataclasses.replace(stage.access(), recent=recent))
        await fed(stage, worker, *range(160, 200))
        assert asked == [Period(minute(150), minute(160))]
        assert await checkpoint(stage, run) == 199
        stage.keep(range(150, 200))
        await stage.assert_is_the_back_test(run, least_trades=1)

    on_stage(database, db, "RECENT", work, 250)


def test_a_minute_that_came_after_it_was_given_up_is_not_replayed(
    database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        missing = range(151, 156)
        stage.keep([150, *range(156, 170)])
        stage.now_ms = minute(170) + 6_000
        worker = await stage.worker()
        await stage.step(worker)
        assert await checkpoint(stage, run) == 169
        stage.keep(missing)
        stage.keep(range(170, 230))
        worker = await stage.worker()
        stage.now_ms = minute(230) + 6_000
        await stage.step(worker)
        bars = await stage.bars(run.run_id)
        assert len(bars) == 230 - 149
        course = course_of(await stage.row(run.run_id))
        assert course is not None
        candles = stage.store.candles(stage.instrument, Period(course.anchor_ms, minute(230)))
        lost = np.isin(candles.ts_open_ms, [minute(n) for n in missing])
        job = stage.access().job(await stage.ledger.spec(run.strategy_id))
        expected = batch(job, course, candles.take(~lost), minute(230))
        np.testing.assert_array_equal([equity for *_, equity in bars], expected.replay.equity)
        np.testing.assert_array_equal([vote for _, vote, _ in bars], expected.votes)

    on_stage(database, db, "CAME", work, 250)


def test_history_is_read_once_for_all_runs_of_an_instrument(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        await begun(stage, "1m", "5m", "15m", "1m")
        await stage.step(await stage.worker())
        stage.reads.clear()
        await stage.step(await stage.worker())
        assert len(stage.reads) == 1

    on_stage(database, db, "SHARED", work, 160)


def test_a_warm_up_begins_with_the_first_candle_that_there_is(
    database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        worker = await stage.worker()
        await stage.step(worker)
        stage.reads.clear()
        far = await stage.start(minute(149) + 5, **{**EMA, "timeframe": "1d", "warmup_bars": 9_000})
        await fed(stage, worker, 150)
        assert await checkpoint(stage, run) == await checkpoint(stage, far) == 150
        row = await stage.row(far.run_id)
        assert row.state == "warming_up"
        assert row.metadata_json["live"]["anchor_ms"] == START_MS
        assert len(stage.reads) <= 2

    on_stage(database, db, "FAR", work, 160)


def test_a_run_on_an_instrument_without_candles_fails_after_an_hour(
    database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        run = await stage.start(minute(100), **EMA)
        worker = await stage.worker()
        for number, state in ((101, "starting"), (159, "starting"), (160, "failed")):
            stage.now_ms = minute(number)
            await stage.step(worker)
            assert (await stage.row(run.run_id)).state == state
        assert "is its symbol right" in ((await stage.row(run.run_id)).last_error or "")

    on_stage(database, db, "NOSUCH", work, 160)


def test_a_run_whose_history_ended_long_before_it_says_what_it_waits_for(
    database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        stage.keep(range(20))
        run = await stage.start(minute(9_990), **{**EMA, "timeframe": "1h"})
        worker = await stage.worker()
        for number in (9_990, 9_991, 9_992, 9_993, 9_995):
            stage.now_ms = minute(number) + 200
            if number != 9_993:  # else it was restarted
                worker = await stage.worker()
            await stage.step(worker)
            await stage.step(worker)
            assert worker.lag_seconds() == (number - 9_990) * 60 + 0.2
            row = await stage.row(run.run_id)
            assert (row.state, row.checkpoint_ts_open) == ("warming_up", None)
            assert ("gap" in row.metadata_json) == (number >= 9_992)
        told = [payload for kind, payload in await stage.events(run.run_id) if kind == "gap"]
        assert [(one["from_ts"], one["missing_minutes"]) for one in told] == [
            (moment_text(minute(9_990)), 2)
        ]
        # Somebody feeds it at last.
        stage.keep(range(9_994, 10_030))
        stage.now_ms = minute(10_030) + 200
        worker = await stage.worker()  # which asks at once
        await stage.step(worker)
        assert await checkpoint(stage, run) == 10_029
        ended = [payload for kind, payload in await stage.events(run.run_id) if kind == "repair"]
        assert [payload["given_up_minutes"] for payload in ended] == [4]

    on_stage(database, db, "UNFED", work, 10_100)


def test_a_run_that_cannot_be_taken_up_fails_alone(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        good, bad = await begun(stage, "1m", "1m")
        await stage.step(await stage.worker())
        async with stage.engine.begin() as connection:
            query = (
                "UPDATE live_accounts SET account_json = account_json - 'trades' WHERE run_id = :r"
            )
            await connection.execute(text(query), {"r": bad.run_id})
        await fed(stage, await stage.worker(), 150)
        assert await checkpoint(stage, good) == 150
        assert (await stage.row(bad.run_id)).state == "failed"

    on_stage(database, db, "TAKEUP", work, 160)


def test_a_new_run_and_a_slow_store_leave_the_others_alone(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        (old,) = await begun(stage, "1m")
        with ThreadPoolExecutor(1) as readers:
            worker = await stage.worker(access=dataclasses.replace(stage.access(), readers=readers))
            await stage.step(worker)
            await fed(stage, worker, 150, 151)
            await stage.start(minute(151) + 5, **EMA)
            await fed(stage, worker, 152)
            assert await kinds(stage, old) == []
            slow = Event()
            readers.submit(slow.wait)
            await fed(stage, worker, 153, 154)
            assert await checkpoint(stage, old) == 154
            slow.set()

    on_stage(database, db, "BESIDE", work, 160)


def test_minutes_that_a_run_went_on_without() -> None:
    without = Without(0)
    for some in ([], [3, 4], [5, 9], [10]):
        without = without.and_those(np.array(some, np.int64) * MINUTE_MS)
    assert without == Without.of_record(without.record())
    assert [(a // MINUTE_MS, b // MINUTE_MS) for a, b in without.ranges] == [(3, 6), (9, 11)]
    opens = np.arange(12) * MINUTE_MS
    assert np.flatnonzero(without.among(opens)).tolist() == [3, 4, 5, 9, 10]
    many = without.and_those(np.arange(20, 20 + 2 * MOST_RANGES, 2) * MINUTE_MS)
    assert len(many.ranges) == MOST_RANGES
    assert many.from_ms == 11 * MINUTE_MS
