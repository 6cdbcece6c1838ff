"""Paging: every minute once, whatever the exchange has, and nothing from outside."""

from __future__ import annotations

import asyncio
from collections.abc import Iterable
from contextlib import asynccontextmanager
from itertools import pairwise
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.exchanges.registry import MARKETS, exchange_of, market
from ingest.http import HttpClients
from ingest.klines import first_minute, pages
from ingest.rows import MINUTE_MS, Candle
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.bybit import BybitServer
from tests.ingest.exchange_servers.hours import Hours
from tests.ingest.exchange_servers.server import ExchangeServer
from tests.ingest.exchange_servers.settings import rest_settings
from tests.ingest.exchange_servers.tape import made_up

T0 = 1_709_251_200_000  # 2024-03-01
NOW = T0 + 10_000 * MINUTE_MS + 30_000
SERVERS = {1: BinanceServer, 2: BinanceServer, 3: BybitServer, 4: BybitServer}


@pytest.fixture(scope="module", params=SERVERS)
def served(request) -> Iterable[tuple[int, ExchangeServer]]:
    with SERVERS[request.param](lambda: NOW) as server:
        yield request.param, server


@asynccontextmanager
async def client_of(market_id: int, server: ExchangeServer):
    hours = Hours(NOW)
    settings = {market_id: rest_settings(server.rest_url)}
    async with HttpClients(settings, clock=hours, sleep=hours.sleep) as clients:
        yield clients.of(market_id)


async def _fetched(market_id: int, server: ExchangeServer, symbol: str, period: Period):
    async with client_of(market_id, server) as client:
        instrument = Instrument(market_id, symbol)
        return [page async for page in pages(client, instrument, period)]


def fetched(market_id: int, server: ExchangeServer, symbol: str, period: Period):
    return asyncio.run(_fetched(market_id, server, symbol, period))


def test_a_range_of_several_pages_comes_whole_and_ascending(served) -> None:
    market_id, server = served
    server.tape(market_id).enlist("AUSDT", first_ms=T0)
    server.seen.clear()
    period = Period(T0 + 7 * MINUTE_MS, T0 + 2_507 * MINUTE_MS)
    found = fetched(market_id, server, "AUSDT", period)
    assert [len(page) for page in found] == [1000, 1000, 500]
    candles = [candle for page in found for candle in page]
    assert [c.ts_open_ms for c in candles] == list(range(period.start_ms, period.end_ms, MINUTE_MS))
    told = made_up("AUSDT", candles[5].ts_open_ms)
    kept = market_id < 3  # who publishes trades and taker volumes
    assert candles[5] == Candle(
        Instrument(market_id, "AUSDT"),
        told.ts_open_ms,
        told.open,
        told.high,
        told.low,
        told.close,
        told.volume_base,
        told.volume_quote,
        told.trades if kept else None,
        told.taker_base if kept else None,
        told.taker_quote if kept else None,
    )
    # Each window's end is sent inclusive, and no more rows are asked for than it has minutes.
    requests = server.kline_requests
    ends = [int(r.params.get("endTime") or r.params["end"]) for r in requests]
    assert ends[-1] == period.end_ms - 1
    assert [int(r.params["limit"]) for r in requests] == [1000, 1000, 500]


def test_minutes_the_exchange_does_not_have_are_not_invented(served) -> None:
    market_id, server = served
    tape = server.tape(market_id)
    tape.enlist("HUSDT", first_ms=T0 + 100 * MINUTE_MS, until_ms=T0 + 4_000 * MINUTE_MS)
    tape.drop("HUSDT", T0 + 1_000 * MINUTE_MS, T0 + 2_440 * MINUTE_MS)
    found = fetched(market_id, server, "HUSDT", Period(T0, T0 + 5_000 * MINUTE_MS))
    minutes = [(c.ts_open_ms - T0) // MINUTE_MS for page in found for c in page]
    assert minutes == [*range(100, 1_000), *range(2_440, 4_000)]


def test_bounds_off_the_minute_and_one_minute(served) -> None:
    market_id, server = served
    server.tape(market_id).enlist("OUSDT", first_ms=T0)
    one = fetched(market_id, server, "OUSDT", Period(T0, T0 + MINUTE_MS))
    assert [c.ts_open_ms for page in one for c in page] == [T0]
    off = fetched(market_id, server, "OUSDT", Period(T0 + 1, T0 + 3 * MINUTE_MS + 1))
    assert [(c.ts_open_ms - T0) // MINUTE_MS for page in off for c in page] == [1, 2, 3]
    assert fetched(market_id, server, "OUSDT", Period(T0 + 1, T0 + 2)) == []


def test_the_first_minute_is_found_in_few_requests(served) -> None:
    market_id, server = served
    first_ms = T0 + 4_321 * MINUTE_MS
    server.tape(market_id).enlist("LUSDT", first_ms=first_ms)
    server.tape(market_id).enlist("SOONUSDT", first_ms=NOW + 86_400_000)
    server.seen.clear()

    async def probe(symbol: str) -> int | None:
        async with client_of(market_id, server) as client:
            return await first_minute(client, Instrument(market_id, symbol))

    assert asyncio.run(probe("LUSDT")) == first_ms
    assert len(server.kline_requests) <= 4
    assert asyncio.run(probe("SOONUSDT")) is None


def test_an_instrument_of_another_market_is_refused(served) -> None:
    market_id, server = served
    other = market_id % 4 + 1

    async def run() -> None:
        async with client_of(market_id, server) as client:
            async for _ in pages(client, Instrument(other, "AUSDT"), Period(T0, T0 + MINUTE_MS)):
                pass

    with pytest.raises(InvalidInput, match="is not of"):
        asyncio.run(run())


class PagedClient:
    """A client whose exchange gives `rows_of_page` minutes at most, in an order of its own."""

    def __init__(self, market_id: int, limit: int, there: set[int], extra: list[int]) -> None:
        self.market = market(market_id)
        self.exchange = self
        self.limit, self.there, self.extra = limit, there, extra
        self.asked: list[tuple[int, int]] = []

    def kline_limit(self, market: Any) -> int:
        return self.limit

    def kline_request(self, market: Any, symbol: str, start_ms: int, end_ms: int, limit: int):
        assert limit <= self.limit
        assert end_ms - start_ms <= limit * MINUTE_MS
        return start_ms, end_ms

    async def get_json(self, request: Any) -> Any:
        self.asked.append(request)
        start_ms, end_ms = request
        inside = sorted(m for m in self.there if start_ms <= m < end_ms)
        return inside + [start_ms + offset * MINUTE_MS for offset in self.extra]

    def parse_klines(self, market: Any, symbol: str, body: Any) -> list[Candle]:
        instrument = Instrument(self.market.market_id, symbol)
        return [Candle(instrument, ms, 1.0, 1.0, 1.0, 1.0, 1.0) for ms in body]


@given(
    limit=st.integers(1, 40),
    there=st.sets(st.integers(-20, 220)),
    start=st.integers(-5, 200),
    length=st.integers(1, 120),
    off_ms=st.integers(0, MINUTE_MS - 1),
    extra=st.lists(st.integers(-50, 90), max_size=4),
)
def test_every_minute_there_is_comes_exactly_once(
    limit: int, there: set[int], start: int, length: int, off_ms: int, extra: list[int]
) -> None:
    """Also when pages hold rows from outside their window, repeats among them."""
    there_ms = {T0 + m * MINUTE_MS for m in there}
    period = Period(T0 + start * MINUTE_MS, T0 + (start + length) * MINUTE_MS - off_ms)
    # What a page has too much may only be what the exchange has, or lie outside the window.
    client: Any = PagedClient(1, limit, there_ms, [e for e in extra if not 0 <= e < limit])

    async def run() -> list[list[Candle]]:
        return [page async for page in pages(client, Instrument(1, "AUSDT"), period)]

    found = asyncio.run(run())
    minutes = [c.ts_open_ms for page in found for c in page]
    assert minutes == sorted(m for m in there_ms if period.start_ms <= m < period.end_ms)
    # Windows go forward, and together they cover the range.
    covered = period.start_ms
    for start_ms, end_ms in client.asked:
        gap = range(-(-covered // MINUTE_MS) * MINUTE_MS, start_ms, MINUTE_MS)
        assert not any(m in there_ms for m in gap)
        assert start_ms < end_ms
        covered = end_ms
    assert not client.asked or covered == period.end_ms
    assert len(client.asked) <= 2 * -(-length // limit) + len(minutes) // limit + 1


class DocumentedClient:
    """A client of a market whose exchange answers by its documentation, from the minutes it has.

    Both ends of a request are inclusive, and no more than `limit` rows are given: of Binance the
    oldest, ascending, of Bybit the newest, descending. Requests and parsers are the real ones.
    """

    def __init__(self, market_id: int, page_rows: int, there_ms: set[int]) -> None:
        self.market = market(market_id)
        self.exchange = self
        self.page_rows, self.there_ms = page_rows, sorted(there_ms)
        self.asked: list[tuple[int, int]] = []

    def __getattr__(self, name: str) -> Any:
        return getattr(exchange_of(self.market), name)

    def kline_limit(self, market: Any) -> int:
        return self.page_rows

    async def get_json(self, request: Any) -> Any:
        newest_first = "start" in request.params
        first, last = ("start", "end") if newest_first else ("startTime", "endTime")
        start_ms, end_ms, limit = (int(request.params[name]) for name in (first, last, "limit"))
        self.asked.append((start_ms, end_ms))
        inside = [made_up("DUSDT", ms) for ms in self.there_ms if start_ms <= ms <= end_ms]
        if not newest_first:
            return [
                [c.ts_open_ms, *map(str, (c.open, c.high, c.low, c.close, c.volume_base)),
                 c.ts_open_ms + MINUTE_MS - 1, str(c.volume_quote), c.trades,
                 str(c.taker_base), str(c.taker_quote), "0"]
                for c in inside[:limit]
            ]  # fmt: skip
        rows = [
            [*map(str, (c.ts_open_ms, c.open, c.high, c.low, c.close, c.volume_base)),
             str(c.volume_quote)]
            for c in reversed(inside[-limit:])
        ]  # fmt: skip
        return {"retCode": 0, "retMsg": "OK", "result": {"list": rows}}


@given(
    market_id=st.sampled_from(sorted(MARKETS)),
    page_rows=st.integers(1, 30),
    there=st.sets(st.integers(-10, 200)),
    holes=st.lists(st.tuples(st.integers(0, 150), st.integers(1, 90)), max_size=3),
    whole=st.booleans(),
    start=st.integers(-5, 180),
    length=st.integers(1, 120),
    off_ms=st.integers(0, MINUTE_MS - 1),
)
def test_pages_by_the_documentation_hold_every_minute_once(
    market_id: int, page_rows: int, there: set[int], holes: list[tuple[int, int]], whole: bool,
    start: int, length: int, off_ms: int,
) -> None:  # fmt: skip
    """Whichever end a page is filled from, however short it is, wherever there is nothing."""
    kept = set(range(-10, 200)) if whole else there
    for first, minutes in holes:
        kept -= set(range(first, first + minutes))
    there_ms = {T0 + m * MINUTE_MS for m in kept}
    period = Period(T0 + start * MINUTE_MS, T0 + (start + length) * MINUTE_MS - off_ms)
    client: Any = DocumentedClient(market_id, page_rows, there_ms)
    instrument = Instrument(market_id, "DUSDT")

    async def run() -> list[list[Candle]]:
        return [page async for page in pages(client, instrument, period)]

    found = asyncio.run(run())
    candles = [candle for page in found for candle in page]
    inside = sorted(ms for ms in there_ms if period.start_ms <= ms < period.end_ms)
    assert [candle.ts_open_ms for candle in candles] == inside
    assert [candle.close for candle in candles] == [made_up("DUSDT", ms).close for ms in inside]
    # No page can overflow, all go forward, and no candle is asked for twice: ends are exclusive.
    assert all(end - begin < page_rows * MINUTE_MS for begin, end in client.asked)
    assert all(before[0] < after[0] for before, after in pairwise(client.asked))
    assert all(sum(begin <= ms <= end for begin, end in client.asked) == 1 for ms in inside)
    assert all(period.start_ms <= begin <= end < period.end_ms for begin, end in client.asked)


SHARED: dict[int, ExchangeServer] = {}


@pytest.fixture(scope="module")
def both() -> Iterable[dict[int, ExchangeServer]]:
    with BinanceServer(lambda: NOW) as binance, BybitServer(lambda: NOW) as bybit:
        SHARED.update({1: binance, 2: binance, 3: bybit, 4: bybit})
        yield SHARED
        SHARED.clear()


@pytest.mark.usefixtures("both")
@settings(max_examples=20)
@given(
    market_id=st.sampled_from(sorted(MARKETS)),
    listed=st.integers(-50, 1_500),
    holes=st.lists(st.tuples(st.integers(0, 2_500), st.integers(1, 1_500)), max_size=3),
    start=st.integers(-30, 2_000),
    length=st.integers(1, 2_600),
)
def test_every_minute_of_a_served_range_comes_exactly_once(
    market_id: int, listed: int, holes: list[tuple[int, int]], start: int, length: int
) -> None:
    server = SHARED[market_id]
    tape = server.tape(market_id)
    tape.enlist("PUSDT", first_ms=T0 + listed * MINUTE_MS)
    for first, minutes in holes:
        tape.drop("PUSDT", T0 + first * MINUTE_MS, T0 + (first + minutes) * MINUTE_MS)
    period = Period(T0 + start * MINUTE_MS, T0 + (start + length) * MINUTE_MS)
    found = fetched(market_id, server, "PUSDT", period)
    assert [c.ts_open_ms for page in found for c in page] == [
        candle.ts_open_ms for candle in tape.span("PUSDT", period.start_ms, period.end_ms)
    ]


def test_windows_fit_the_pages_of_their_exchange() -> None:
    """What `pages` relies on: an exchange never has to cut a window short."""
    for market_id, one in MARKETS.items():
        assert exchange_of(market_id).kline_limit(one) == 1000
