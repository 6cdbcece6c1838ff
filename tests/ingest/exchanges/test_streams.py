"""Streams of the exchange servers, read as the exchanges' modules say; over real sockets."""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Callable, Iterable
from contextlib import asynccontextmanager
from typing import Any

import pytest
from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed, InvalidStatus

from ingest.errors import MalformedFrame
from ingest.exchanges.exchange import Frame
from ingest.exchanges.registry import exchange_of, market
from ingest.rows import MINUTE_MS
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.bybit import BybitServer
from tests.ingest.exchange_servers.process import ServerProcess, wall_clock
from tests.ingest.exchange_servers.server import ExchangeServer
from tests.ingest.exchange_servers.tape import made_up

T0 = 1_709_251_200_000
SYMBOLS = [f"A{i:02}USDT" for i in range(25)]
SERVERS = {1: BinanceServer, 2: BinanceServer, 3: BybitServer, 4: BybitServer}


class Line:
    """A subscribed socket and its market's parser."""

    def __init__(self, market_id: int, socket: ClientConnection) -> None:
        self.market, self.socket = market(market_id), socket
        self.exchange = exchange_of(market_id)

    async def frame(self) -> Frame:
        async with asyncio.timeout(10):
            return self.exchange.parse_frame(self.market, await self.socket.recv())

    async def subscribe(self, symbols: list[str]) -> list[Frame]:
        answers = []
        for text in self.exchange.subscribe_frames(self.market, symbols):
            await self.socket.send(text)
            answers.append(await self.frame())
        return answers


@asynccontextmanager
async def line(market_id: int, base_url: str, symbols: list[str]) -> AsyncIterator[Line]:
    exchange = exchange_of(market_id)
    async with connect(exchange.stream_url(base_url, market(market_id), symbols)) as socket:
        yield Line(market_id, socket)


@pytest.fixture(params=SERVERS)
def served(request) -> Iterable[tuple[int, ExchangeServer]]:
    with SERVERS[request.param](lambda: T0 + 10 * MINUTE_MS) as server:
        server.tape(request.param).enlist(*SYMBOLS, first_ms=T0)
        yield request.param, server


def over(market_id: int, server: ExchangeServer, work: Callable[[Line], Any]) -> None:
    async def run() -> None:
        url = server.stream_url(market_id)
        async with line(market_id, url, SYMBOLS) as one:
            answers = await one.subscribe(SYMBOLS)
            assert all(answer == Frame("ack") for answer in answers)
            await asyncio.to_thread(server.wait_for_topics, market_id, len(SYMBOLS))
            await work(one)

    asyncio.run(run())


def test_subscribed_symbols_get_their_minutes(served) -> None:
    market_id, server = served

    async def work(one: Line) -> None:
        assert server.topics(market_id) == SYMBOLS
        await asyncio.to_thread(server.publish, market_id, "A03USDT", T0, closed=False)
        assert await one.frame() == Frame("kline", open_count=1)
        assert await asyncio.to_thread(server.burst, market_id, None, T0) == len(SYMBOLS)
        for symbol in SYMBOLS:
            (candle,) = (await one.frame()).candles
            told = made_up(symbol, T0)
            assert candle.instrument.symbol == symbol
            assert candle.instrument.market_id == market_id
            assert (candle.ts_open_ms, candle.close) == (T0, told.close)
            assert (candle.volume_base, candle.volume_quote) == (
                told.volume_base,
                told.volume_quote,
            )

    over(market_id, server, work)


def test_minutes_the_exchange_does_not_have_are_not_sent(served) -> None:
    market_id, server = served
    server.tape(market_id).drop("A00USDT", T0, T0 + MINUTE_MS)

    async def work(one: Line) -> None:
        assert await asyncio.to_thread(server.burst, market_id, None, T0) == len(SYMBOLS) - 1
        assert await asyncio.to_thread(server.publish, market_id, "A00USDT", T0 + MINUTE_MS) == 1
        opened = [(await one.frame()).candles[0].ts_open_ms - T0 for _ in SYMBOLS]
        assert opened == [0] * (len(SYMBOLS) - 1) + [MINUTE_MS]

    over(market_id, server, work)


def test_a_malformed_message_is_one_and_the_next_is_read(served) -> None:
    market_id, server = served

    async def work(one: Line) -> None:
        await asyncio.to_thread(server.send_text, "{not json")
        await asyncio.to_thread(server.publish, market_id, "A01USDT", T0)
        with pytest.raises(MalformedFrame):
            await one.frame()
        assert len((await one.frame()).candles) == 1

    over(market_id, server, work)


@pytest.mark.parametrize("mid_frame", [False, True])
def test_a_cut_socket_ends(served, mid_frame: bool) -> None:
    market_id, server = served

    async def work(one: Line) -> None:
        assert await asyncio.to_thread(lambda: server.drop_sockets(mid_frame=mid_frame)) == 1
        assert server.sockets == 0
        with pytest.raises(ConnectionClosed):
            await one.frame()

    over(market_id, server, work)


def test_a_handshake_may_be_refused(served) -> None:
    market_id, server = served
    server.refuse_streams = 1

    async def run() -> None:
        async with line(market_id, server.stream_url(market_id), SYMBOLS):
            pass

    with pytest.raises(InvalidStatus, match="503"):
        asyncio.run(run())
    asyncio.run(run())
    assert server.connections == 1


def test_heartbeats_are_answered(served) -> None:
    market_id, server = served

    async def work(one: Line) -> None:
        text = one.exchange.ping_frame()
        if text is None:  # the protocol's own
            await (await one.socket.ping())
            return
        await one.socket.send(text)
        assert await one.frame() == Frame("pong")
        server.silent = True
        await one.socket.send(text)
        await asyncio.to_thread(server.wait_for, lambda: len(server.frames) == 5)  # 3 subscribe
        server.silent = False
        await one.socket.send(text)
        assert await one.frame() == Frame("pong")

    over(market_id, server, work)


def test_bybit_refuses_more_than_ten_topics_and_unknown_ones() -> None:
    with BybitServer(lambda: T0) as server:
        server.tape(4).enlist(*SYMBOLS, first_ms=T0)

        async def run() -> None:
            async with line(4, server.stream_url(4), []) as one:
                topics = ",".join(f'"kline.1.{symbol}"' for symbol in SYMBOLS[:11])
                await one.socket.send(f'{{"op":"subscribe","args":[{topics}]}}')
                assert await one.frame() == Frame("ack", ok=False, message="args size >10")
                (refused,) = await one.subscribe(["NONESUCH"])
                assert not refused.ok
                assert "kline.1.NONESUCH" in refused.message
                server.refuse_acks = 1
                (refused,) = await one.subscribe(SYMBOLS[:1])
                assert not refused.ok
                assert server.topics(4) == []
                assert await one.subscribe(SYMBOLS[:1]) == [Frame("ack")]
                (refused,) = await one.subscribe(SYMBOLS[:2])
                assert refused.message == "error:already subscribed,topic:kline.1.A00USDT"
                assert server.topics(4) == SYMBOLS[:1]

        asyncio.run(run())


def test_binance_takes_only_lower_case_streams() -> None:
    with BinanceServer(lambda: T0) as server:
        server.tape(1).enlist("AUSDT", first_ms=T0)

        async def run() -> None:
            async with connect(f"{server.stream_url(1)}?streams=AUSDT@kline_1m"):
                await asyncio.to_thread(server.wait_for, lambda: server.sockets == 1)
                assert server.topics(1) == []

        asyncio.run(run())


def test_a_thousand_instruments_close_at_once_in_a_process_of_its_own() -> None:
    symbols = [f"B{i:04}USDT" for i in range(1_000)]
    minute_ms = wall_clock() // MINUTE_MS * MINUTE_MS - MINUTE_MS

    async def run(server: ServerProcess) -> set[str]:
        url = await asyncio.to_thread(server.stream_url, 4)
        async with line(4, url, symbols) as one:
            await one.subscribe(symbols)
            sent = asyncio.create_task(asyncio.to_thread(server.call, "burst", 4, None, minute_ms))
            found: set[str] = set()
            while len(found) < len(symbols):
                found |= {c.instrument.symbol for c in (await one.frame()).candles}
            assert await sent == len(symbols)
            return found

    with ServerProcess(BybitServer) as server:
        server.call("enlist", 4, *symbols, first_ms=minute_ms)
        assert asyncio.run(run(server)) == set(symbols)
