"""One socket against a server of an exchange: acks, pings, rotation, watchdog, reconnects."""

from __future__ import annotations

import asyncio
import json
from collections.abc import AsyncIterator, Awaitable, Callable, Collection
from contextlib import asynccontextmanager
from typing import Any

import pytest
from prometheus_client import CollectorRegistry
from websockets.utils import accept_key

from compute.errors import InvalidInput
from ingest.exchanges.binance import Binance
from ingest.exchanges.bybit import Bybit
from ingest.exchanges.exchange import Exchange, Frame
from ingest.exchanges.registry import market
from ingest.live.connection import Connection, SocketSettings
from ingest.metrics import SocketMetrics
from ingest.rows import MINUTE_MS, Candle
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.bybit import BybitServer
from tests.ingest.exchange_servers.server import ExchangeServer
from tests.ingest.exchanges.frames import BINANCE_SHUTDOWN
from tests.ingest.live.stage import QUICK_SOCKETS, START_MS, Hand, until

SPOT, LINEAR = 1, 4


class Case:
    """A connection to a server, and what it has heard."""

    def __init__(
        self,
        server: ExchangeServer,
        market_id: int,
        symbols: Collection[str],
        exchange: Exchange,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        **settings: Any,
    ) -> None:
        self.server, self.market_id = server, market_id
        self.registry = CollectorRegistry()
        self.candles: list[Candle] = []
        self.begun: list[list[str]] = []
        self.exchange = exchange
        url = server.stream_url(market_id)
        self.connection = Connection(
            exchange,
            market(market_id),
            sorted(symbols),
            SocketSettings(**{"url": url, **QUICK_SOCKETS, **settings}),
            SocketMetrics(self.registry),
            heard=self._heard,
            connected=lambda symbols: self.begun.append(sorted(symbols)),
            sleep=sleep,
        )

    def _heard(self, payload: bytes) -> Frame:
        frame = self.exchange.parse_frame(market(self.market_id), payload)
        self.candles += frame.candles
        return frame

    @property
    def minutes(self) -> list[tuple[str, int]]:
        return [(c.instrument.symbol, (c.ts_open_ms - START_MS) // MINUTE_MS) for c in self.candles]

    def value(self, name: str) -> float:
        found = self.registry.get_sample_value(name, {"market_id": str(self.market_id)})
        assert found is not None
        return found

    async def publish(self, symbol: str, minute: int, *, closed: bool = True) -> int:
        at_ms = START_MS + minute * MINUTE_MS
        return await asyncio.to_thread(
            self.server.publish, self.market_id, symbol, at_ms, closed=closed
        )

    async def subscribed(self, count: int) -> None:
        await until(lambda: len(self.server.topics(self.market_id)) >= count)

    @asynccontextmanager
    async def running(self) -> AsyncIterator[Case]:
        task = asyncio.create_task(self.connection.run())
        try:
            yield self
        finally:
            task.cancel()
            await asyncio.wait({task}, timeout=30)
            assert task.done()
            assert not self.connection.open
            assert self.value("ws_connected") == 0


def tell(story: Callable[[], Awaitable[None]]) -> None:
    asyncio.run(asyncio.wait_for(story(), 120))


def bybit_server(*symbols: str) -> BybitServer:
    server = BybitServer(Hand())
    server.tape(LINEAR).enlist(*symbols, first_ms=START_MS)
    return server


def binance_server(*symbols: str) -> BinanceServer:
    server = BinanceServer(Hand())
    server.tape(SPOT).enlist(*symbols, first_ms=START_MS)
    return server


def test_subscriptions_go_in_batches_each_acknowledged() -> None:
    symbols = [f"S{n:02d}" for n in range(25)]

    async def story() -> None:
        with bybit_server(*symbols) as server:
            case = Case(server, LINEAR, symbols, Bybit())
            async with case.running():
                await until(lambda: case.connection.open)
                assert server.topics(LINEAR) == symbols
                sizes = [len(json.loads(text)["args"]) for text in server.frames]
                assert sizes == [10, 10, 5]
                assert case.begun == [symbols]
                await case.publish("S24", 0)
                await until(lambda: case.minutes == [("S24", 0)])

    tell(story)


def test_candles_that_come_before_the_ack_are_heard() -> None:
    async def story() -> None:
        with bybit_server("A") as server:
            server.silent = True  # subscribes, and does not say so
            case = Case(server, LINEAR, ["A"], Bybit())
            async with case.running():
                await case.subscribed(1)
                await case.publish("A", 0)
                await until(lambda: case.minutes == [("A", 0)])
                assert not case.connection.open
                ack = '{"success":true,"ret_msg":"","op":"subscribe","conn_id":"1"}'
                await asyncio.to_thread(server.send_text, ack)
                await until(lambda: case.connection.open)
            assert server.connections == 1

    tell(story)


def test_an_ack_that_is_missing_is_a_reconnect() -> None:
    async def story() -> None:
        with bybit_server("A") as server:
            server.silent = True
            case = Case(server, LINEAR, ["A"], Bybit(), ack_timeout_s=0.1)
            async with case.running():
                await until(lambda: case.value("ws_errors_total") >= 2)
                server.silent = False
                await until(lambda: case.connection.open)

    tell(story)


def test_a_refused_symbol_does_not_take_its_batch_along() -> None:
    async def story() -> None:
        with bybit_server("A", "C") as server:
            case = Case(server, LINEAR, ["A", "B", "C"], Bybit())  # B is delisted
            async with case.running():
                await until(lambda: case.connection.open)
                assert server.topics(LINEAR) == ["A", "C"]
                assert case.value("ws_refused_symbols_total") == 1
                assert case.value("ws_errors_total") == 0

    tell(story)


def test_only_the_batch_that_is_refused_is_sent_symbol_by_symbol() -> None:
    symbols = [f"S{n:02d}" for n in range(25)]

    async def story() -> None:
        with bybit_server(*symbols[:12], *symbols[13:]) as server:  # not S12
            case = Case(server, LINEAR, symbols, Bybit())
            async with case.running():
                await until(lambda: case.connection.open)
                sizes = [len(json.loads(text)["args"]) for text in server.frames]
                assert sizes == [10, 10, *[1] * 10, 5]
                assert len(server.topics(LINEAR)) == 24

    tell(story)


def test_a_subscription_that_is_refused_altogether_is_a_reconnect() -> None:
    async def story() -> None:
        with bybit_server("A", "B") as server:
            server.refuse_acks = 3  # the batch, and each of it
            case = Case(server, LINEAR, ["A", "B"], Bybit())
            async with case.running():
                await until(lambda: case.connection.open)
                assert server.connections == 2
                assert case.value("ws_errors_total") == 1

    tell(story)


def test_the_pings_of_the_exchange_are_sent() -> None:
    class Restless(Bybit):
        ping_every_s = 0.02

    async def story() -> None:
        with bybit_server("A") as server:
            case = Case(server, LINEAR, ["A"], Restless())
            async with case.running():
                await until(lambda: server.pings >= 3)
                assert case.value("ws_errors_total") == 0

    tell(story)


def test_a_socket_is_replaced_before_it_is_too_old_and_loses_nothing() -> None:
    async def story() -> None:
        with binance_server("A", "B") as server:
            case = Case(server, SPOT, ["A", "B"], Binance(), max_age_s=0.2)
            async with case.running():
                await case.subscribed(2)
                minute = 0
                while case.value("ws_rotations_total") < 3:
                    assert await case.publish("A", minute) >= 1  # somebody always listens
                    minute += 1
                await until(lambda: ("A", minute - 1) in case.minutes)
            assert server.connections >= 4
            assert {at for _, at in case.minutes} == set(range(minute))
            assert case.value("ws_reconnects_total") == 0
            assert case.value("ws_errors_total") == 0
            assert case.begun == [["A", "B"]]  # no stream has begun anew

    tell(story)


def test_a_socket_whose_end_is_announced_is_replaced_before_it_comes() -> None:
    async def story() -> None:
        with binance_server("A") as server:
            case = Case(server, SPOT, ["A"], Binance(), reconnect_max_s=0.2)
            async with case.running():
                await case.subscribed(1)
                await asyncio.to_thread(server.send_text, BINANCE_SHUTDOWN)
                minute = 0
                while case.value("ws_rotations_total") < 1:
                    assert await case.publish("A", minute) >= 1  # somebody always listens
                    minute += 1
                await until(lambda: server.sockets == 1)
                await case.publish("A", minute)
                await until(lambda: ("A", minute) in case.minutes)
            assert {at for _, at in case.minutes} == set(range(minute + 1))
            assert server.connections == 2
            assert case.begun == [["A"]]
            assert case.value("ws_reconnects_total") == case.value("ws_errors_total") == 0

    tell(story)


def test_notice_after_notice_makes_no_storm() -> None:
    async def story() -> None:
        with binance_server("A") as server:
            case = Case(server, SPOT, ["A"], Binance(), reconnect_max_s=3600)
            async with case.running():
                await case.subscribed(1)
                for minute in range(20):
                    await asyncio.to_thread(server.send_text, BINANCE_SHUTDOWN)
                    await case.publish("A", minute)
                await until(lambda: len(case.minutes) == 20)
                assert server.connections == 1  # it is too young to be replaced
                await asyncio.to_thread(server.drop_sockets)
                await until(lambda: server.connections == 2)

    tell(story)


def test_the_old_socket_serves_on_while_it_cannot_be_replaced() -> None:
    async def story() -> None:
        with binance_server("A") as server:
            case = Case(server, SPOT, ["A"], Binance(), max_age_s=0.1)
            async with case.running():
                await case.subscribed(1)
                server.refuse_streams = 5
                await until(lambda: server.refuse_streams == 0)
                assert await case.publish("A", 0) >= 1
                await until(lambda: ("A", 0) in case.minutes)
                while case.value("ws_rotations_total") < 1:
                    await case.publish("A", 1, closed=False)
            assert case.value("ws_errors_total") >= 5
            assert case.value("ws_reconnects_total") == 0

    tell(story)


def test_a_socket_without_closed_candles_is_given_up() -> None:
    async def story() -> None:
        with binance_server("A") as server:
            case = Case(server, SPOT, ["A"], Binance(), idle_s=0.3)
            async with case.running():
                while case.value("ws_idle_total") < 2:
                    await case.publish("A", 0, closed=False)  # it speaks, and closes nothing
            assert case.value("ws_reconnects_total") >= 1
            assert len(case.begun) >= 2

    tell(story)


def test_changed_symbols_get_a_new_socket_while_the_old_one_serves() -> None:
    async def story() -> None:
        with binance_server("A", "B", "C") as server:
            case = Case(server, SPOT, ["A", "B"], Binance())
            async with case.running():
                await case.subscribed(2)
                await case.publish("B", 0)
                case.connection.assign(["B", "C"])
                while case.value("ws_rotations_total") < 1:
                    assert await case.publish("B", 1) >= 1
                await until(lambda: server.topics(SPOT) == ["B", "C"])
                assert case.begun == [["A", "B"], ["C"]]
                case.connection.assign(["B", "C"])  # no change
                await case.publish("C", 2)
                await until(lambda: ("C", 2) in case.minutes)
            assert server.connections == 2

    tell(story)


def test_what_a_socket_had_received_is_heard_before_it_goes() -> None:
    async def story() -> None:
        with binance_server("A") as server:
            case = Case(server, SPOT, ["A"], Binance(), close_timeout_s=30)
            async with case.running():
                await until(lambda: case.connection.open)
                for minute in range(300):
                    server.publish(SPOT, "A", START_MS + minute * MINUTE_MS)  # the loop stands
            assert [at for _, at in case.minutes] == list(range(300))

    tell(story)


def test_rests_grow_while_connects_fail_and_start_anew_after_a_stream(
    caplog: pytest.LogCaptureFixture,
) -> None:
    caplog.set_level("INFO", "ingest.live.connection")
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        if seconds < 100:  # not the watchdog
            rests.append(seconds)
            await asyncio.sleep(0)
        else:
            await asyncio.Event().wait()

    async def story() -> None:
        with binance_server("A") as server:
            server.refuse_streams = 6
            case = Case(
                server,
                SPOT,
                ["A"],
                Binance(),
                sleep,
                reconnect_min_s=1.0,
                reconnect_max_s=5.0,
                reconnect_factor=2.0,
                reconnect_jitter_s=0.0,
            )
            async with case.running():
                await case.subscribed(1)
                assert rests == [1.0, 2.0, 4.0, 5.0, 5.0, 5.0]
                await until(lambda: len(caplog.records) == 2)  # it is told once it is heard
                refused, mended = (one.getMessage() for one in caplog.records)
                assert refused.startswith("binance:spot: no stream of its symbols (1): ")
                assert mended == "binance:spot: the stream of its symbols (1) is there again"
                await asyncio.to_thread(server.drop_sockets)  # a stream that said nothing
                await until(lambda: len(rests) == 7)
                assert rests[-1] == 5.0
                await case.subscribed(1)
                await case.publish("A", 0)
                await until(lambda: len(case.candles) == 1)
                await asyncio.to_thread(server.drop_sockets)
                await until(lambda: len(rests) == 8)
                assert rests[-1] == 1.0

    tell(story)


@pytest.mark.parametrize(
    "settings",
    [
        {"url": " "},
        {"ping_interval_s": 0},
        {"reconnect_factor": 0.9},
        {"reconnect_min_s": 40.0},
        {"reconnect_jitter_s": -1},
        {"max_symbols": 0},
    ],
)
def test_settings_are_checked(settings: dict[str, Any]) -> None:
    with pytest.raises(InvalidInput):
        SocketSettings(**{"url": "ws://x", **settings})


async def _mute(reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
    """Opens a WebSocket and is dead from then on: no frame, no pong, no end."""
    head = (await reader.readuntil(b"\r\n\r\n")).decode("latin-1")
    key = next(line.split(": ", 1)[1] for line in head.splitlines() if "Sec-WebSocket-Key" in line)
    accept = accept_key(key)
    writer.write(
        b"HTTP/1.1 101 Switching Protocols\r\nUpgrade: websocket\r\nConnection: Upgrade\r\n"
        b"Sec-WebSocket-Accept: " + accept.encode() + b"\r\n\r\n"
    )
    while await reader.read(4096):
        pass
    writer.close()


def test_a_peer_that_answers_no_ping_is_given_up() -> None:
    async def story() -> None:
        server = await asyncio.start_server(_mute, "127.0.0.1", 0)
        port = server.sockets[0].getsockname()[1]
        with binance_server("A") as unused:
            case = Case(
                unused, SPOT, ["A"], Binance(), url=f"ws://127.0.0.1:{port}/stream",
                ping_interval_s=0.05, pong_timeout_s=0.05, close_timeout_s=0.05,
            )  # fmt: skip
            async with case.running():
                await until(lambda: case.value("ws_reconnects_total") >= 2)
        server.close()

    tell(story)
