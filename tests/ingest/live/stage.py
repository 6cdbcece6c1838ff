"""A live worker between exchange servers and the real store, with a clock moved by hand."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import AsyncIterator, Callable, Sequence
from contextlib import AsyncExitStack, ExitStack, asynccontextmanager
from dataclasses import replace
from typing import Any, cast

import pyarrow as pa
from prometheus_client import CollectorRegistry
from redis.asyncio import Redis

from compute.market.instrument import Instrument
from compute.market.period import Period, instant
from configs.load import config
from ingest.commands.duties import Duties
from ingest.http import HttpClients
from ingest.live.buffer import BufferSettings
from ingest.live.connection import SocketSettings
from ingest.live.feed import Feed
from ingest.live.fills import FillSettings, FillTask
from ingest.live.tails import last_minutes
from ingest.live.worker import Access, Worker, WorkerSettings
from ingest.metrics import LiveMetrics, RestMetrics
from ingest.rows import MINUTE_MS
from ingest.settings import MarketDataSettings
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.valkey import Valkey
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.bybit import BybitServer
from tests.ingest.exchange_servers.server import ExchangeServer
from tests.ingest.exchange_servers.settings import rest_settings

START_MS = 1_769_990_400_000  # 2026-02-02, minute 0 of every test
DEADLINE_S = 60.0
SETTLED_MS = 5_000
"""So far into a minute an exchange corrects the one before no more."""
QUICK_SOCKETS: dict[str, Any] = {
    "reconnect_min_s": 0.02,
    "reconnect_max_s": 0.1,
    "reconnect_jitter_s": 0.01,
    "ack_timeout_s": 10.0,
}
COLUMNS = ("ts_open", "open", "high", "low", "close", "volume_base", "volume_quote")


def _settings() -> MarketDataSettings:
    """The shipped ones, with a history that begins with the first minute."""
    shipped = config("market_data", {"ROEHUB_ENV": "test"}).settings(MarketDataSettings)
    earliest = instant(START_MS)
    markets = tuple(
        replace(one, rest=replace(one.rest, earliest_available_ts_utc=earliest))
        for one in shipped.markets
    )
    return replace(shipped, markets=markets)


SETTINGS = _settings()


class Breakable:
    """A store that does what it is asked for, but where a test lets it fail."""

    def __init__(self, db: ClickHouse) -> None:
        self._db = db
        self.error: Exception | None = None
        """What every call raises now, instead of being done."""
        self.rows_taken = 0
        """Raw rows, that is."""
        self.taken: Callable[[int], None] = lambda rows: None
        """Is called after each insert of raw rows, with the number of them so far."""

    def __getattr__(self, name: str) -> Any:
        found = getattr(self._db, name)
        if self.error is not None and name in ("command", "rows", "arrow"):
            raise self.error
        return found

    def insert(self, table_name: str, table: pa.Table, **options: Any) -> int:
        if self.error is not None:
            raise self.error
        count = self._db.insert(table_name, table, **options)
        if table_name.startswith("raw_"):
            self.rows_taken += count
            self.taken(self.rows_taken)
        return count


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
        """Returns when the store has the first minutes as the exchange told them.

        Meanwhile the running minute gets old enough for the one before it to count as settled.
        """
        into_ms = self.clock.now_ms % MINUTE_MS
        self.clock.now_ms += max(0, SETTLED_MS - into_ms)
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
        fills: FillSettings | None = None,
    ) -> None:
        self.stage = stage
        self.registry = CollectorRegistry()
        self.metrics = LiveMetrics(self.registry)
        self.active = list(stage.instruments)
        self.db = Breakable(stage.store.db)
        self.look_up = threading.Event()
        """Lets look-ups through."""
        self.look_up.set()
        self.history = asyncio.Event()
        """Lets fills of history through."""
        self.history.set()
        self.fetched: list[FillTask] = []
        """Fills, and parts of long ones, that are done."""
        self.left: int | None = None
        self.clock = lambda: stage.clock() + skew_ms
        self.stop = asyncio.Event()
        self._redis: Redis | None = valkey.client() if valkey is not None else None
        self._clients = HttpClients(
            {m: rest_settings(s.rest_url) for m, s in stage.servers.items()},
            clock=self.clock,
            sleep=lambda seconds: asyncio.sleep(min(seconds, 0.02)),
        )
        self.duties = Duties(
            cast(ClickHouse, self.db),
            SETTINGS,
            None,
            self._clients,
            RestMetrics(self.registry),
            self.clock,
        )
        self.worker = Worker(
            {
                market_id: SocketSettings(
                    url=server.stream_url(market_id), **{**QUICK_SOCKETS, **(sockets or {})}
                )
                for market_id, server in stage.servers.items()
            },
            Access(
                insert=self.duties.candles.insert,
                active=lambda: list(self.active),
                last_minutes=self._last_minutes,
                fill=self._fill,
                earliest_ms=self.duties.known_beginning,
            ),
            self.metrics,
            clock=self.clock,
            redis=self._redis,
            settings=WorkerSettings(
                refresh_s=refresh_s,
                grace_s=grace_s,
                buffer=buffer or BufferSettings(flush_s=0.02, backoff_s=(0.02, 0.05)),
                fills=fills or FillSettings(settle_ms=0, backoff_s=(0.05, 0.2)),
            ),
        )

    @property
    def store_error(self) -> Exception | None:
        """What the store raises now, whatever it is asked for."""
        return self.db.error

    @store_error.setter
    def store_error(self, error: Exception | None) -> None:
        self.db.error = error

    @property
    def inserted(self) -> int:
        """Candles that the store has taken from this worker."""
        return self.db.rows_taken

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

    def _last_minutes(self, instruments: Sequence[Instrument], before_ms: int) -> Any:
        self.look_up.wait(DEADLINE_S)
        return last_minutes(self.duties.candles, instruments, before_ms)

    async def _fill(self, task: FillTask) -> FillTask | None:
        if not task.urgent:
            await self.history.wait()
        left = await self.duties.fill(task)
        self.fetched.append(task)
        return left

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
                self.duties.close()
