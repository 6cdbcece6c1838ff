"""Parts that fail under a runner and come back: nothing is lost, nothing is done twice."""

from __future__ import annotations

import asyncio
import dataclasses
from collections.abc import Callable
from pathlib import Path
from threading import Thread
from types import SimpleNamespace
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from sqlalchemy import event, text
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.postgres.engine import engine
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import StoreUnavailable
from ingest.live.feed import fields
from ingest.rows import Origin
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.valkey import Valkey
from live.access import Pause, RepairSettings
from live.feed import Feed, FeedSettings
from live.instrument import MOST_BARS, InstrumentWorker
from live.leases import LeaseLost
from live.ledger import Ledger
from live.member import Member
from live.metrics import LiveMetrics
from live.strategies.runs import Run
from tests.live.breakable import way_to_postgres
from tests.live.stage import Stage, made_market, minute, on_stage
from tests.live.test_instrument import EMA, checkpoint
from tests.live.test_runner import reached, runner, until
from tests.postgres import await_server, execute, kill_server

STEAL = "UPDATE live_leases SET owner = 'two', token = token + 1"


class Store:
    """The candles of a stage, which can be gone."""

    def __init__(self, stage: Stage) -> None:
        self.gone = False
        self._read = stage.access().candles
        self.access = dataclasses.replace(stage.access(), candles=self._candles)

    def _candles(self, instrument: Instrument, period: Period) -> Candles:
        if self.gone:
            raise StoreUnavailable("the candle store does not answer")
        return self._read(instrument, period)


def before(opened: AsyncEngine, words: str, act: Callable[[], None]) -> None:
    """Acts once, before a statement with these words is sent."""
    done: list[str] = []

    def sending(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
        if words in statement and not done:
            done.append(statement)
            act()

    event.listen(opened.sync_engine, "before_cursor_execute", sending)


async def begun(stage: Stage, *frames: str) -> list[Run]:
    """Runs that trade from minute 149 on, in a store that has the minutes before 150."""
    stage.keep(range(150))
    stage.now_ms = minute(150) + 200
    return [await stage.start(minute(149) + 5, **{**EMA, "timeframe": one}) for one in frames]


async def kinds(stage: Stage, run: Run) -> list[tuple[str, dict[str, Any]]]:
    """The gaps and repairs that were told of a run."""
    return [one for one in await stage.events(run.run_id) if one[0] in ("gap", "repair")]


async def rest(worker: InstrumentWorker) -> None:
    """Steps with the runs as the worker was told of them last, which may be a while ago."""
    while await worker.step():
        pass


# PostgreSQL


@pytest.mark.parametrize("arrives", [True, False], ids=["committed", "not committed"])
def test_a_commit_whose_outcome_is_unknown_is_looked_up(
    arrives: bool, database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        runs = await begun(stage, "1m", "5m")
        async with way_to_postgres(database) as (way, dsn):
            opened = engine(dsn, application="test")
            access = dataclasses.replace(stage.access(), ledger=Ledger(opened))
            worker = await stage.worker(access=access)
            await stage.step(worker)
            for number in range(150, 170):
                stage.now_ms = minute(number + 1) + 200
                worker.offer(stage.entries(number))
                if number % 5 == 4:
                    way.lose(b"COMMIT;", arrives=arrives)
                    with pytest.raises(Exception, match="connection"):
                        await worker.step()
                    worker.forget()
                    if arrives:
                        await until(reached(stage, runs[0], number))
                    assert await checkpoint(stage, runs[0]) == number - (not arrives)
                if arrives and number % 5 == 4:  # what it traded on is not stored yet
                    assert not await worker.step()
                    assert "not stored yet" in (worker.trouble or "")
                stage.keep([number])
                await rest(worker)
                assert [one.ts_open_ms for one in worker.dealt_with()] == [minute(number)]
            assert way.cuts == 4
            await opened.dispose()
        await stage.assert_once(runs[0], 149, 169)
        await stage.assert_once(runs[1], 145, 165, 5)
        for run in runs:
            await stage.assert_is_the_back_test(run, least_trades=0)
            assert await kinds(stage, run) == []

    on_stage(database, db, f"COMMIT{arrives}".upper(), work)


def test_a_database_that_is_killed_within_a_commit(
    database: str, db: ClickHouse, postgres_directory: Path
) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        opened = engine(database, application="test")
        killed: list[int] = []
        access = dataclasses.replace(stage.access(), ledger=Ledger(opened))
        live = runner(stage, "one", access=access)
        task = asyncio.create_task(live.run())
        stage.now_ms = minute(150) + 6_000
        await until(reached(stage, run, 149))
        before(
            opened, "INSERT INTO live_bars", lambda: killed.append(kill_server(postgres_directory))
        )
        stage.keep(range(150, 260))
        stage.now_ms = minute(260) + 6_000
        async with asyncio.timeout(30):
            while not killed:
                await asyncio.sleep(0.02)
        await asyncio.to_thread(await_server, postgres_directory, killed[0])
        await until(reached(stage, run, 259))
        assert live.troubles() == {}
        live.stop()
        await asyncio.wait_for(task, 10)
        await opened.dispose()
        await stage.assert_once(run, 149, 259)
        await stage.assert_is_the_back_test(run)

    on_stage(database, db, "KILLED", work)


def no_json(member: Member) -> None:
    """An account with a number that JSON does not have."""
    live = member.live
    balance = live.account.balance
    name = dataclasses.fields(balance)[0].name
    broken = dataclasses.replace(balance, **{name: float("nan")})
    live.account = dataclasses.replace(live.account, balance=broken, position=None)


def no_text(member: Member) -> None:
    """Metadata with a character that the database does not have."""
    member.versions.append((0, "\0"))


@pytest.mark.parametrize(("breaks", "reason"), [(no_json, "JSON"), (no_text, "Unicode")])
def test_what_cannot_be_stored_fails_its_run_alone(
    breaks: Callable[[Member], None], reason: str, database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        good, bad = await begun(stage, "1m", "1m")
        worker = await stage.worker()
        await stage.step(worker)
        breaks(worker._members[bad.run_id])
        kept = (await stage.row(bad.run_id)).metadata_json
        stage.now_ms = minute(151) + 200
        worker.offer(stage.entries(150))
        await stage.step(worker)
        assert [await checkpoint(stage, run) for run in (good, bad)] == [150, 149]
        row = await stage.row(bad.run_id)
        assert row.state == "failed"
        assert row.metadata_json == kept
        assert reason in (row.last_error or "")
        assert "INSERT" not in (row.last_error or "")
        assert (await stage.events(bad.run_id))[-1][0] == "run_failed"
        assert "run_failed" in [one.kind for one in stage.told if one.source.run_id == bad.run_id]
        stage.keep([150])
        await stage.assert_is_the_back_test(good, least_trades=0)

    on_stage(database, db, reason.upper(), work)


# Leases


def test_a_lease_that_is_stolen_during_a_commit_waits_for_its_end(
    database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        one = await stage.worker("one")
        await stage.step(one)
        theft: list[asyncio.Task[None]] = []

        async def steal() -> None:
            async with stage.engine.begin() as connection:
                await connection.execute(text(STEAL))

        loop = asyncio.get_running_loop()
        before(
            stage.engine, "INSERT INTO live_bars", lambda: theft.append(loop.create_task(steal()))
        )
        stage.now_ms = minute(151) + 200
        one.offer(stage.entries(150))
        await one.step()
        await theft[0]
        assert await checkpoint(stage, run) == 150
        two = await stage.worker("two")
        stage.now_ms = minute(152) + 200
        for worker in (one, two):
            worker.offer(stage.entries(151))
        with pytest.raises(LeaseLost):
            await one.step()
        assert await checkpoint(stage, run) == 150
        stage.keep([150, 151])
        await stage.step(two)
        await stage.assert_once(run, 149, 151)
        await stage.assert_is_the_back_test(run, least_trades=0)

    on_stage(database, db, "THEFT", work)


def test_what_is_caught_up_is_committed_in_parts(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        runs = await begun(stage, *["1m"] * 12, "5m")
        worker = await stage.worker()
        await stage.step(worker)
        bars: list[int] = []
        commit = stage.ledger.commit

        async def counted(lease: Any, outcomes: Any) -> Any:
            bars.append(sum(len(one.bars) for one in outcomes))
            return await commit(lease, outcomes)

        stage.ledger.commit = counted  # type: ignore[method-assign]
        stage.keep(range(150, 950))
        stage.now_ms = minute(950) + 6_000
        await stage.step(worker)
        assert len(bars) > 2
        assert max(bars) <= MOST_BARS
        await stage.assert_once(runs[0], 149, 949)
        await stage.assert_is_the_back_test(runs[0])
        await stage.assert_is_the_back_test(runs[-1])

    on_stage(database, db, "PARTS", work, 1000)


def test_a_lease_that_is_stolen_before_the_fence_stops_the_commit(
    database: str, db: ClickHouse
) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        one = await stage.worker("one")
        await stage.step(one)

        def steal() -> None:
            thief = Thread(target=execute, args=(database, STEAL))
            thief.start()
            thief.join()

        before(stage.engine, "UPDATE live_leases", steal)
        stage.now_ms = minute(151) + 200
        one.offer(stage.entries(150))
        with pytest.raises(LeaseLost):
            await one.step()
        assert await checkpoint(stage, run) == 149
        two = await stage.worker("two")
        two.offer(stage.entries(150))
        await stage.step(two)
        stage.keep([150])
        await stage.assert_once(run, 149, 150)
        await stage.assert_is_the_back_test(run, least_trades=0)

    on_stage(database, db, "FENCE", work)


# The candle store


def test_without_the_store_a_gap_waits_and_nothing_else(
    database: str, db: ClickHouse, valkey: Valkey
) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        other = Stage(stage.engine, db, Instrument(1, "NOGAP"), made_market(400, seed=2))
        (beside,) = await begun(other, "1m")
        store, registry = Store(stage), CollectorRegistry()

        def lag(of: Stage) -> float:
            live.measure()
            name = "strategy_live_runner_lag_seconds"
            return registry.get_sample_value(name, {"instrument_key": of.key}) or 0.0

        async with valkey.client() as client:
            feed = Feed(client, "one", FeedSettings(block_ms=20))
            live = runner(stage, "one", feed, store.access, LiveMetrics(registry))
            task = asyncio.create_task(live.run())
            await until(reached(stage, run, 149))
            await until(reached(other, beside, 149))
            store.gone = True
            for number in range(150, 157):
                stage.now_ms = minute(number + 1) + 200
                if number not in (151, 152):
                    await publish(client, stage, number)
                await publish(client, other, number)
                await until(reached(other, beside, number))

            async def told() -> bool:
                return stage.key in live.troubles() and bool(await kinds(stage, run))

            await until(told)
            assert await checkpoint(stage, run) == 150
            assert list(live.troubles()) == [stage.key]
            assert "does not answer" in live.troubles()[stage.key]
            # However long it takes: it is seen, and no minute is given up.
            stage.now_ms = minute(217) + 200
            await asyncio.sleep(0.3)
            assert lag(stage) == 66 * 60 + 0.2
            assert (await stage.row(run.run_id)).state == "running"
            assert await checkpoint(stage, run) == 150
            stage.keep(range(150, 217))
            other.keep(range(150, 217))
            store.gone = False
            await until(reached(stage, run, 216))
            await until(reached(other, beside, 216))
            live.stop()
            await asyncio.wait_for(task, 10)
        assert live.troubles() == {}
        gap, repair = await kinds(stage, run)
        assert gap[1]["missing_minutes"] == repair[1]["missing_minutes"]
        assert (repair[1]["given_up_minutes"], repair[1]["from_ts"]) == (0, gap[1]["from_ts"])
        assert repair[1]["attempts"] > 1
        await stage.assert_once(run, 149, 216)
        await stage.assert_is_the_back_test(run, least_trades=1)
        await other.assert_is_the_back_test(beside, least_trades=1)
        other.threads.shutdown()

    on_stage(database, db, "GONE", work)


def test_a_minute_that_nobody_ever_has_is_given_up_and_told(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        runs = await begun(stage, "1m", "5m")
        worker = await stage.worker()
        await stage.step(worker)
        for number in (150, *range(152, 170)):
            stage.now_ms = minute(number + 1) + 200
            stage.keep([number])
            if number in (158, 166):
                worker = await stage.worker()  # killed: what was told is not told again
            worker.offer(stage.entries(number))
            await stage.step(worker)
            # 151 closes at 152, its bar of five minutes at 155: ten minutes later they end.
            assert await checkpoint(stage, runs[0]) == (150 if number < 161 else number)
            assert await checkpoint(stage, runs[1]) == (150 if number < 164 else number)
        for run in runs:
            gap, repair = await kinds(stage, run)
            assert gap[1]["missing_minutes"] == repair[1]["missing_minutes"] == 1
            assert repair[1]["given_up_minutes"] == 1
            assert "gap" not in (await stage.row(run.run_id)).metadata_json
            await stage.assert_is_the_back_test(run, least_trades=0)
        # A feed and a store that are both silent: told once a minute has passed, and mended.
        stage.now_ms = minute(171) + 59_000
        await stage.step(worker)
        assert len(await kinds(stage, runs[0])) == 2
        stage.now_ms = minute(172) + 1_000
        await stage.step(worker)
        assert (await kinds(stage, runs[0]))[2:][0][1]["missing_minutes"] == 2
        assert (await stage.row(runs[0].run_id)).metadata_json["gap"]["to_ms"] == minute(172)
        stage.keep([170, 171])
        await stage.step(worker)
        assert [kind for kind, _ in await kinds(stage, runs[0])] == ["gap", "repair"] * 2
        assert (await kinds(stage, runs[0]))[-1][1]["given_up_minutes"] == 0
        await stage.assert_once(runs[0], 149, 171)
        await stage.assert_is_the_back_test(runs[0], least_trades=0)

    on_stage(database, db, "NEVER", work)


def test_a_minute_that_stays_away_is_looked_for_more_and_more_rarely(
    database: str, db: ClickHouse, monkeypatch: pytest.MonkeyPatch
) -> None:
    async def work(stage: Stage) -> None:
        day = await stage.start(minute(1439) + 5, **{**EMA, "timeframe": "1d", "warmup_bars": 1})
        stage.keep(n for n in range(1800) if n != 1500)
        stage.now_ms = minute(1800) + 200
        at = [0.0]
        monkeypatch.setattr("live.access.time", SimpleNamespace(monotonic=lambda: at[0]))
        worker = await stage.worker()
        worker._pause = Pause(RepairSettings())
        await stage.step(worker)
        stage.reads.clear()
        for second in range(300):
            at[0], stage.now_ms = second, minute(1800) + 200 + 1000 * second
            if second % 60 == 0:  # others come, which is no success
                worker.offer(stage.entries(1800 + second // 60))
            await worker.step()
        assert await checkpoint(stage, day) == 1499
        assert 10 < len(stage.reads) < 30

    on_stage(database, db, "RARELY", work, 1900)


def test_a_clock_that_is_ahead_gives_no_minute_up(database: str, db: ClickHouse) -> None:
    async def work(stage: Stage) -> None:
        (run,) = await begun(stage, "1m")
        worker = await stage.worker()
        await stage.step(worker)
        for number in range(150, 190):
            stage.keep([number])
            worker.offer(stage.entries(number))
            stage.now_ms = minute(number + 13) + 200
            await stage.step(worker)
            assert await checkpoint(stage, run) == number
        await stage.assert_once(run, 149, 189)
        await stage.assert_is_the_back_test(run, least_trades=1)

    on_stage(database, db, "AHEAD", work, 250)


async def publish(client: Any, stage: Stage, number: int) -> None:
    """A minute into its stream, as the market data worker does."""
    entry = fields(stage._candle(number, 1.0), Origin("ws", stage.now_ms, None))
    await client.xadd(f"md.candles.1m.{stage.key}", entry)
