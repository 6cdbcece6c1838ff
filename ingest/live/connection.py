"""One socket of a market: subscribed, kept alive, replaced in time, opened again when it ends."""

from __future__ import annotations

import asyncio
import contextlib
import logging
import random
import time
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Any, Final

from websockets.asyncio.client import ClientConnection, connect
from websockets.exceptions import ConnectionClosed

from compute.errors import InvalidInput
from ingest.errors import ExchangeError
from ingest.exchanges.exchange import Exchange, Frame, Market
from ingest.live.complaints import Complaints, unreachable
from ingest.metrics import SocketMetrics

FRAME_BYTES: Final = 4 << 20
FRAMES_AHEAD: Final = 4096
"""Frames read from the network and not yet looked at; beyond it, TCP makes the exchange wait."""

log = logging.getLogger(__name__)

Heard = Callable[[bytes], Frame | None]
"""Takes a frame, and says what it was; None for one that could not be read."""


@dataclass(frozen=True, slots=True)
class SocketSettings:
    """How the sockets of a market behave; `url` is the exchange's address without symbols.

    A socket is opened again `reconnect_min_s` after it ended, and after failures
    `reconnect_factor` times as long up to `reconnect_max_s`, each with a random part of
    `reconnect_jitter_s` more. Without a closed candle for `idle_s` it is given up. When a socket
    is replaced, the old one stays until the new one has told something, `overlap_s` at most.
    `max_age_s` is the exchange's, where None. A socket whose end the exchange announces is replaced
    at once, but not before it is `reconnect_max_s` old: notice after notice makes no storm.

    Raises:
        InvalidInput: a blank url, a duration that is not positive, a factor below 1.
    """

    url: str
    ping_interval_s: float = 20.0
    pong_timeout_s: float = 10.0
    reconnect_min_s: float = 0.5
    reconnect_max_s: float = 30.0
    reconnect_factor: float = 1.7
    reconnect_jitter_s: float = 0.2
    max_symbols: int = 200
    open_timeout_s: float = 10.0
    ack_timeout_s: float = 5.0
    idle_s: float = 150.0
    overlap_s: float = 10.0
    close_timeout_s: float = 1.0
    max_age_s: float | None = None

    def __post_init__(self) -> None:
        if not self.url.strip():
            raise InvalidInput("ws.url is blank; name the exchange's stream")
        for name in (
            "ping_interval_s", "pong_timeout_s", "reconnect_min_s", "reconnect_max_s",
            "max_symbols", "open_timeout_s", "ack_timeout_s", "idle_s", "close_timeout_s",
        ):  # fmt: skip
            if not getattr(self, name) > 0:
                raise InvalidInput(f"ws.{name} must be > 0, got {getattr(self, name)}")
        if self.reconnect_factor < 1 or self.reconnect_jitter_s < 0:
            raise InvalidInput("ws.reconnect needs a factor >= 1 and a jitter >= 0")
        if self.reconnect_min_s > self.reconnect_max_s:
            raise InvalidInput("ws.reconnect has a min above its max")


class _Socket:
    """An open socket with its tasks."""

    def __init__(
        self, ws: ClientConnection, symbols: tuple[str, ...], now_s: float, life_s: float
    ) -> None:
        self.ws = ws
        self.symbols = symbols
        self.opened_s = now_s
        self.closed_candle_s = now_s
        self.replace_s = now_s + life_s
        """When it is to be replaced."""
        self.ending = False
        """Whether the exchange has announced its end."""
        self.told = asyncio.Event()
        self.reader: asyncio.Task[str] | None = None
        self.pinger: asyncio.Task[None] | None = None

    @property
    def ended(self) -> bool:
        return self.reader is None or self.reader.done()


class Connection:
    """Frames of a market's symbols to `heard`, for as long as `run` does.

    `connected` is told the symbols whose stream has just begun, or begun again.
    """

    def __init__(
        self,
        exchange: Exchange,
        market: Market,
        symbols: Sequence[str],
        settings: SocketSettings,
        metrics: SocketMetrics,
        *,
        heard: Heard,
        connected: Callable[[Collection[str]], None],
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self.market = market
        self.symbols = tuple(symbols)
        self.open = False
        """Whether its socket is open and subscribed."""
        self.failing: str | None = None
        """Why the last try brought no stream; None when it did."""
        self._exchange = exchange
        self._settings = settings
        self._metrics = metrics
        self._heard = heard
        self._connected = connected
        self._sleep = sleep
        self._monotonic = monotonic
        self._jitter = jitter
        self._complaints = Complaints()
        self._changed = False
        self._stirred = asyncio.Event()  # other symbols, or a socket that is about to end
        self._socket: _Socket | None = None
        market_id = market.market_id
        self._errors = metrics.errors.labels(market_id)
        self._gauge = metrics.connected.labels(market_id)

    def assign(self, symbols: Sequence[str]) -> None:
        """Changes the symbols: a socket with the new ones replaces the old one."""
        if tuple(symbols) != self.symbols:
            self.symbols = tuple(symbols)
            self._changed = True
            self._stirred.set()

    async def run(self) -> None:
        """Keeps a socket open until it is cancelled; then closes it, heard to its last frame."""
        settings = self._settings
        delay_s, connects = settings.reconnect_min_s, 0
        while True:
            try:
                self._socket = await self._opened()
                connects += 1
                if connects > 1:
                    self._metrics.reconnects.labels(self.market.market_id).inc()
                self._set_open(True)
                if self._complaints.over(settings.url):
                    log.info("%s: the stream of its symbols (%d) is there again", self.market.code,
                             len(self._socket.symbols))  # fmt: skip
                self._connected(self._socket.symbols)
                await self._hold()
            except Exception as error:
                self._errors.inc()
                reason = self.failing = unreachable(error, settings.url)
                if self._complaints.tells(settings.url, reason, self._monotonic()):
                    log.warning("%s: no stream of its symbols (%d): %s", self.market.code,
                                len(self.symbols), reason)  # fmt: skip
            finally:
                self._set_open(False)
                socket, self._socket = self._socket, None
                if socket is not None:
                    await self._dropped(socket)
            # An exchange that takes connections only to cut them gets no quick ones.
            if socket is not None and socket.told.is_set():
                delay_s = settings.reconnect_min_s
            await self._sleep(delay_s + settings.reconnect_jitter_s * self._jitter())
            delay_s = min(delay_s * settings.reconnect_factor, settings.reconnect_max_s)

    def _set_open(self, to: bool) -> None:
        if self.open != to:
            self.open = to
            self.failing = None if to else self.failing
            self._gauge.inc(1 if to else -1)

    async def _hold(self) -> None:
        """Replaces the socket when it is old or its symbols changed, until one ends.

        Raises:
            ExchangeError: the socket has ended, or brings nothing.
        """
        settings, failures = self._settings, 0
        while (socket := self._socket) is not None:
            idle_s = socket.closed_candle_s + settings.idle_s
            await self._woken(socket, min(idle_s, socket.replace_s) - self._monotonic())
            now_s = self._monotonic()
            if socket.ended:
                raise self._error(f"the socket has ended: {_end(socket)}")
            if now_s >= socket.closed_candle_s + settings.idle_s:
                self._metrics.idle.labels(self.market.market_id).inc()
                raise self._error(f"no closed candle for {settings.idle_s:g} s")
            if not self._changed and now_s < socket.replace_s:
                continue
            try:
                await self._replace(socket)
                failures = 0
            except Exception as error:  # the old one serves on
                self._errors.inc()
                failures += 1
                rest_s = settings.reconnect_min_s * settings.reconnect_factor ** min(failures, 30)
                socket.replace_s = self._monotonic() + min(rest_s, settings.reconnect_max_s)
                log.warning("%s: a socket could not be replaced: %s", self.market.code, error)

    def _life_s(self) -> float:
        """How long a socket may live; those that are opened together are not replaced together."""
        age_s = self._settings.max_age_s or self._exchange.max_connection_age_s
        return float("inf") if age_s is None else age_s * (1 - 0.05 * self._jitter())

    def _error(self, reason: str) -> ExchangeError:
        return ExchangeError(
            f"{self.market.code}: {reason}", market_id=self.market.market_id, retryable=True
        )

    async def _woken(self, socket: _Socket, seconds: float) -> None:
        """Returns when the socket ends or is to end, its symbols change, or the time is over."""
        assert socket.reader is not None
        waits: list[asyncio.Task[Any]] = [asyncio.create_task(self._stirred.wait())]
        if seconds != float("inf"):
            rest = self._sleep(max(0.0, seconds))
            waits.append(asyncio.ensure_future(rest))  # type: ignore[arg-type]
        try:
            await asyncio.wait((socket.reader, *waits), return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()
            self._stirred.clear()

    async def _replace(self, old: _Socket) -> None:
        """Puts a new socket in place of the old one, which is closed when the new one speaks."""
        new = await self._opened()
        try:
            assert new.reader is not None
            told = asyncio.create_task(new.told.wait())
            try:
                await asyncio.wait(
                    (told, new.reader),
                    timeout=self._settings.overlap_s,
                    return_when=asyncio.FIRST_COMPLETED,
                )
            finally:
                told.cancel()
            if new.ended:
                raise self._error(f"the new socket has ended: {_end(new)}")
        except BaseException:
            await self._dropped(new)
            raise
        self._socket = new
        self._metrics.rotations.labels(self.market.market_id).inc()
        begun = new.symbols if old.ended else sorted(set(new.symbols) - set(old.symbols))
        if begun:
            self._connected(begun)
        await self._dropped(old)

    async def _opened(self) -> _Socket:
        """A socket that is open, subscribed and read from."""
        settings, symbols = self._settings, self.symbols
        self._changed = False
        ws = await connect(
            self._exchange.stream_url(settings.url, self.market, symbols),
            open_timeout=settings.open_timeout_s,
            close_timeout=settings.close_timeout_s,
            ping_interval=settings.ping_interval_s,
            ping_timeout=settings.pong_timeout_s,
            compression=None,  # frames are small and many
            max_size=FRAME_BYTES,
            max_queue=FRAMES_AHEAD,
        )
        socket = _Socket(ws, symbols, self._monotonic(), self._life_s())
        try:
            await self._subscribe(socket)
        except BaseException:
            await self._dropped(socket)
            raise
        socket.reader = asyncio.create_task(self._read(socket), name=f"{self.market.code} reader")
        if self._exchange.ping_every_s is not None:
            socket.pinger = asyncio.create_task(self._ping(socket, self._exchange.ping_every_s))
        return socket

    async def _subscribe(self, socket: _Socket) -> None:
        """Subscribes batch by batch, each acknowledged.

        A batch that is refused is sent again symbol by symbol: a delisted one takes the others
        of its batch along, and would keep the whole socket from ever being subscribed.

        Raises:
            ExchangeError: an answer is missing, or every symbol is refused.
        """
        refused: dict[str, str] = {}
        for batch in self._batches(socket.symbols):
            reason = await self._refusal(socket, batch)
            if reason is None:
                continue
            if len(batch) == 1:
                refused[batch[0]] = reason
                continue
            for symbol in batch:
                reason = await self._refusal(socket, [symbol])
                if reason is not None:
                    refused[symbol] = reason
        if refused and len(refused) == len(socket.symbols):
            reason = next(iter(refused.values()))
            raise self._error(f"the subscription is refused: {reason}")
        for symbol, reason in refused.items():
            self._metrics.refused.labels(self.market.market_id).inc()
            log.error("%s: %s is not subscribed: %s", self.market.code, symbol, reason)

    def _batches(self, symbols: Sequence[str]) -> list[list[str]]:
        """The symbols as the exchange's messages take them; none where no message is needed."""
        if not self._exchange.subscribe_frames(self.market, symbols):
            return []
        batches: list[list[str]] = [[]]
        for symbol in symbols:
            if len(self._exchange.subscribe_frames(self.market, [*batches[-1], symbol])) > 1:
                batches.append([])
            batches[-1].append(symbol)
        return batches

    async def _refusal(self, socket: _Socket, batch: Sequence[str]) -> str | None:
        """Why the exchange refuses a subscription, None when it takes it.

        Candles that come while it makes up its mind are heard like any other.
        """
        for text in self._exchange.subscribe_frames(self.market, batch):
            await socket.ws.send(text)
        try:
            async with asyncio.timeout(self._settings.ack_timeout_s):
                while True:
                    frame = self._took(socket, await socket.ws.recv(decode=False))
                    if frame is not None and frame.kind == "ack":
                        return None if frame.ok else frame.message or "no reason given"
        except TimeoutError:
            raise self._error(
                f"no answer to a subscription within {self._settings.ack_timeout_s:g} s"
            ) from None

    def _took(self, socket: _Socket, payload: bytes) -> Frame | None:
        frame = self._heard(payload)
        if frame is not None and frame.kind == "kline":
            socket.told.set()
            if frame.candles:
                socket.closed_candle_s = self._monotonic()
        elif frame is not None and frame.kind == "ending" and not socket.ending:
            log.info("%s: the exchange is about to end a socket", self.market.code)
            socket.ending = True
            settings = self._settings
            early_s = max(self._monotonic(), socket.opened_s + settings.reconnect_max_s)
            early_s += settings.reconnect_jitter_s * self._jitter()  # others are told at once
            socket.replace_s = min(socket.replace_s, early_s)
            self._stirred.set()
        return frame

    async def _read(self, socket: _Socket) -> str:
        """Hears frames until the socket ends, and returns why it did."""
        try:
            while True:
                frame = self._took(socket, await socket.ws.recv(decode=False))
                if frame is not None and frame.kind == "ack" and not frame.ok:
                    self._errors.inc()
                    log.warning("%s: the exchange refuses: %s", self.market.code, frame.message)
        except ConnectionClosed as end:
            return str(end)

    async def _ping(self, socket: _Socket, every_s: float) -> None:
        """Sends the exchange's own heartbeat, until the socket ends."""
        text = self._exchange.ping_frame()
        with contextlib.suppress(ConnectionClosed):
            while text is not None:
                await self._sleep(every_s)
                await socket.ws.send(text)

    async def _dropped(self, socket: _Socket) -> None:
        """Closes a socket, and hears the frames that it had already received."""
        if socket.pinger is not None:
            socket.pinger.cancel()
        with contextlib.suppress(OSError, ConnectionClosed):
            await socket.ws.close()
        if socket.reader is not None:
            await asyncio.wait({socket.reader}, timeout=self._settings.close_timeout_s)
            socket.reader.cancel()


def _end(socket: _Socket) -> str:
    reader = socket.reader
    if reader is None or reader.cancelled() or not reader.done():
        return "it was closed"
    error = reader.exception()
    return reader.result() if error is None else str(error)
