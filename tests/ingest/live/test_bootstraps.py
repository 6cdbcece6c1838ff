"""Long histories beside a live stream: faults on the way, and what must not wait for them."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable

import pytest
from prometheus_client import CollectorRegistry

from compute.market.instrument import Instrument
from ingest.errors import StoreUnavailable
from ingest.live.fills import FillSettings
from ingest.metrics import SchedulerMetrics
from ingest.scheduler import Scheduler, SchedulerSettings
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate
from tests.ingest.live.stage import Running, Stage, until
from tests.ingest.stand_in.process import StandIn

DAYS = 8
MINUTES = DAYS * 1440


@pytest.fixture
def store(db: ClickHouse) -> CandleStore:
    return CandleStore(db)


def tell(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 180))


def assert_fetched_once(stage: Stage, minutes: int) -> None:
    """What the exchange told is in the store, and no minute of it was written twice."""
    assert stage.differences(minutes) == []
    for one in stage.instruments:
        assert stage.store.raw_count(one, stage.period(minutes)) == minutes


def test_a_store_that_fails_inside_a_bootstrap(store: CandleStore) -> None:
    async def story() -> None:
        with Stage(store, ["INSTORE"], (3,)) as stage:
            stage.at(MINUTES, 5_000)
            run = Running(stage)

            def taken(rows: int) -> None:
                # It takes a batch, and then no more.
                run.db.error = StoreUnavailable("down") if rows == 10_000 else None

            run.db.taken = taken
            async with run.at_work():
                # More often than a fault of ours would be tried.
                await until(lambda: run.value("rest_fill_errors_total", 3) >= 8)
                assert run.value("rest_fill_dropped_total", 3) == 0
                assert run.inserted == 10_000
                await stage.close_minute(MINUTES)  # waits in the buffer
                run.db.error = None
                await run.worker.fills.idle()
                await stage.complete(MINUTES + 1)
            assert run.left == 0
            assert_fetched_once(stage, MINUTES + 1)

    tell(story)


def test_a_store_that_refuses_its_user_until_it_is_mended(stand_in: StandIn) -> None:
    async def story(db: ClickHouse) -> None:
        with Stage(CandleStore(db), ["REFUSED"]) as stage:
            stage.at(MINUTES, 5_000)
            run = Running(stage)

            def taken(rows: int) -> None:
                if rows == 10_000:
                    stand_in.fail("code", 516, times=10)

            run.db.taken = taken
            async with run.at_work():
                await until(lambda: run.value("rest_fill_errors_total") == 10)
                await run.worker.fills.idle()
                await stage.complete(MINUTES)
            assert run.value("rest_fill_dropped_total") == 0
            assert_fetched_once(stage, MINUTES)

    with open_clickhouse(stand_in.settings) as db:
        migrate(db)
        tell(lambda: story(db))


@pytest.mark.parametrize("market_id", [1, 4])
def test_an_exchange_that_fails_inside_a_bootstrap(store: CandleStore, market_id: int) -> None:
    async def story() -> None:
        with Stage(store, ["INEXCHANGE"], (market_id,)) as stage:
            stage.at(MINUTES, 5_000)
            run = Running(stage)

            def taken(rows: int) -> None:
                if rows == 10_000:  # six tries of a fill, each of four requests
                    stage.server.fail(status=503, times=24, path="kline")

            run.db.taken = taken
            async with run.at_work():
                await until(lambda: run.value("rest_fill_errors_total", market_id) >= 6)
                await run.worker.fills.idle()
                await stage.complete(MINUTES)
            assert run.value("rest_fill_dropped_total", market_id) == 0
            assert_fetched_once(stage, MINUTES)

    tell(story)


def test_a_gap_does_not_wait_for_histories(store: CandleStore) -> None:
    """Every worker is at a history, that of the gap's own instrument among them."""

    async def story() -> None:
        with Stage(store, ["LONGA", "LONGB", "LONGC"]) as stage:
            stage.at(MINUTES, 5_000)
            fills = FillSettings(workers=2, settle_ms=0, backoff_s=(0.05, 0.2))
            run = Running(stage, fills=fills)
            run.history.clear()
            async with run.at_work():
                await run.connected()
                await until(lambda: run.value("rest_fill_active") == 2)
                await stage.close_minute(MINUTES)
                stage.at(MINUTES + 4)  # three minutes pass unheard
                await stage.close_minute(MINUTES + 4)
                await until(lambda: len(run.fetched) == 3)
                assert {task.reason for task in run.fetched} == {"gap"}
                for one in stage.instruments:
                    period = stage.period(MINUTES + 5)
                    assert len(store.minutes(one, period)) == 5
                run.history.set()
                await run.worker.fills.idle()
                await stage.complete(MINUTES + 5)
                parts = [task for task in run.fetched if not task.urgent]
                first = stage.instruments.index(parts[0].instrument)
                assert len(parts) == 2 * len(stage.instruments)
                # In turns, not one history after the other.
                assert stage.instruments.index(parts[1].instrument) != first
            assert_fetched_once(stage, MINUTES + 5)

    tell(story)


def test_an_outage_longer_than_the_tail_of_the_scheduler_is_filled_whole(
    store: CandleStore,
) -> None:
    """The scheduler's tail is stored before the worker looks up where the stored minutes end."""

    async def story() -> None:
        with Stage(store, ["OUTAGE"]) as stage:
            stage.at(10)
            async with Running(stage).at_work():
                await stage.complete(10)
            stage.at(600, 5_000)
            run = Running(stage)
            run.look_up.clear()
            scheduler = Scheduler(
                _Listed(run),
                run.worker.fills,
                SchedulerMetrics(CollectorRegistry()),
                clock=run.clock,
                settings=SchedulerSettings(tail_lookback_minutes=180),
            )
            async with run.at_work():
                await run.connected()
                run.history.clear()
                jobs = asyncio.create_task(scheduler.run(run.stop))
                await until(lambda: [one.reason for one in run.fetched] == ["scheduler_tail"])
                run.look_up.set()
                await run.worker.tails.idle()
                await until(lambda: len(run.worker.fills) == 1)
                run.history.set()
                await stage.complete(600)
                await run.worker.fills.idle()
                run.stop.set()
                await jobs
            assert_fetched_once(stage, 600)

    tell(story)


class _Listed:
    """Duties of a scheduler whose whitelist and metadata are in step."""

    def __init__(self, run: Running) -> None:
        self._run = run
        self.history = run.duties.history
        self.catch_up = run.duties.catch_up

    async def sync_whitelist(self) -> None: ...

    async def enrich(self) -> None: ...

    async def active(self) -> list[Instrument]:
        return self._run.active
