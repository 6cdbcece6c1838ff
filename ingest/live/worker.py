"""The live worker: closed candles from every socket to the store and to Redis, gaps to the fills.

A candle goes into the insert buffer, then to Redis if it takes it, then past the gap tracker. What
no socket brought is fetched: from the last stored minute to now whenever a stream begins (tail),
and between two candles that do not follow each other (gap).
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import deque
from collections.abc import Awaitable, Callable, Collection, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final
from uuid import uuid4

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.exchanges.exchange import Exchange, Frame, Market
from ingest.exchanges.registry import exchange_of, market
from ingest.live.buffer import BufferSettings, Insert, InsertBuffer
from ingest.live.connection import Connection, SocketSettings
from ingest.live.feed import Client, Feed, FeedSettings
from ingest.live.fills import Fill, FillQueue, FillSettings, FillTask
from ingest.live.placement import Places, placed
from ingest.live.tails import Tails
from ingest.live.tracker import Tracker
from ingest.metrics import LiveMetrics
from ingest.rows import DAY_MS, MINUTE_MS, Candle, Origin, floor_minute

QUARANTINED: Final = 100
QUARANTINED_BYTES: Final = 2000
FEED_S: Final = 2.0
"""What a shutdown waits for Redis: it is best effort, and the store comes first."""
PLAUSIBLE_MS: Final = DAY_MS
"""How far from our clock a live candle may be: one of another day is no live candle."""
UNREAD: Final = "the list of instruments has not been read yet"
NOTHING: Final = (
    "no instrument with a stream is active, so nothing is followed; run "
    "`roehub ingest sync-instruments` over a whitelist that enables some (an embedded store is "
    "taken meanwhile: run it before this process, or start this one with --schedule)"
)

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class WorkerSettings:
    """The list of instruments is read again every `refresh_s`; a shutdown takes `grace_s` at most,
    which has to be less than what the container grants."""

    refresh_s: float = 60.0
    grace_s: float = 8.0
    buffer: BufferSettings = field(default_factory=BufferSettings)
    feed: FeedSettings = field(default_factory=FeedSettings)
    fills: FillSettings = field(default_factory=FillSettings)


@dataclass(frozen=True, slots=True)
class Access:
    """What a worker is given to the outside; all but `fill` may block, they run in threads.

    `insert` stores rows. `active` are the instruments to follow. `last_minutes` are the newest
    stored minutes of instruments, of those that open before a time; one without is left out.
    `fill` fetches a task's minutes and stores those that are missing; those of a `gap` are closed
    whatever our clock says, for a later one has come. `earliest_ms` is where an instrument's
    history may begin.
    """

    insert: Insert
    active: Callable[[], Sequence[Instrument]]
    last_minutes: Callable[[Sequence[Instrument], int], Mapping[Instrument, int]]
    fill: Fill
    earliest_ms: Callable[[Instrument], int]


@dataclass(frozen=True, slots=True)
class Quarantined:
    """A frame or candle that was not taken, and why."""

    market_id: int
    received_ms: int
    reason: str
    text: str


class Worker:
    """Follows the active instruments of the markets it has sockets for, while `run` does."""

    def __init__(
        self,
        sockets: Mapping[int, SocketSettings],
        access: Access,
        metrics: LiveMetrics,
        *,
        clock: Callable[[], int],
        redis: Client | None = None,
        settings: WorkerSettings | None = None,
        ingest_id: str | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        monotonic: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sockets = dict(sockets)
        self._access = access
        self._metrics = metrics.sockets
        self._clock = clock
        self._settings = settings or WorkerSettings()
        self._sleep = sleep
        self._monotonic = monotonic
        self._ingest_id = ingest_id or str(uuid4())
        self.tracker = Tracker()
        self.quarantine: deque[Quarantined] = deque(maxlen=QUARANTINED)
        self.fills = FillQueue(
            access.fill, metrics.fills, clock=clock, settings=self._settings.fills, sleep=sleep
        )
        self.buffer = InsertBuffer(
            access.insert,
            metrics.inserts,
            clock=clock,
            settings=self._settings.buffer,
            lost=lambda instrument, period: self._fill(instrument, period, "gap"),
            sleep=sleep,
        )
        self.feed = None
        if redis is not None:
            self.feed = Feed(redis, metrics.feed, clock=clock, settings=self._settings.feed)
        self.tails = Tails(access.last_minutes, access.earliest_ms, self._fill_tail, sleep=sleep)
        self._followed: dict[Instrument, int] = {}
        """Since when, for those that have not told anything yet."""
        self._connections: dict[Connection, asyncio.Task[None]] = {}
        self._without_socket: set[int] = set()
        self._unfollowed: str | None = UNREAD
        """Why nothing is followed; None when something is."""

    @property
    def connections(self) -> list[Connection]:
        """The sockets there are or should be."""
        return list(self._connections)

    async def run(self, stop: asyncio.Event) -> int:
        """Works until `stop`, then shuts down; returns how many candles could not be stored.

        Raises:
            RoehubError: the list of instruments cannot be had at the start.
        """
        active = await self.tails.threads.run(self._access.active)
        essential = {self.buffer.start(), asyncio.create_task(self.tails.run(), name="tails")}
        if self.feed is not None:
            essential.add(self.feed.start())
        self.fills.start()
        self._follow(active)
        essential.add(asyncio.create_task(self._refreshed(), name="instruments"))
        stopped = asyncio.create_task(stop.wait())
        try:
            done, _ = await asyncio.wait({stopped, *essential}, return_when=asyncio.FIRST_COMPLETED)
            for task in done - {stopped}:
                task.result()  # none ends by itself, but by a fault of ours
        finally:
            stopped.cancel()
            left = await self._closed(essential)
        return left

    def refresh_metrics(self) -> None:
        """Sets the gauges that depend on the time."""
        now_ms = self._clock()
        lags: list[tuple[Instrument, float]] = []
        for instrument, since_ms in self._followed.items():
            last_ms = self.tracker.last_ms(instrument)
            closed_ms = since_ms if last_ms is None else last_ms + MINUTE_MS
            lags.append((instrument, (now_ms - closed_ms) / 1000))
        self._metrics.stale(lags)
        self.buffer.refresh_metrics()

    async def trouble(self) -> str | None:
        """What keeps the worker from its work now, None when nothing does."""
        if self._unfollowed is not None:
            return self._unfollowed
        shut = [one for one in self._connections if not one.open]
        if shut:
            return f"{len(shut)} of {len(self._connections)} sockets are not connected"
        if self.buffer.failures:
            return f"the store does not take candles; {len(self.buffer)} wait"
        return None

    # Instruments

    @property
    def is_unread(self) -> bool:
        """Whether the list of instruments was not read yet; may be asked by any thread."""
        return self._unfollowed == UNREAD

    def follows(self, instrument: Instrument) -> bool:
        """Whether the stream of an instrument is open, or should be; may be asked by any thread."""
        return instrument in self._followed

    def unreached(self, instrument: Instrument) -> str | None:
        """Why the stream of an instrument is not there, None where it is or was not yet tried; may
        be asked by any thread."""
        for one in self.connections:
            if one.market.market_id == instrument.market_id and instrument.symbol in one.symbols:
                return one.failing
        return None

    async def _refreshed(self) -> None:
        """Follows what the list of instruments says, again and again."""
        while True:
            await self._sleep(self._settings.refresh_s)
            try:
                active = await self.tails.threads.run(self._access.active)
            except Exception as error:
                log.warning("the list of instruments is the old one: %s", error)
                continue
            self._follow(active)

    def _follow(self, active: Sequence[Instrument]) -> None:
        """Opens, changes and closes sockets so that they have these instruments."""
        wanted = sorted({one for one in active if one.market_id in self._sockets})
        strange = {one.market_id for one in active} - self._sockets.keys() - self._without_socket
        if strange:
            log.warning("markets %s have no stream configured", sorted(strange))
            self._without_socket |= strange
        gone = self._followed.keys() - set(wanted)
        self.tracker.forget(gone)
        now_ms = self._clock()
        self._followed = {one: self._followed.get(one, now_ms) for one in wanted}
        unfollowed = None if wanted else NOTHING
        if unfollowed != self._unfollowed:
            self._unfollowed = unfollowed
            if unfollowed is not None:
                log.warning(unfollowed)
            else:
                log.info("instruments followed: %d", len(wanted))
        for market_id in self._sockets:
            symbols = [one.symbol for one in wanted if one.market_id == market_id]
            self._place(market(market_id), symbols)

    def _place(self, place: Market, symbols: Sequence[str]) -> None:
        settings, exchange = self._sockets[place.market_id], exchange_of(place)
        most = min(settings.max_symbols, exchange.max_streams_per_socket(place))
        here = [one for one in self._connections if one.market is place]
        found: Places = placed([one.symbols for one in here], symbols, most)
        for connection, assigned in zip(here, found.changed, strict=True):
            if assigned:
                connection.assign(assigned)
            else:
                self._connections.pop(connection).cancel()
        for assigned in found.new:
            self._connect(place, exchange, assigned, settings)

    def _connect(
        self, place: Market, exchange: Exchange, symbols: Sequence[str], settings: SocketSettings
    ) -> None:
        connection = Connection(
            exchange,
            place,
            symbols,
            settings,
            self._metrics,
            heard=self._hearing(place, exchange),
            connected=lambda begun: self._begin(place, begun),
            sleep=self._sleep,
            monotonic=self._monotonic,
        )
        name = f"{place.code} {symbols[0]}"
        self._connections[connection] = asyncio.create_task(connection.run(), name=name)

    def _begin(self, place: Market, symbols: Collection[str]) -> None:
        """A stream has begun: what is older is looked up and filled, without waiting for it."""
        now_floor_ms = floor_minute(self._clock())
        instruments = [Instrument(place.market_id, symbol) for symbol in symbols]
        self.tracker.expect(instruments, now_floor_ms)
        self.tails.add(instruments, now_floor_ms)

    # Frames

    def _hearing(self, place: Market, exchange: Exchange) -> Callable[[bytes], Frame | None]:
        messages = self._metrics.messages.labels(place.market_id)
        not_closed = self._metrics.not_closed.labels(place.market_id)

        def heard(payload: bytes) -> Frame | None:
            messages.inc()
            try:
                frame = exchange.parse_frame(place, payload)
                if frame.open_count:
                    not_closed.inc()
                for candle in frame.candles:
                    self._take(candle)
            except Exception as error:  # whatever a frame holds, the socket stays
                self._isolate(place.market_id, str(error) or type(error).__name__, payload)
                return None
            return frame

        return heard

    def _take(self, candle: Candle) -> None:
        """One closed candle: stored, published, tracked."""
        now_ms = self._clock()
        instrument = candle.instrument
        market_id = instrument.market_id
        if abs(now_ms - candle.ts_open_ms) > PLAUSIBLE_MS:
            self._isolate(market_id, "a candle of another day", repr(candle).encode())
            return
        origin = Origin("ws", now_ms, self._ingest_id)
        if not self.buffer.add(candle, origin):
            return  # what cannot be stored any more is not announced either
        self._metrics.closed.labels(market_id).inc()
        if self.feed is not None:
            self.feed.publish(candle, origin)
        arrival = self.tracker.arrival(instrument, candle.ts_open_ms)
        if arrival.kind == "duplicate":
            self._metrics.duplicates.labels(market_id).inc()
        elif arrival.kind == "late":
            self._metrics.out_of_order.labels(market_id).inc()
        elif arrival.gap is not None:
            log.info("%s lacks %s", instrument, arrival.gap)
            self._fill(instrument, arrival.gap, "gap")
        elif arrival.early:
            self.tails.add([instrument], candle.ts_open_ms)

    def _isolate(self, market_id: int, reason: str, payload: bytes) -> None:
        text = payload[:QUARANTINED_BYTES].decode("utf-8", "replace")
        self._metrics.malformed.labels(market_id).inc()
        self.quarantine.append(Quarantined(market_id, self._clock(), reason, text))
        log.warning("market %d: frame put aside: %s: %.300s", market_id, reason, text)

    # Fills

    def _fill(self, instrument: Instrument, period: Period, reason: Any) -> None:
        self.fills.add(FillTask(instrument, period, reason))

    def _fill_tail(self, task: FillTask) -> None:
        if task.instrument in self._followed:
            self.fills.add(task)

    # The end

    async def _closed(self, essential: set[asyncio.Task[None]]) -> int:
        """Sockets, then fills, then what is on its way to Redis and the store; all in time."""
        until_s = self._monotonic() + self._settings.grace_s
        tasks = list(self._connections.values())
        for task in tasks:
            task.cancel()
        if tasks:
            await asyncio.wait(tasks, timeout=self._settings.grace_s / 2)
        fills = await self.fills.close()
        rest_s = max(0.1, until_s - self._monotonic())
        closing = [self.buffer.close(rest_s)]
        if self.feed is not None:
            closing.append(self.feed.close(min(rest_s, FEED_S)))
        left, *unpublished = await asyncio.gather(*closing)
        for task in essential:
            task.cancel()
        await asyncio.gather(*essential, return_exceptions=True)
        self.tails.close()
        log.info(
            "stopped: %d candles stored, %d published; left behind: %d not stored, "
            "%d not published, %d fills",
            self.buffer.stored, self.feed.published if self.feed is not None else 0, left,
            sum(unpublished), fills,
        )  # fmt: skip
        return left
