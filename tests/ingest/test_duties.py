"""What live worker and scheduler ask for, between a local exchange and a real store."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import Awaitable, Callable, Iterator
from dataclasses import replace
from typing import TypeVar

import pytest
from prometheus_client import CollectorRegistry

from compute.market.instrument import Instrument
from compute.market.period import Period
from configs.load import config
from ingest.commands.duties import Duties
from ingest.errors import ExchangeError, NoSeed, StoreUnavailable
from ingest.http import HttpClients
from ingest.live.fills import FillTask, Reason
from ingest.metrics import RestMetrics
from ingest.rows import DAY_MS, MINUTE_MS, Origin, table_of
from ingest.scheduler import CatchUp, History
from ingest.settings import MarketDataSettings
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.ingest.candle_tables import candle_of
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.hours import Hours
from tests.ingest.exchange_servers.settings import rest_settings

T = TypeVar("T")
T0 = 20_500 * DAY_MS
HOURS = Hours(T0)
NUMBERS = itertools.count()
SETTINGS = config("market_data", {"ROEHUB_ENV": "test"}).settings(MarketDataSettings)


class Scene:
    """A symbol of one's own, listed at `T0`."""

    def __init__(self, db: ClickHouse, server: BinanceServer) -> None:
        self.db, self.server = db, server
        self.instrument = Instrument(1, f"D{next(NUMBERS)}USDT")
        server.tape(1).enlist(self.instrument.symbol, first_ms=T0)
        server.seen.clear()
        self.store = CandleStore(db)
        self.registry = CollectorRegistry()
        self.metrics = RestMetrics(self.registry)
        self.skew_ms = 0

    def clock(self) -> int:
        return HOURS() + self.skew_ms

    def at(self, minutes: float) -> None:
        HOURS.now_ms = T0 + round(minutes * MINUTE_MS)

    def do(self, work: Callable[[Duties], Awaitable[T]]) -> T:
        async def run() -> T:
            rest = {1: rest_settings(self.server.rest_url)}
            async with HttpClients(rest, clock=self.clock, sleep=HOURS.sleep) as clients:
                duties = Duties(self.db, SETTINGS, None, clients, self.metrics, self.clock)
                try:
                    return await work(duties)
                finally:
                    duties.close()

        return asyncio.run(run())

    def ms(self, minute: int) -> int:
        return T0 + minute * MINUTE_MS

    def days(self, first: int, end: int) -> FillTask:
        period = Period(T0 + first * DAY_MS, T0 + end * DAY_MS)
        return FillTask(self.instrument, period, "bootstrap")

    def done(self, task: FillTask) -> FillTask | None:
        return self.do(lambda duties: duties.fill(task))

    def fill(self, start: int, end: int, reason: Reason) -> FillTask | None:
        period = Period(self.ms(start), self.ms(end))
        return self.done(FillTask(self.instrument, period, reason))

    def raw_count(self) -> int:
        """Rows that were written, versions of one minute included."""
        return self.store.raw_count(self.instrument, Period(T0 - DAY_MS, T0 + 99 * DAY_MS))

    def seed(self, *minutes: int) -> None:
        candles = [candle_of(self.instrument, T0 + m * MINUTE_MS) for m in minutes]
        self.store.insert(table_of(candles, Origin("ws", T0)))

    def assert_whole(self, *minutes: int) -> None:
        found = self.store.arrow(self.instrument, Period(T0 - DAY_MS, T0 + 9 * DAY_MS))
        wanted = [candle_of(self.instrument, T0 + m * MINUTE_MS) for m in minutes]
        assert [t.value for t in found["ts_open"]] == [one.ts_open_ms for one in wanted]
        assert found["close"].to_pylist() == [one.close for one in wanted]
        assert self.store.duplicates(self.instrument, Period(T0, T0 + 9 * DAY_MS)) == 0

    def counted(self, name: str) -> float:
        return self.registry.get_sample_value(name, {"market_id": "1"}) or 0.0


@pytest.fixture(scope="module")
def server() -> Iterator[BinanceServer]:
    with BinanceServer(HOURS) as started:
        yield started


@pytest.fixture
def scene(db: ClickHouse, server: BinanceServer) -> Scene:
    return Scene(db, server)


@pytest.mark.parametrize("reason", ["bootstrap", "scheduler_bootstrap", "historical_backfill"])
def test_history_begins_with_the_listing_and_takes_what_is_missing(
    scene: Scene, reason: Reason
) -> None:
    scene.seed(50, 51)
    scene.at(60.5)
    assert scene.fill(-3 * 1440, 60, reason) is None  # planned before those were there
    assert len(scene.server.kline_requests) == 2  # the first minute is asked for once
    scene.assert_whole(*range(60))
    assert scene.fill(-3 * 1440, 60, reason) is None
    assert scene.fill(-3 * 1440, 0, reason) is None
    assert len(scene.server.kline_requests) == 2


def test_a_long_history_comes_in_parts_the_newest_first(scene: Scene) -> None:
    scene.at(16 * 1440 + 100.5)
    days = scene.days(-3, 17)
    ends = [16 * 1440 + 100, 10 * 1440, 3 * 1440]
    task: FillTask | None = replace(days, period=Period(days.period.start_ms, scene.ms(ends[0])))
    for end, start in zip(ends, [*ends[1:], 0], strict=True):
        assert task is not None
        assert task.period.end_ms == scene.ms(end)
        task = scene.done(task)
        assert scene.store.bounds(scene.instrument) == (scene.ms(start), scene.ms(ends[0] - 1))
    assert task is None
    assert scene.raw_count() == ends[0]


@pytest.mark.parametrize("reason", ["reconnect_tail", "scheduler_tail", "gap"])
def test_a_long_tail_comes_in_parts_the_oldest_first(scene: Scene, reason: Reason) -> None:
    scene.at(8 * 1440 + 0.5)
    left = scene.done(replace(scene.days(0, 8), reason=reason))
    assert left is not None
    assert left == replace(scene.days(7, 8), reason=reason)
    assert scene.store.bounds(scene.instrument) == (T0, scene.ms(7 * 1440 - 1))
    assert scene.done(left) is None
    assert scene.raw_count() == 8 * 1440


def test_a_gap_within_a_history_that_is_fetched_is_not_fetched_twice(scene: Scene) -> None:
    scene.seed(0, 1000)
    scene.at(1440.5)
    history = scene.days(0, 1)
    gap = FillTask(scene.instrument, Period(scene.ms(400), scene.ms(900)), "gap")

    async def both(duties: Duties) -> None:
        assert await asyncio.gather(*map(duties.fill, (history, gap, history))) == [None] * 3

    scene.do(both)
    scene.assert_whole(*range(1440))
    assert scene.raw_count() == 1440


def test_a_fill_that_was_stopped_holds_up_no_other(scene: Scene) -> None:
    scene.at(1440.5)
    scene.server.hang(path="kline")

    async def stopped(duties: Duties) -> None:
        first, second, third = (asyncio.create_task(duties.fill(scene.days(0, 1))) for _ in "123")
        while not scene.server.kline_requests:
            await asyncio.sleep(0.005)
        second.cancel()
        first.cancel()
        await asyncio.wait({first, second, third})
        assert third.result() is None

    scene.do(stopped)
    scene.assert_whole(*range(1440))


@pytest.mark.parametrize("reason", ["gap", "reconnect_tail", "scheduler_tail"])
def test_other_fills_take_what_is_missing(scene: Scene, reason: Reason) -> None:
    scene.seed(0, 1, 5, 20)
    scene.at(20.5)
    assert scene.fill(0, 20, reason) is None
    scene.assert_whole(*range(21))
    assert scene.counted("slices_total") == 1
    assert scene.counted("gap_rows_skipped_existing_total") == 1


def test_a_gap_is_closed_whatever_the_clock_says(scene: Scene) -> None:
    scene.seed(0, 4)
    scene.at(5)  # no time to settle: minute 4 has come over the socket
    scene.skew_ms = -10 * MINUTE_MS
    scene.fill(1, 4, "gap")
    scene.assert_whole(*range(5))


def test_catching_up_and_what_there_is(scene: Scene) -> None:
    scene.at(100.5)
    assert scene.do(lambda duties: duties.history(scene.instrument)) == History(None, T0)
    with pytest.raises(NoSeed):
        scene.do(lambda duties: duties.catch_up(scene.instrument))
    scene.seed(10, 12)
    done = scene.do(lambda duties: duties.catch_up(scene.instrument))
    assert done == CatchUp(87, 87, 1, 1, 1, 1)
    scene.assert_whole(*range(10, 100))
    first_ms, last_ms = T0 + 10 * MINUTE_MS, T0 + 99 * MINUTE_MS
    found = scene.do(lambda duties: duties.history(scene.instrument))
    assert found == History((first_ms, last_ms), T0)
    assert scene.do(lambda duties: duties.catch_up(scene.instrument)).tail_minutes == 0

    async def known(duties: Duties) -> int:
        return duties.known_beginning(scene.instrument)

    assert scene.do(known) == T0


@pytest.mark.parametrize("reason", ["bootstrap", "historical_backfill"])
def test_history_that_failed_midway_is_fetched_to_its_end(scene: Scene, reason: Reason) -> None:
    scene.at(3 * 1440 + 0.5)
    task = FillTask(scene.instrument, Period(T0, T0 + 3 * DAY_MS), reason)

    async def twice(duties: Duties) -> None:
        insert, calls = duties.candles.insert, itertools.count()
        fetcher = duties._fetcher

        def failing(table, *, urgent=False):
            if next(calls) == 1:
                raise StoreUnavailable("the store went away")
            return insert(table, urgent=urgent)

        fetcher.settings = replace(fetcher.settings, batch_rows=1000)
        fetcher.candles.insert = failing
        with pytest.raises(StoreUnavailable):
            await duties.fill(task)
        assert await duties.fill(task) is None

    scene.do(twice)
    scene.assert_whole(*range(3 * 1440))


def test_a_minute_that_the_exchange_has_not_settled_is_fetched_later(scene: Scene) -> None:
    scene.seed(0)
    scene.at(10 + 1 / 60)  # a second into minute 10 there, three and a half here
    scene.skew_ms = 2_500
    with pytest.raises(ExchangeError, match="still run or settle") as caught:
        scene.fill(1, 10, "reconnect_tail")
    assert caught.value.retryable
    scene.at(10 + 5 / 60)
    scene.fill(1, 10, "reconnect_tail")
    scene.assert_whole(*range(10))
