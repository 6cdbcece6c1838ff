"""A live worker between exchange servers and the real store, with a clock moved by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from typing import Any

import pyarrow as pa
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.http import HttpClients
from ingest.klines import pages
from ingest.live.buffer import BufferSettings
from ingest.live.connection import SocketSettings
from ingest.live.feed import Feed
from ingest.live.fills import FillSettings, FillTask
from ingest.live.tails import last_minutes
from ingest.live.threads import Threads
from ingest.live.worker import Access, Worker, WorkerSettings
from ingest.metrics import LiveMetrics
from ingest.rows import MINUTE_MS, Origin, floor_minute, table_of
from ingest.stores.candles import CandleStore
from ingest.stores.valkey import Valkey
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.bybit import BybitServer
from tests.ingest.exchange_servers.server import ExchangeServer
from tests.ingest.exchange_servers.settings import rest_settings

START_MS = 1_769_990_400_000  # 2026-02-02, minute 0 of every test
DEADLINE_S = 60.0
QUICK_SOCKETS: dict[str, Any] = {
    "reconnect_min_s": 0.02,
    "reconnect_max_s": 0.1,
    "reconnect_jitter_s": 0.01,
    "ack_timeout_s": 10.0,
}
COLUMNS = ("ts_open", "open", "high", "low", "close", "volume_base", "volume_quote")


class Hand:
    """A clock that stands where the test put it."""

    def __init__(self) -> None:
        self.now_ms = START_MS

    def __call__(self) -> int:
        return self.now_ms


async def until(condition: Callable[[], bool], deadline_s: float = DEADLINE_S) -> None:
    """Returns when the condition holds."""
    async with asyncio.timeout(deadline_s):
        while not condition():
            await asyncio.sleep(0.005)


class Stage(ExitStack):
    """Servers and store of a test; `market_ids` times `symbols` are listed from `listed_ms`."""

    def __init__(
        self,
        store: CandleStore,
        symbols: Sequence[str],
        market_ids: Sequence[int] = (1,),
        *,
        listed_ms: int = START_MS,
    ) -> None:
        super().__init__()
        self.store = store
        self.clock = Hand()
        self.servers: dict[int, ExchangeServer] = {}
        for server in (BinanceServer(self.clock), BybitServer(self.clock)):
            wanted = set(market_ids) & set(server.market_ids)
            if wanted:
                self.enter_context(server)
            for market_id in sorted(wanted):
                self.servers[market_id] = server
                server.tape(market_id).enlist(*symbols, first_ms=listed_ms)
        self.instruments = [Instrument(m, s) for m in market_ids for s in symbols]
        self.server = self.servers[market_ids[0]]

    def at(self, minute: int, offset_ms: int = 0) -> None:
        """Moves the clock to the beginning of a minute, and a little further."""
        self.clock.now_ms = START_MS + minute * MINUTE_MS + offset_ms

    async def close_minute(self, minute: int, *, closed: bool = True) -> int:
        """Moves the clock to the end of a minute and sends it to whoever listens."""
        self.at(minute + 1, 40)
        sent = 0
        for market_id, server in self.servers.items():
            at_ms = START_MS + minute * MINUTE_MS
            sent += await asyncio.to_thread(server.burst, market_id, None, at_ms, closed=closed)
        return sent

    async def close_minutes(self, first: int, end: int) -> None:
        """Sends minutes one after the other."""
        for minute in range(first, end):
            await self.close_minute(minute)

    async def subscribed(self, count: int | None = None) -> None:
        """Returns when the servers have that many subscriptions, every instrument's if not told."""
        wanted = len(self.instruments) if count is None else count

        def all_there() -> bool:
            topics = [len(s.topics(market_id)) for market_id, s in self.servers.items()]
            return sum(topics) >= wanted

        await until(all_there)

    def period(self, minutes: int) -> Period:
        """The first so many minutes."""
        return Period(START_MS, START_MS + minutes * MINUTE_MS)

    def differences(self, minutes: int) -> list[str]:
        """What the store has otherwise than the exchange, of the first minutes; empty: nothing.

        Reads each candle once and value by value, so a lost minute and one that is there twice
        both show.
        """
        period = self.period(minutes)
        found: list[str] = []
        for instrument in self.instruments:
            tape = self.servers[instrument.market_id].tape(instrument.market_id)
            told = [
                (c.ts_open_ms, c.open, c.high, c.low, c.close, c.volume_base, c.volume_quote)
                for c in tape.span(instrument.symbol, period.start_ms, period.end_ms)
            ]
            table = self.store.arrow(instrument, period)
            columns = [
                table[name].cast(pa.int64()) if name == "ts_open" else table[name]
                for name in COLUMNS
            ]
            here = list(zip(*(column.to_pylist() for column in columns), strict=True))
            if here != told:
                lacking = sorted({row[0] for row in told} - {row[0] for row in here})
                numbers = [(at - START_MS) // MINUTE_MS for at in lacking]
                found.append(
                    f"{instrument}: {len(here)} rows for {len(told)}, lacks {numbers[:20]}"
                )
        return found

    async def complete(self, minutes: int) -> None:
        """Returns when the store has the first minutes as the exchange told them."""
        try:
            await until(lambda: not self.differences(minutes), DEADLINE_S)
        except TimeoutError:
            raise AssertionError("; ".join(self.differences(minutes))) from None


class Running:
    """A worker at work on a stage."""

    def __init__(
        self,
        stage: Stage,
        *,
        valkey: Valkey | None = None,
        skew_ms: int = 0,
        sockets: dict[str, Any] | None = None,
        buffer: BufferSettings | None = None,
        refresh_s: float = 60.0,
        grace_s: float = 20.0,
    ) -> None:
        self.stage = stage
        self.registry = CollectorRegistry()
        self.metrics = LiveMetrics(self.registry)
        self.active = list(stage.instruments)
        self.store_error: Exception | None = None
        """What an insert or a look-up raises now, instead of being done."""
        self.look_up = threading.Event()
        """Lets look-ups through."""
        self.look_up.set()
        self.inserted = 0
        self.fetched: list[FillTask] = []
        self.left: int | None = None
        self.clock = lambda: stage.clock() + skew_ms
        self.stop = asyncio.Event()
        self._redis: Redis | None = valkey.client() if valkey is not None else None
        self._threads = Threads(2, "fill")
        self._clients = HttpClients(
            {m: rest_settings(s.rest_url) for m, s in stage.servers.items()}, clock=self.clock
        )
        self.worker = Worker(
            {
                market_id: SocketSettings(
                    url=server.stream_url(market_id), **{**QUICK_SOCKETS, **(sockets or {})}
                )
                for market_id, server in stage.servers.items()
            },
            Access(
                insert=self._insert,
                active=lambda: list(self.active),
                last_minutes=self._last_minutes,
                fill=self._fill,
                earliest_ms=lambda instrument: START_MS,
            ),
            self.metrics,
            clock=self.clock,
            redis=self._redis,
            settings=WorkerSettings(
                refresh_s=refresh_s,
                grace_s=grace_s,
                buffer=buffer or BufferSettings(flush_s=0.02, backoff_s=(0.02, 0.05)),
                fills=FillSettings(settle_ms=0, backoff_s=(0.05, 0.2)),
            ),
        )

    async def connected(self, sockets: int = 1) -> None:
        """Returns when every socket is open, on both sides; there are `sockets` at least.

        Only then may the clock move, where a test counts what is fetched.
        """
        await until(
            lambda: (
                len(self.worker.connections) >= sockets
                and all(one.open for one in self.worker.connections)
            )
        )

    def publish_to(self, client: Redis) -> None:
        """Publishes to a server that the test has chosen; before `at_work`."""
        self._redis = client
        self.worker.feed = Feed(client, self.metrics.feed, clock=self.clock)

    def value(self, name: str, market_id: int = 1, **labels: str) -> float:
        """A metric of a market."""
        found = self.registry.get_sample_value(name, {"market_id": str(market_id), **labels})
        return found or 0.0

    def _insert(self, table: pa.Table) -> int:
        if self.store_error is not None:
            raise self.store_error
        count = self.stage.store.insert(table)
        self.inserted += count
        return count

    def _last_minutes(self, instruments: Sequence[Instrument], before_ms: int) -> Any:
        self.look_up.wait(DEADLINE_S)
        if self.store_error is not None:
            raise self.store_error
        return last_minutes(self.stage.store, instruments, before_ms)

    async def _fill(self, task: FillTask) -> None:
        """Fetches a range and stores what is missing of it."""
        self.fetched.append(task)
        client = self._clients.of(task.instrument.market_id)
        async for page in pages(client, task.instrument, task.period):
            store = self.stage.store
            here = await self._threads.run(store.minutes, task.instrument, task.period)
            present = set(here.tolist())
            now_ms = self.clock()
            # Minutes of a gap are closed, whatever our clock says: a later one has come.
            end_ms = task.period.end_ms if task.reason == "gap" else floor_minute(now_ms)
            rows = [
                candle
                for candle in page
                if candle.ts_open_ms not in present and candle.ts_open_ms < end_ms
            ]
            if rows:
                table = table_of(rows, Origin("rest", now_ms))
                await self._threads.run(self._insert, table)

    @asynccontextmanager
    async def at_work(self) -> AsyncIterator[Running]:
        """Runs the worker for as long as the block lasts, and stops it as SIGTERM would."""
        async with AsyncExitStack() as stack:
            await stack.enter_async_context(self._clients)
            if self._redis is not None:
                stack.push_async_callback(self._redis.aclose)
            task = asyncio.create_task(self.worker.run(self.stop))
            try:
                yield self
            finally:
                self.stop.set()
                self.left = await asyncio.wait_for(task, DEADLINE_S)
                self._threads.close()
