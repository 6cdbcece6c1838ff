"""The HTTP client against servers that fail as exchanges do."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Iterable
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any

import pytest

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import ExchangeError, MalformedFrame, RateLimited
from ingest.exchanges.exchange import HttpRequest
from ingest.http import HttpClient, HttpClients
from ingest.klines import pages
from ingest.limiter import LeftAlone
from ingest.rows import MINUTE_MS
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.bybit import BybitServer
from tests.ingest.exchange_servers.hours import Hours
from tests.ingest.exchange_servers.server import ExchangeServer
from tests.ingest.exchange_servers.settings import rest_settings

T0 = 1_709_251_200_000
SERVERS = {1: BinanceServer, 2: BinanceServer, 3: BybitServer, 4: BybitServer}


class Notes:
    """An observer that remembers."""

    def __init__(self) -> None:
        self.failures: list[int] = []
        self.retries = 0
        self.waits: list[float] = []

    def failed(self, market_id: int, status: int) -> None:
        self.failures.append(status)

    def retried(self, market_id: int) -> None:
        self.retries += 1

    def held_back(self, market_id: int, seconds: float) -> None:
        self.waits.append(seconds)


class Rig:
    """A server, a clock they share, and clients of it."""

    def __init__(self, market_id: int, server: ExchangeServer, hours: Hours) -> None:
        self.market_id, self.server, self.hours = market_id, server, hours
        self.notes = Notes()

    def run(self, work: Callable[[HttpClient], Awaitable[Any]], **settings: Any) -> Any:
        async def inside() -> Any:
            asked = {self.market_id: rest_settings(self.server.rest_url, **settings)}
            hours = self.hours
            async with HttpClients(
                asked, clock=hours, sleep=hours.sleep, observer=self.notes
            ) as clients:
                return await work(clients.of(self.market_id))

        return asyncio.run(inside())

    def minutes(self, count: int = 3, symbol: str = "AUSDT", **settings: Any) -> list[int]:
        """Minutes from T0 that were fetched, counted from T0."""

        async def fetch(client: HttpClient) -> list[int]:
            instrument = Instrument(self.market_id, symbol)
            period = Period(T0, T0 + count * MINUTE_MS)
            return [
                (candle.ts_open_ms - T0) // MINUTE_MS
                async for page in pages(client, instrument, period)
                for candle in page
            ]

        return self.run(fetch, **settings)


def _rig(market_id: int) -> Iterable[Rig]:
    hours = Hours(T0 + 20_000 * MINUTE_MS)
    with SERVERS[market_id](hours) as server:
        server.tape(market_id).enlist("AUSDT", first_ms=T0)
        yield Rig(market_id, server, hours)


@pytest.fixture(params=[1, 4])
def rig(request) -> Iterable[Rig]:
    yield from _rig(request.param)


@pytest.fixture
def spot() -> Iterable[Rig]:
    yield from _rig(1)


@pytest.fixture
def futures() -> Iterable[Rig]:
    yield from _rig(2)


@pytest.fixture
def linear() -> Iterable[Rig]:
    yield from _rig(4)


@pytest.mark.parametrize("status", [408, 500, 502, 503, 504])
def test_what_may_pass_is_tried_again_with_growing_pauses(rig: Rig, status: int) -> None:
    rig.server.fail(status=status, times=3, path="kline")
    assert rig.minutes() == [0, 1, 2]
    assert len(rig.server.kline_requests) == 4
    assert rig.notes.failures == [status] * 3
    assert rig.notes.retries == 3
    for slept, at_least in zip(rig.hours.slept, (0.5, 1.0, 2.0), strict=True):
        assert at_least <= slept <= at_least + 0.2


@pytest.mark.parametrize("status", [400, 401, 403, 404, 451])
def test_what_will_not_pass_is_given_up_at_once(rig: Rig, status: int) -> None:
    rig.server.fail(status=status, times=3, path="kline")
    with pytest.raises(ExchangeError) as caught:
        rig.minutes()
    assert (caught.value.status, caught.value.retryable) == (status, False)
    assert caught.value.market_id == rig.market_id
    assert len(rig.server.kline_requests) == 1
    assert rig.hours.slept == []


def test_nobody_sleeps_after_the_last_attempt(rig: Rig) -> None:
    rig.server.fail(status=500, times=9, path="kline")
    with pytest.raises(ExchangeError, match="500") as caught:
        rig.minutes(retries=1)
    assert caught.value.retryable
    assert len(rig.server.kline_requests) == 2
    assert len(rig.hours.slept) == 1


def test_a_symbol_nobody_knows_is_the_exchanges_own_error(rig: Rig) -> None:
    with pytest.raises(ExchangeError, match=r"(?i)nonesuch.*invalid") as caught:
        rig.minutes(symbol="NONESUCH")
    assert caught.value.exchange_code in (-1121, 10001)
    assert not caught.value.retryable
    assert len(rig.server.kline_requests) == 1


@pytest.mark.parametrize("breakage", ["truncate", "garble", "reset"])
def test_broken_answers_are_asked_for_again(rig: Rig, breakage: str) -> None:
    getattr(rig.server, breakage)(times=2, path="kline")
    assert rig.minutes() == [0, 1, 2]
    assert rig.notes.retries == 2


def test_an_answer_that_never_makes_sense(rig: Rig) -> None:
    rig.server.garble(times=9, path="kline")
    with pytest.raises(MalformedFrame, match="no JSON"):
        rig.minutes(retries=1)


def test_an_answer_that_does_not_come_in_time(rig: Rig) -> None:
    rig.server.hang(times=1, path="kline")
    assert rig.minutes(timeout_s=0.25) == [0, 1, 2]
    assert rig.notes.failures == [0]


def test_a_server_that_is_not_there() -> None:
    hours = Hours(T0 + MINUTE_MS)
    with BinanceServer(hours) as server:
        pass
    rig = Rig(1, server, hours)
    words = rf"{server.rest_url} cannot be reached: check the network, .*ConnectError"
    with pytest.raises(ExchangeError, match=words) as caught:
        rig.minutes(retries=1)
    assert caught.value.status is None
    assert rig.notes.failures == [0, 0]


def test_retry_after_pauses_the_host(rig: Rig) -> None:
    rig.server.fail(status=429, times=1, retry_after_s=7, path="kline")
    begun_ms = rig.hours.now_ms
    assert rig.minutes() == [0, 1, 2]
    assert rig.hours.now_ms - begun_ms == 7_000
    assert rig.notes.waits == [7.0]
    assert rig.notes.failures == [429]


def test_a_server_error_with_retry_after_pauses_too(rig: Rig) -> None:
    rig.server.fail(status=503, times=1, retry_after_s=11, path="kline")
    assert rig.minutes() == [0, 1, 2]
    assert rig.hours.slept == [11.0]


@pytest.mark.parametrize("status", [429, 503])
def test_retry_after_may_be_a_date_of_the_exchanges_clock(rig: Rig, status: int) -> None:
    until = datetime.fromtimestamp(rig.hours.now_ms // 1000 + 42, UTC)
    rig.server.fail(
        status=status, headers={"Retry-After": format_datetime(until, True)}, path="kline"
    )
    assert rig.minutes() == [0, 1, 2]
    assert rig.hours.slept == [42.0]


def test_a_complaint_of_one_task_holds_the_others_back(rig: Rig) -> None:
    rig.server.fail(status=429, times=1, retry_after_s=30, path="kline")

    async def both(client: HttpClient) -> None:
        request = client.exchange.kline_request(client.market, "AUSDT", T0, T0 + MINUTE_MS, 1)
        first = asyncio.create_task(client.get_json(request))
        while not rig.notes.failures:
            await asyncio.sleep(0)
        await asyncio.gather(first, client.get_json(request), client.get_json(request))

    begun_ms = rig.hours.now_ms
    rig.run(both)
    assert all(one.at_ms - begun_ms == 30_000 for one in rig.server.kline_requests[1:])


def test_rate_limited_to_the_end(rig: Rig) -> None:
    rig.server.fail(status=429, times=9, retry_after_s=2, path="kline")
    with pytest.raises(RateLimited) as caught:
        rig.minutes(retries=2)
    assert caught.value.retry_after_s == 2.0
    assert len(rig.server.kline_requests) == 3


def test_binance_weight_is_learned_and_respected(spot: Rig) -> None:
    server = spot.server
    assert isinstance(server, BinanceServer)
    server.weight_limit[1] = 50  # exchangeInfo 20, then 2 a page: 10 pages stay below 80 %
    assert spot.minutes(18_000) == list(range(18_000))
    assert {one.status for one in server.seen} == {200}
    assert max(server.used.values()) <= 40
    assert len(server.seen) == 19
    assert len([one for one in server.seen if one.path.endswith("exchangeInfo")]) == 1


def test_binance_weight_that_another_program_uses_counts(spot: Rig) -> None:
    server = spot.server
    assert isinstance(server, BinanceServer)
    server.weight_limit[1] = 100
    server.used[1, spot.hours.now_ms // MINUTE_MS * MINUTE_MS] = 70
    assert spot.minutes(3_000) == list(range(3_000))
    # exchangeInfo made it 90, beyond 80: the pages wait for the next minute.
    assert {one.status for one in server.seen} == {200}
    assert len({one.at_ms // MINUTE_MS for one in server.seen}) == 2


def test_usd_m_weight_grows_with_the_limit(futures: Rig) -> None:
    server = futures.server
    assert isinstance(server, BinanceServer)
    weights = []
    for minutes in (99, 499, 1_000):
        before = sum(server.used.values())
        futures.minutes(minutes)
        weights.append(sum(server.used.values()) - before - 1)  # 1 is exchangeInfo
    assert weights == [1, 2, 5]


def test_binance_skewed_clocks_do_not_exceed_the_limit(spot: Rig) -> None:
    server = spot.server
    assert isinstance(server, BinanceServer)
    server.weight_limit[1] = 50
    server.clock = lambda: spot.hours.now_ms + 13_700
    assert spot.minutes(15_000) == list(range(15_000))
    assert {one.status for one in server.seen} == {200}


def test_a_binance_ban_is_waited_out(spot: Rig) -> None:
    until_ms = spot.hours.now_ms + 120_000
    text = f"Way too much request weight used; IP banned until {until_ms}."
    spot.server.fail(status=418, body={"code": -1003, "msg": text}, path="klines")
    begun_ms = spot.hours.now_ms
    assert spot.minutes() == [0, 1, 2]
    assert spot.hours.now_ms - begun_ms == 120_000


def test_a_ban_for_days_fails_every_request_without_sending_it(spot: Rig) -> None:
    spot.server.fail(status=418, retry_after_s=259_200, path="klines")
    with pytest.raises(LeftAlone, match=r"binance:spot .*left alone for 259200 s"):
        spot.minutes()
    assert len(spot.server.kline_requests) == 1
    assert spot.hours.slept == []


def test_bybit_too_many_visits_in_a_good_answer(linear: Rig) -> None:
    linear.server.refuse(10006, "Too many visits!", times=2)
    assert linear.minutes() == [0, 1, 2]
    assert len(linear.server.kline_requests) == 3


def test_bybit_visits_stay_below_the_limit_of_its_headers(linear: Rig) -> None:
    server = linear.server
    assert isinstance(server, BybitServer)
    server.visits = 5
    assert linear.minutes(18_000) == list(range(18_000))
    assert len(server.kline_requests) == 18
    per_second = [one.at_ms // 1000 for one in server.seen]
    assert max(per_second.count(s) for s in per_second) <= 5


def test_bybit_server_error_in_a_good_answer_is_tried_again(linear: Rig) -> None:
    linear.server.refuse(10016, "Server error.", times=1)
    assert linear.minutes() == [0, 1, 2]
    assert linear.notes.failures == [200]


def test_bybit_access_too_frequent_is_a_ban_of_ten_minutes(linear: Rig) -> None:
    linear.server.fail(status=403, body="403, access too frequent")
    assert linear.minutes() == [0, 1, 2]
    assert linear.hours.slept == [600.0]


def test_markets_of_one_host_share_a_limiter() -> None:
    hours = Hours(T0 + 100 * MINUTE_MS)
    with BybitServer(hours) as server:
        for market_id in (3, 4):
            server.tape(market_id).enlist("AUSDT", first_ms=T0)
        server.fail(status=429, times=1, retry_after_s=9)

        async def run() -> None:
            settings = {
                3: rest_settings(server.rest_url, retries=0),
                4: rest_settings(server.rest_url, retries=0),
            }
            async with HttpClients(settings, clock=hours, sleep=hours.sleep) as clients:
                params = {"category": "spot", "symbol": "AUSDT", "interval": "1"}
                request = HttpRequest("/v5/market/kline", params)
                with pytest.raises(RateLimited):
                    await clients.of(3).get_json(request)
                await clients.of(4).get_json(request)
                with pytest.raises(InvalidInput, match="market 1 has no REST settings"):
                    clients.of(1)

        asyncio.run(run())
    assert hours.slept == [9.0]
