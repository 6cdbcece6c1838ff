"""Catching up over REST into a real store; each fault ends with nothing lost, nothing twice."""

from __future__ import annotations

import asyncio
import itertools
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Iterator
from contextlib import asynccontextmanager
from typing import TypeVar

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.catchup import catch_up, catch_up_all, fetch_history
from ingest.errors import ExchangeError, MalformedFrame, NoSeed
from ingest.fetching import Fetcher, FetchSettings
from ingest.http import HttpClients
from ingest.progress import Progress
from ingest.rows import DAY_MS, MINUTE_MS, Candle, Origin, table_of
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.gaps import MISSING, Gap
from tests.ingest.candle_tables import candle_of
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.bybit import BybitServer
from tests.ingest.exchange_servers.hours import Hours
from tests.ingest.exchange_servers.server import ExchangeServer
from tests.ingest.exchange_servers.settings import rest_settings

T = TypeVar("T")
T0 = 19_783 * DAY_MS  # 2024-03-01
SETTLE_MS = 3_000
HOUR_MS = 3_600_000
NUMBERS = itertools.count()


class Place:
    """A server, a clock and a store, and a symbol of one's own."""

    def __init__(self, db: ClickHouse, market_id: int, server: ExchangeServer, hours: Hours):
        self.db, self.server, self.hours = db, server, hours
        self.instrument = Instrument(market_id, f"C{next(NUMBERS)}USDT")
        self.tape = server.tape(market_id)
        self.tape.enlist(self.instrument.symbol, first_ms=T0)
        self.clock: Callable[[], int] = hours
        server.seen.clear()

    def at(self, minutes: float) -> None:
        """Sets the time, in minutes since `T0`; it never runs backwards."""
        self.hours.now_ms = T0 + round(minutes * MINUTE_MS)

    @asynccontextmanager
    async def fetcher(self, **options: int) -> AsyncIterator[Fetcher]:
        rest = {self.instrument.market_id: rest_settings(self.server.rest_url)}
        async with HttpClients(rest, clock=self.clock, sleep=self.hours.sleep) as clients:
            yield Fetcher(self.db, clients, clock=self.clock, settings=FetchSettings(**options))

    def do(self, work: Callable[[Fetcher], Awaitable[T]], **options: int) -> T:
        """What a work with a new fetcher, as of a new process, comes to."""

        async def run() -> T:
            async with self.fetcher(**options) as fetcher:
                return await work(fetcher)

        return asyncio.run(run())

    def catch_up(self, **options: int):
        return self.do(lambda fetcher: catch_up(fetcher, self.instrument), **options)

    def seed(self, *minutes: int, source: str = "file", price: float | None = None) -> None:
        """Stores minutes since `T0`, as the exchange has them unless there is a price."""
        candles = [self.candle(minute, price) for minute in minutes]
        self.fresh().candles.insert(table_of(candles, Origin(source, T0)))

    def candle(self, minute: int, price: float | None = None) -> Candle:
        return candle_of(self.instrument, T0 + minute * MINUTE_MS, price)

    def fresh(self) -> Fetcher:
        """A fetcher to ask the store with."""
        return Fetcher(self.db, HttpClients({}, clock=self.clock), clock=self.clock)

    def minutes(self) -> list[int]:
        """The minutes that are stored, since `T0`."""
        found = self.fresh().candles.arrow(self.instrument, Period(T0 - DAY_MS, T0 + 99 * DAY_MS))
        return [(t.value - T0) // MINUTE_MS for t in found["ts_open"]]

    def prices(self, *minutes: int) -> list[float]:
        candles = self.fresh().candles
        spans = [Period(T0 + m * MINUTE_MS, T0 + (m + 1) * MINUTE_MS) for m in minutes]
        return [candles.arrow(self.instrument, one)["close"][0].as_py() for one in spans]

    def assert_whole(self, *minutes: Iterable[int]) -> None:
        """Exactly these minutes are stored, each once, as the exchange has them."""
        wanted = sorted(m for part in minutes for m in part)
        assert self.minutes() == wanted  # `arrow` would show a version too many
        span = Period(T0 - DAY_MS, T0 + 99 * DAY_MS)
        stored = self.fresh().candles.arrow(self.instrument, span)["close"].to_pylist()
        assert stored == [self.candle(minute).close for minute in wanted]

    def gaps(self) -> list[Gap]:
        return self.fresh().ledger.gaps(self.instrument, Period(T0, T0 + 99 * DAY_MS))

    def missing(self) -> list[Gap]:
        return [gap for gap in self.gaps() if gap.state == MISSING]

    def states(self) -> list[tuple[int, int, str, int]]:
        """The ledger: first minute, end, state, attempts."""
        found = self.gaps()
        return [
            (
                (gap.period.start_ms - T0) // MINUTE_MS,
                (gap.period.end_ms - T0) // MINUTE_MS,
                gap.state,
                gap.attempts,
            )
            for gap in found
        ]

    def asked(self) -> int:
        """Requests for klines since this was asked last."""
        count = len(self.server.kline_requests)
        self.server.seen.clear()
        return count


HOURS = Hours(T0)


@pytest.fixture(scope="module")
def servers() -> Iterator[dict[int, ExchangeServer]]:
    with BinanceServer(HOURS) as binance, BybitServer(HOURS) as bybit:
        yield {1: binance, 2: binance, 3: bybit, 4: bybit}


@pytest.fixture(params=[1, 4], ids=["ascending pages", "newest first"])
def either(request, db: ClickHouse, servers) -> Place:
    return Place(db, request.param, servers[request.param], HOURS)


@pytest.fixture
def place(db: ClickHouse, servers) -> Place:
    return Place(db, 1, servers[1], HOURS)


def test_the_tail_is_fetched_up_to_the_last_closed_minute(either: Place) -> None:
    either.seed(*range(10))
    either.at(2_510.5)
    report = either.catch_up()
    assert report.tail_start_ms == T0 + 10 * MINUTE_MS
    assert report.tail_end_ms == T0 + 2_510 * MINUTE_MS
    assert (report.tail_rows_read, report.tail_rows_written) == (2_500, 2_500)
    assert report.tail_batches == 1
    assert (report.gap_scan_start_ms, report.gap_scan_end_ms) == (T0, T0 + 10 * MINUTE_MS)
    assert (report.gap_days_scanned, report.gap_days_with_gaps) == (1, 0)
    either.assert_whole(range(2_510))
    assert either.asked() == 3
    again = either.catch_up()
    assert (again.tail_start_ms, again.tail_rows_read, either.asked()) == (None, 0, 0)


def test_a_minute_that_has_just_ended_is_left_to_settle(place: Place) -> None:
    place.seed(0)
    place.at(5)
    place.hours.now_ms += SETTLE_MS - 1
    assert place.catch_up().tail_rows_written == 3  # minute 4 ended 2.999 s ago
    place.hours.now_ms += 1
    assert place.catch_up().tail_rows_written == 1
    place.assert_whole(range(5))


def test_an_instrument_without_a_candle_has_no_seed(place: Place) -> None:
    place.at(100)
    with pytest.raises(NoSeed, match="backfill-1m"):
        place.catch_up()


def test_history_begins_where_the_exchange_says_and_is_asked_for_once(either: Place) -> None:
    symbol = either.instrument.symbol
    either.tape.enlist(symbol, first_ms=T0 + 500 * MINUTE_MS)
    either.at(3_000.5)
    filled = either.do(lambda fetcher: fetch_history(fetcher, either.instrument))
    assert filled is not None
    assert (filled.rows_written, filled.minutes_left) == (2_500, 0)
    either.assert_whole(range(500, 3_000))
    either.asked()
    assert either.do(lambda f: fetch_history(f, either.instrument)) is None
    assert either.asked() == 0
    assert either.do(lambda f: f.first_ms(either.instrument)) == T0 + 500 * MINUTE_MS


def test_history_before_the_first_stored_minute(place: Place) -> None:
    place.seed(*range(700, 710))
    place.at(710)
    place.do(lambda fetcher: fetch_history(fetcher, place.instrument))
    place.assert_whole(range(710))


def test_what_has_not_begun_to_trade_is_asked_about_daily(place: Place) -> None:
    place.tape.enlist(place.instrument.symbol, first_ms=T0 + 2 * DAY_MS)
    place.at(100)

    def history():
        return place.do(lambda fetcher: fetch_history(fetcher, place.instrument))

    assert history() is None
    assert place.asked() == 1
    assert history() is None
    assert place.asked() == 0
    place.at(2 * 1440 + 10.5)
    filled = history()
    assert filled is not None
    assert filled.rows_written == 10


def test_gaps_are_found_and_filled_a_whole_day_too(either: Place) -> None:
    day = range(1440, 2880)
    holes = {5, 6, 7, 1_000, *day, 2_900, 4_000}
    last = 5_000
    either.seed(*(m for m in range(last + 1) if m not in holes))
    either.at(last + 1.5)
    report = either.catch_up()
    assert report.gap_days_scanned == 4
    assert report.gap_days_with_gaps == 3
    assert report.gap_ranges_filled == 5
    assert report.gap_rows_written == len(holes)
    assert report.gap_rows_skipped_existing == report.gap_rows_read - len(holes)
    either.assert_whole(range(last + 1))
    assert {state for *_, state, _ in either.states()} == {"filled"}
    either.asked()
    again = either.catch_up()
    assert (again.gap_days_with_gaps, again.gap_rows_read, either.asked()) == (0, 0, 0)


def test_progress_counts_tail_and_gaps_alike(place: Place, monkeypatch) -> None:
    lines: list[str] = []
    monkeypatch.setitem(Progress.__init__.__kwdefaults__, "every_s", 0.0)
    place.seed(*range(10), *range(30, 40))
    place.at(100.5)
    place.do(lambda fetcher: catch_up(fetcher, place.instrument, say=lines.append))
    assert [line.split(",")[0].split(": ")[1] for line in lines] == [
        "60 of 60 (100 %)",
        "80 of 80 (100 %)",
    ]


def test_gaps_close_together_share_a_request(place: Place) -> None:
    place.seed(*(m for m in range(1_000) if m % 10))
    place.at(1_000.5)
    report = place.catch_up()
    assert report.gap_rows_written == 99  # minute 0 lies before the first stored one
    assert place.asked() == 1


def test_a_stored_minute_keeps_its_version(place: Place) -> None:
    place.seed(0, 1, 3, price=7.0)
    place.at(4.5)
    place.catch_up()
    assert place.prices(0, 1, 3) == [7.0, 7.0, 7.0]
    assert place.prices(2) == [place.candle(2).close]
    assert place.fresh().candles.duplicates(place.instrument, Period(T0, T0 + DAY_MS)) == 0


def test_force_writes_a_newer_version_whatever_the_clock_says(place: Place) -> None:
    place.seed(0, 1, 2, price=7.0)
    place.at(4)
    place.clock = lambda: HOURS() - 2 * HOUR_MS  # earlier than the versions that are there
    period = Period(T0, T0 + 3 * MINUTE_MS)
    filled = place.do(lambda fetcher: fetcher.fill(place.instrument, period, force=True))
    assert filled.rows_written == 3
    place.assert_whole(range(3))


def test_a_minute_that_the_exchange_does_not_have_is_not_asked_for_for_ever(
    either: Place,
) -> None:
    symbol = either.instrument.symbol
    either.tape.drop(symbol, T0 + 5 * MINUTE_MS, T0 + 7 * MINUTE_MS)
    either.seed(0, 1, 2, 3, 4, 7, 8)
    for attempt in (1, 2):
        either.at(8 + 60 * attempt + 1.5)
        report = either.catch_up()
        assert report.gap_minutes_left == 2
        assert either.states() == [(5, 7, "missing", attempt)]
    either.at(8 + 180 + 1.5)
    either.catch_up()
    assert either.states() == [(5, 7, "exchange_absent", 3)]
    either.asked()
    report = either.catch_up()
    assert (report.gap_days_with_gaps, report.gap_minutes_absent) == (1, 2)
    assert either.asked() == 0
    end = either.minutes()[-1]
    either.assert_whole(range(5), range(7, end + 1))
    # Force asks again: the exchange has repaired itself.
    either.tape.mend(symbol)
    hour = Period(T0, T0 + HOUR_MS)
    either.do(lambda fetcher: fetcher.fill(either.instrument, hour, force=True))
    either.assert_whole(range(end + 1))
    assert either.states() == [(5, 7, "filled", 4)]


def test_a_young_minute_is_not_given_up(place: Place) -> None:
    place.tape.drop(place.instrument.symbol, T0 + 5 * MINUTE_MS, T0 + 6 * MINUTE_MS)
    place.seed(*range(5), 6)
    place.at(7.5)
    for _ in range(5):
        place.catch_up()
    assert place.states() == [(5, 6, "missing", 1)]  # five answers at once say no more than one
    place.tape.mend(place.instrument.symbol)
    place.catch_up()
    place.assert_whole(range(7))


def test_part_of_a_gap_may_come_later(place: Place) -> None:
    place.tape.drop(place.instrument.symbol, T0 + 10 * MINUTE_MS, T0 + 20 * MINUTE_MS)
    place.seed(*range(10), *range(20, 30))
    place.at(30.5)
    place.catch_up()
    place.tape.mend(place.instrument.symbol)
    place.tape.drop(place.instrument.symbol, T0 + 14 * MINUTE_MS, T0 + 16 * MINUTE_MS)
    place.hours.now_ms += 10 * MINUTE_MS - 1
    place.catch_up()
    assert place.states()[1:2] == [(14, 16, "missing", 1)]
    place.hours.now_ms += 1
    place.catch_up()
    assert place.states()[:3] == [
        (10, 14, "filled", 2),
        (14, 16, "missing", 2),
        (16, 20, "filled", 2),
    ]
    place.assert_whole(range(14), range(16, 40))


def test_the_tail_of_a_delisted_symbol_is_not_asked_for_for_ever(place: Place) -> None:
    place.tape.enlist(place.instrument.symbol, first_ms=T0, until_ms=T0 + 10 * MINUTE_MS)
    place.seed(*range(10))
    for hour in (1, 2, 3, 4, 5):
        place.at(60 * hour + 0.5)
        place.catch_up()
    asked = [state for state in place.states() if state[2] == "missing"]
    assert min(state[0] for state in asked) >= 60  # the first hours are closed
    place.assert_whole(range(10))


@pytest.mark.parametrize("status", [429, 418, 500, 503])
def test_storms_pass(place: Place, status: int) -> None:
    place.seed(0)
    place.at(2_500.5)
    place.server.fail(status=status, times=3, retry_after_s=2, path="klines")
    report = place.catch_up()
    assert report.tail_rows_written == report.tail_rows_read >= 2_499
    place.assert_whole(range(place.minutes()[-1] + 1))
    assert len(place.minutes()) >= 2_500


def test_a_storm_that_lasts_keeps_what_came_and_the_next_run_goes_on(either: Place) -> None:
    either.seed(0)
    either.at(2_600.5)

    async def work(fetcher: Fetcher):
        fetch = either.server.answer
        calls = itertools.count()

        def answer(path, params):
            if "kline" in path and next(calls) >= 1:
                return 503, None, {}
            return fetch(path, params)

        either.server.answer = answer  # the first page comes, nothing after it
        try:
            return await catch_up(fetcher, either.instrument)
        finally:
            del either.server.answer

    with pytest.raises(ExchangeError, match="503"):
        either.do(work, batch_rows=500)
    either.assert_whole(range(1_001))
    errors = either.missing()
    assert all(gap.attempts == 0 and "503" in (gap.last_error or "") for gap in errors)
    assert sum(gap.period.duration_ms for gap in errors) == 1_599 * MINUTE_MS
    report = either.catch_up()
    assert report.tail_rows_written == report.tail_rows_read
    either.assert_whole(range(either.minutes()[-1] + 1))
    assert len(either.minutes()) >= 2_600
    assert not either.missing()


def test_a_malformed_page_stops_its_instrument_and_no_other(place: Place) -> None:
    symbols = ["GOODA", "BAD", "NOSEED", "GOODB"]
    instruments = [Instrument(1, f"{place.instrument.symbol}{name}") for name in symbols]
    for one in instruments:
        place.tape.enlist(one.symbol, first_ms=T0)
        if not one.symbol.endswith("NOSEED"):
            place.instrument = one
            place.seed(0, 1)
    place.at(50.5)
    answer = place.server.answer

    def garbled(path, params):
        status, body, headers = answer(path, params)
        if params.get("symbol", "").endswith("BAD"):
            body = [[T0 + 2 * MINUTE_MS, "1", "2"]]
        return status, body, headers

    place.server.answer = garbled
    try:
        summary = place.do(
            lambda f: catch_up_all(
                instruments, lambda one: catch_up(f, one), at_once=2, delay_s=2, sleep=HOURS.sleep
            )
        )
    finally:
        del place.server.answer
    assert [one.status for one in summary.outcomes] == ["ok", "failed", "skipped_no_seed", "ok"]
    assert (summary.instruments_total, summary.instruments_ok) == (4, 2)
    assert (summary.instruments_failed, summary.instruments_skipped_no_seed) == (1, 1)
    assert summary.outcomes[1].error
    for number, end in ((0, 50), (1, 2), (3, 50)):
        place.instrument = instruments[number]
        place.assert_whole(range(end))
    place.instrument = instruments[1]
    place.server.answer = garbled
    try:
        with pytest.raises(MalformedFrame):
            place.catch_up()
    finally:
        del place.server.answer
    place.catch_up()  # the exchange is well again
    place.assert_whole(range(50))


def test_a_fast_clock_does_not_take_a_minute_that_still_runs(either: Place) -> None:
    either.seed(0)
    either.at(5.25)  # the exchange: minute 5 runs
    either.clock = lambda: HOURS() + 5 * MINUTE_MS
    report = either.catch_up()
    assert report.tail_rows_written == 4
    assert either.minutes() == [0, 1, 2, 3, 4]
    assert either.states() == []  # what still runs or is to come is no gap
    either.clock = HOURS
    either.at(10.5)
    either.catch_up()
    either.assert_whole(range(10))


def test_a_slow_clock_takes_fewer_minutes_and_loses_none(place: Place) -> None:
    place.seed(0)
    place.at(20.5)
    place.clock = lambda: HOURS() - 5 * MINUTE_MS
    assert place.catch_up().tail_rows_written == 14
    place.clock = HOURS
    place.catch_up()
    place.assert_whole(range(20))


def test_two_catch_ups_at_once(either: Place) -> None:
    either.seed(*(m for m in range(1_500) if not 300 <= m < 400))
    either.at(3_000.5)

    async def both(one: Fetcher):
        async with either.fetcher() as other:
            # Two processes would be like this; a store they share merges what both wrote.
            return await asyncio.gather(
                catch_up(one, either.instrument),
                catch_up(other, either.instrument),
                catch_up(one, either.instrument),
            )

    first, _, third = either.do(both, batch_rows=200)
    either.assert_whole(range(3_000))
    # Within one fetcher they take turns, and the later one sees what is there.
    assert first.tail_rows_written + third.tail_rows_written <= 2 * 1_500
    assert min(first.gap_rows_written, third.gap_rows_written) == 0


def test_a_fetch_that_is_cut_off_is_simply_run_again(either: Place) -> None:
    either.seed(0)
    either.at(8 * 1440 + 0.5)

    async def cut(fetcher: Fetcher) -> None:
        insert, stored = fetcher.candles.insert, asyncio.Event()
        loop = asyncio.get_running_loop()

        def inserted(table, *, urgent: bool = False):
            loop.call_soon_threadsafe(stored.set)
            return insert(table, urgent=urgent)

        fetcher.candles.insert = inserted
        task = asyncio.create_task(catch_up(fetcher, either.instrument))
        await stored.wait()
        task.cancel()
        await asyncio.gather(task, return_exceptions=True)

    either.do(cut, batch_rows=3_000)
    assert len(either.minutes()) < 8 * 1440
    either.catch_up()
    either.assert_whole(range(8 * 1440))


@settings(max_examples=8)
@given(
    market_id=st.sampled_from([1, 4]),
    stored=st.sets(st.integers(0, 3_000), min_size=1, max_size=40),
    runs=st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 900)), max_size=3),
    holes=st.lists(st.tuples(st.integers(0, 3_000), st.integers(1, 600)), max_size=3),
    end=st.integers(3_001, 3_200),
)
@pytest.mark.usefixtures("servers")
def test_afterwards_the_store_has_what_it_had_and_what_the_exchange_has(
    db: ClickHouse, servers, market_id: int, stored, runs, holes, end: int
) -> None:
    place = Place(db, market_id, servers[market_id], HOURS)
    for first, length in holes:
        place.tape.drop(
            place.instrument.symbol, T0 + first * MINUTE_MS, T0 + (first + length) * MINUTE_MS
        )
    had = stored | {m for first, length in runs for m in range(first, min(first + length, 3_001))}
    place.seed(*sorted(had))
    place.at(end + 0.5)
    place.catch_up()
    there = set(range(min(had), end)) - {
        m for first, length in holes for m in range(first, first + length)
    }
    place.assert_whole(had | there)
    assert place.fresh().candles.duplicates(place.instrument, Period(T0, T0 + 9 * DAY_MS)) == 0
