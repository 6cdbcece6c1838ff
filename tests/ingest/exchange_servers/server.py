"""A server that speaks REST and WebSocket as an exchange does, on 127.0.0.1, in its own thread.

`BinanceServer` and `BybitServer` add the shapes. Tests list symbols on `server.tape(market_id)`,
point a client at `server.rest_url` and `server.stream_url(market_id)`, and script faults and
messages through methods, which may be called from any thread:

    with BybitServer(clock) as server:
        server.tape(4).enlist("BTCUSDT", first_ms=...)
        server.fail(status=429, times=2, retry_after_s=3)
        server.publish(4, "BTCUSDT", minute_ms, closed=True)

Messages and requests are answered in order. A method that sends returns when everything has been
handed to the kernel; from a coroutine call it as `await asyncio.to_thread(server.burst, ...)`, so
that the client's loop can read meanwhile.
"""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Callable, Coroutine, Iterable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime
from email.utils import format_datetime
from typing import Any, Literal, TypeVar

from aiohttp import WSMsgType, web

from tests.ingest.exchange_servers.tape import MINUTE_MS, Tape

T = TypeVar("T")
Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class Seen:
    """A request that arrived, and the status it was answered with."""

    path: str
    params: Mapping[str, str]
    status: int
    at_ms: int


@dataclass(slots=True)
class Fault:
    """How the next answers go wrong."""

    kind: Literal["answer", "truncate", "garbage", "hang", "reset"]
    status: int = 200
    body: Any = None
    headers: Mapping[str, str] = field(default_factory=dict)
    path: str = ""
    times: int = 1


@dataclass(slots=True, eq=False)
class Socket:
    """A WebSocket connection and what it has subscribed to."""

    market_id: int
    ws: web.WebSocketResponse
    request: web.Request
    topics: dict[str, None] = field(default_factory=dict)


class ExchangeServer:
    """What the servers of all exchanges share: the thread, the faults, the sockets."""

    market_ids: tuple[int, ...] = ()
    rest_paths: tuple[str, ...] = ()
    stream_paths: Mapping[str, int] = {}
    """Path of each market's stream."""

    def __init__(self, clock: Clock, *, port: int = 0) -> None:
        self.clock = clock
        self.tapes = {market_id: Tape() for market_id in self.market_ids}
        self.seen: list[Seen] = []
        self.frames: list[str] = []
        """Text messages that clients sent, in order."""
        self.connections = 0
        """WebSockets accepted so far."""
        self.silent = False
        """Whether answers to client messages are withheld (acks, pongs)."""
        self.refuse_streams = 0
        """So many next WebSocket handshakes are answered 503."""
        self._faults: list[Fault] = []
        self._sockets: list[Socket] = []
        self._released = asyncio.Event()
        self._port = port
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, daemon=True)

    def __enter__(self):
        self._thread.start()
        self._run(self._start())
        return self

    def __exit__(self, *_: object) -> None:
        self._run(self._stop())
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    @property
    def rest_url(self) -> str:
        """Base URL of REST, of every market."""
        return f"http://127.0.0.1:{self._port}"

    def stream_url(self, market_id: int) -> str:
        """Base URL of a market's stream."""
        path = next(path for path, at in self.stream_paths.items() if at == market_id)
        return f"ws://127.0.0.1:{self._port}{path}"

    def tape(self, market_id: int) -> Tape:
        """The tape of a market."""
        return self.tapes[market_id]

    @property
    def kline_requests(self) -> list[Seen]:
        """The requests for klines that arrived, refused ones included."""
        return [one for one in self.seen if "kline" in one.path]

    @property
    def sockets(self) -> int:
        """Number of open WebSockets."""
        return len(self._sockets)

    def topics(self, market_id: int) -> list[str]:
        """Symbols subscribed on any open socket of a market, in order, repeats included."""
        return [s for one in self._sockets if one.market_id == market_id for s in one.topics]

    # Faults of REST

    def fail(
        self,
        *,
        status: int = 500,
        times: int = 1,
        retry_after_s: float | None = None,
        body: Any = None,
        headers: Mapping[str, str] | None = None,
        path: str = "",
    ) -> None:
        """Answers the next `times` requests, to paths that contain `path`, with an error.

        A new client may ask for the host's limits first; `path="kline"` leaves that alone.
        """
        extra = dict(headers or {})
        if retry_after_s is not None:
            extra["Retry-After"] = f"{retry_after_s:g}"
        self._faults.append(Fault("answer", status, body, extra, path, times))

    def refuse(self, code: int, message: str, *, times: int = 1, status: int = 200) -> None:
        """Answers the next requests with an error in the exchange's own words."""
        self.fail(status=status, times=times, body=self.error_body(code, message))

    def truncate(self, times: int = 1, path: str = "") -> None:
        """Breaks the connection in the middle of the next answers."""
        self._faults.append(Fault("truncate", path=path, times=times))

    def garble(self, times: int = 1, path: str = "") -> None:
        """Answers 200 with what is no JSON."""
        self._faults.append(Fault("garbage", path=path, times=times))

    def reset(self, times: int = 1, path: str = "") -> None:
        """Closes the connection of the next requests without an answer."""
        self._faults.append(Fault("reset", path=path, times=times))

    def hang(self, times: int = 1, path: str = "") -> None:
        """Does not answer the next requests, until `release` or the end."""
        self._faults.append(Fault("hang", path=path, times=times))

    def release(self) -> None:
        """Answers what hangs."""
        self._loop.call_soon_threadsafe(self._released.set)

    # Messages and faults of WebSocket

    def publish(self, market_id: int, symbol: str, minute_ms: int, *, closed: bool = True) -> int:
        """Sends a minute of a symbol to its subscribers; the number of messages sent."""
        return self.burst(market_id, [symbol], minute_ms, closed=closed)

    def burst(
        self,
        market_id: int,
        symbols: Iterable[str] | None,
        minute_ms: int,
        *,
        closed: bool = True,
    ) -> int:
        """Sends a minute of many symbols, as fast as the sockets take it; the messages sent.

        None is every symbol that somebody subscribed to. Minutes that the exchange does not have
        are not sent.
        """
        wanted = None if symbols is None else set(symbols)
        return self._run(self._burst(market_id, wanted, minute_ms, closed))

    def send_text(self, text: str, market_id: int | None = None) -> int:
        """Sends a text to every open socket (of a market); the messages sent."""
        return self._run(self._send_text(text, market_id))

    def drop_sockets(self, *, mid_frame: bool = False, market_id: int | None = None) -> int:
        """Cuts open sockets without a closing handshake, if asked inside a message; how many."""
        return self._run(self._drop(mid_frame, market_id))

    def wait_for(self, condition: Callable[[], bool], timeout_s: float = 10.0) -> None:
        """Returns when the condition holds; it is looked at in the server's thread.

        Raises:
            TimeoutError: it did not come to hold.
        """
        self._run(self._wait_for(condition), timeout_s)

    def wait_for_topics(self, market_id: int, count: int, timeout_s: float = 10.0) -> None:
        """Returns when `count` symbols of a market are subscribed."""
        self.wait_for(lambda: len(self.topics(market_id)) >= count, timeout_s)

    # What an exchange adds

    def error_body(self, code: int, message: str) -> Any:
        """The body of an error."""
        raise NotImplementedError

    def answer(self, path: str, params: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        """Status, JSON and headers of a request."""
        raise NotImplementedError

    def greet(self, socket: Socket) -> None:
        """Subscribes a socket to what its address asks for."""

    def reply(self, socket: Socket, message: Any) -> str | None:
        """The answer to a client's message."""
        raise NotImplementedError

    def kline_text(self, market_id: int, symbol: str, minute_ms: int, closed: bool) -> str | None:
        """The message of a symbol's minute, None where the exchange does not have it."""
        raise NotImplementedError

    # The thread

    def _run(self, work: Coroutine[Any, Any, T], timeout_s: float | None = 60.0) -> T:
        return asyncio.run_coroutine_threadsafe(work, self._loop).result(timeout_s)

    async def _start(self) -> None:
        app = web.Application()
        for path in self.rest_paths:
            app.router.add_get(path, self._rest)
        for path in self.stream_paths:
            app.router.add_get(path, self._stream)
        self._runner = web.AppRunner(app, shutdown_timeout=0.1, access_log=None)
        await self._runner.setup()
        site = web.TCPSite(self._runner, "127.0.0.1", self._port, reuse_address=True)
        await site.start()
        self._port = self._runner.addresses[0][1]

    async def _stop(self) -> None:
        self._released.set()
        await self._drop(False, None)
        await self._runner.cleanup()

    async def _rest(self, request: web.Request) -> web.StreamResponse:
        path, params = request.path, dict(request.query)
        fault = self._fault(path)
        if fault is not None and fault.kind == "answer":
            status, body, headers = fault.status, fault.body, dict(fault.headers)
        else:
            status, body, headers = self.answer(path, params)
        headers["Date"] = format_datetime(datetime.fromtimestamp(self.clock() // 1000, UTC), True)
        self.seen.append(Seen(path, params, status, self.clock()))
        kind = fault.kind if fault is not None else "answer"
        if kind == "hang":
            await self._released.wait()
        if kind in ("truncate", "reset"):
            return await self._broken(request, kind)
        if kind == "garbage":
            return web.Response(text="<html>not what was asked for", content_type="text/html")
        if isinstance(body, str):
            return web.Response(text=body, status=status, headers=headers)
        if body is None:
            return web.Response(status=status, headers=headers)
        return web.json_response(body, status=status, headers=headers)

    async def _broken(self, request: web.Request, kind: str) -> web.StreamResponse:
        response = web.StreamResponse(headers={"Content-Type": "application/json"})
        if kind == "truncate":
            response.content_length = 10_000
            await response.prepare(request)
            await response.write(b'[[1700000000000,"1.')
        if request.transport is not None:
            request.transport.close()
        return response

    def _fault(self, path: str) -> Fault | None:
        for fault in self._faults:
            if fault.path in path:
                fault.times -= 1
                if fault.times <= 0:
                    self._faults.remove(fault)
                return fault
        return None

    async def _stream(self, request: web.Request) -> web.StreamResponse:
        if self.refuse_streams > 0:
            self.refuse_streams -= 1
            return web.Response(status=503)
        ws = web.WebSocketResponse(compress=False, autoclose=True)
        await ws.prepare(request)
        socket = Socket(self.stream_paths[request.path], ws, request)
        self.connections += 1
        self.greet(socket)
        self._sockets.append(socket)
        try:
            async for message in ws:
                if message.type is WSMsgType.TEXT:
                    self.frames.append(message.data)
                    answer = self.reply(socket, message.data)
                    if answer is not None and not self.silent:
                        await ws.send_str(answer)
        finally:
            if socket in self._sockets:
                self._sockets.remove(socket)
        return ws

    async def _burst(
        self, market_id: int, wanted: set[str] | None, minute_ms: int, closed: bool
    ) -> int:
        sent = 0
        texts: dict[str, str | None] = {}
        for socket in list(self._sockets):
            if socket.market_id != market_id:
                continue
            for symbol in list(socket.topics):
                if wanted is not None and symbol not in wanted:
                    continue
                if symbol not in texts:
                    texts[symbol] = self.kline_text(market_id, symbol, minute_ms, closed)
                text = texts[symbol]
                if text is not None:
                    await socket.ws.send_str(text)
                    sent += 1
        return sent

    async def _send_text(self, text: str, market_id: int | None) -> int:
        chosen = [s for s in self._sockets if market_id in (None, s.market_id)]
        for socket in chosen:
            await socket.ws.send_str(text)
        return len(chosen)

    async def _drop(self, mid_frame: bool, market_id: int | None) -> int:
        chosen = [s for s in self._sockets if market_id in (None, s.market_id)]
        for socket in chosen:
            self._sockets.remove(socket)
            transport = socket.request.transport
            if transport is not None:
                if mid_frame:  # a text message of 1000 bytes, of which 40 arrive
                    transport.write(
                        b"\x81\x7e\x03\xe8" + b'{"topic":"kline.1.BTCUSDT","data":[{"st'
                    )
                transport.close()
        return len(chosen)

    async def _wait_for(self, condition: Callable[[], bool]) -> None:
        while not condition():
            await asyncio.sleep(0.002)


def floor_minute(ms: int) -> int:
    """The minute that `ms` lies in."""
    return ms // MINUTE_MS * MINUTE_MS
