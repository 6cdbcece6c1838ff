"""Closed candles between the socket and the store: gathered, inserted in batches, bounded."""

from __future__ import annotations

import asyncio
import logging
import random
from collections import Counter, deque
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Any, Final

import numpy as np
import pyarrow as pa

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import SchemaOutdated, StoreRefused
from ingest.live.threads import Threads
from ingest.metrics import InsertMetrics
from ingest.rows import MINUTE_MS, Candle, Origin, faults, table_of

FLUSH_S: Final = 0.25
FLUSH_ROWS: Final = 2000
INSERT_ROWS: Final = 10_000
HELD_ROWS: Final = 100_000
"""About 65 MB: a hundred minutes of 1 000 instruments, or a day of 66, while the store is down."""
BACKOFF_S: Final = (0.25, 10.0)

Clock = Callable[[], int]
Sleep = Callable[[float], Awaitable[None]]
Insert = Callable[[pa.Table], int]
Row = tuple[Candle, Origin]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class BufferSettings:
    """A batch is inserted `flush_s` after its first row, or at once with `flush_rows` of them.

    More than `held_rows` are not held: the oldest are dropped, for those a gap fill finds first.
    Failed inserts are tried again after `backoff_s[0]`, then twice as long up to `backoff_s[1]`.
    """

    flush_s: float = FLUSH_S
    flush_rows: int = FLUSH_ROWS
    held_rows: int = HELD_ROWS
    insert_rows: int = INSERT_ROWS
    backoff_s: tuple[float, float] = BACKOFF_S


class InsertBuffer:
    """Rows in the order they came, stored one insert at a time between `start` and `close`.

    What had to be dropped is handed to `lost`, an instrument and the span of its dropped minutes
    a call, once the store takes rows again.
    """

    def __init__(
        self,
        insert: Insert,
        metrics: InsertMetrics,
        *,
        clock: Clock,
        settings: BufferSettings | None = None,
        lost: Callable[[Instrument, Period], None] = lambda instrument, period: None,
        sleep: Sleep = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._insert = insert
        self._metrics = metrics
        self._clock = clock
        self._settings = settings or BufferSettings()
        self._lost = lost
        self._sleep = sleep
        self._jitter = jitter
        self._threads = Threads(1, "insert")
        self._rows: deque[Row] = deque()
        self._inserting: list[Row] = []
        self._waiting: Counter[int] = Counter()  # how many of them, by market
        self._some = asyncio.Event()  # there are rows, or the end has come
        self._full = asyncio.Event()  # there are enough of them, or the end has come
        self._ending = asyncio.Event()
        self._dropped: dict[Instrument, tuple[int, int]] = {}
        self._task: asyncio.Task[None] | None = None
        self._warm: asyncio.Task[Any] | None = None
        self.failures = 0
        """Failed inserts since the last good one."""
        self.stored = 0
        """Rows that the store has taken."""

    def __len__(self) -> int:
        return len(self._rows) + len(self._inserting)

    def start(self) -> asyncio.Task[None]:
        """The task that stores rows; it ends when the buffer is closed and empty."""
        # Arrow imports a lot when it first makes an array: a second that no candle should wait.
        self._warm = asyncio.create_task(self._threads.run(pa.array, [0.0]))
        self._task = asyncio.create_task(self._run(), name="insert buffer")
        return self._task

    def add(self, candle: Candle, origin: Origin) -> bool:
        """Takes a candle; False when the buffer is closed."""
        if self._ending.is_set():
            return False
        self._rows.append((candle, origin))
        self._waiting[candle.instrument.market_id] += 1
        self._bound()
        self._some.set()
        if len(self._rows) >= self._settings.flush_rows:
            self._full.set()
        return True

    async def close(self, deadline_s: float) -> int:
        """Takes no more rows, stores those it holds, and returns how many it could not.

        A failed insert is tried again until the deadline. One that hangs is not waited for: its
        rows count as not stored, though they may yet be.
        """
        for event in (self._ending, self._some, self._full):
            event.set()
        if self._task is not None:
            await asyncio.wait({self._task}, timeout=deadline_s)
            self._task.cancel()
        if self._warm is not None:
            self._warm.cancel()
        self._threads.close()
        if len(self):
            log.error("%d candles could not be stored before the end", len(self))
        return len(self)

    def refresh_metrics(self) -> None:
        """Sets the gauges of what waits."""
        for market_id, count in self._waiting.items():
            self._metrics.buffered.labels(market_id).set(count)

    async def _run(self) -> None:
        while True:
            await self._some.wait()
            if not self._rows:
                if self._ending.is_set():
                    return
                self._some.clear()
                continue
            if not self.failures:
                await self._pause(self._settings.flush_s, self._full)
            elif self._ending.is_set():
                await self._sleep(self._settings.backoff_s[0])
            else:  # a full buffer is no reason to hurry a store that is down
                await self._pause(self._backoff_s(), self._ending)
            await self._flush()
            if len(self._rows) < self._settings.flush_rows and not self._ending.is_set():
                self._full.clear()

    async def _pause(self, seconds: float, cut: asyncio.Event) -> None:
        """Waits, until the event at the latest."""
        if cut.is_set():
            return
        waits = [asyncio.ensure_future(cut.wait()), asyncio.ensure_future(self._sleep(seconds))]
        try:
            await asyncio.wait(waits, return_when=asyncio.FIRST_COMPLETED)
        finally:
            for wait in waits:
                wait.cancel()

    def _backoff_s(self) -> float:
        first, most = self._settings.backoff_s
        return min(most, first * 2.0 ** min(self.failures - 1, 30)) * (1 + 0.2 * self._jitter())

    async def _flush(self) -> None:
        """One insert; a batch that fails is put back to the head."""
        count = min(len(self._rows), self._settings.insert_rows)
        batch = self._inserting = [self._rows.popleft() for _ in range(count)]
        markets = _markets(batch)
        try:
            stored = await self._threads.run(self._store, batch)
        except Exception as error:
            self.failures += 1
            self._rows.extendleft(reversed(batch))
            self._inserting = []
            self._bound()
            for market_id in markets:
                self._metrics.errors.labels(market_id).inc()
            log.warning(
                "insert of %d candles failed (%d in a row), %d wait: %s",
                count, self.failures, len(self), error,
            )  # fmt: skip
            return
        self._inserting = []
        self.stored += stored
        self._waiting.subtract(markets)
        if self.failures:
            log.info("the store takes candles again, after %d failures", self.failures)
        self.failures = 0
        self._repair()

    def _store(self, batch: list[Row]) -> int:
        """Inserts and counts; returns how many rows were stored. Runs in the thread.

        A row that the store can never take, a count above 2^32 say, would fail with its batch for
        ever: it is left out.
        """
        started_ms = self._clock()
        rows = batch
        try:
            self._insert(_table(batch))
        except (StoreRefused, SchemaOutdated):  # no fault of a row, and a look at each takes 1 ms
            raise
        except (pa.ArrowException, OverflowError, InvalidInput) as error:
            rows = [row for row in batch if _fits(row)]
            if len(rows) == len(batch):
                raise
            log.error("%d of %d candles do not fit the store and are left out: %s",
                      len(batch) - len(rows), len(batch), error)  # fmt: skip
            if rows:
                self._insert(_table(rows))
        self._count(batch, rows, started_ms)
        return len(rows)

    def _count(self, batch: list[Row], stored: list[Row], started_ms: int) -> None:
        """Tells the metrics; runs in the thread, too: of ten thousand rows it takes 3 ms."""
        done_ms, count = self._clock(), len(stored)
        market_ids = np.fromiter((candle.instrument.market_id for candle, _ in stored), int, count)
        received_ms = np.fromiter((origin.ingested_at_ms for _, origin in stored), int, count)
        self._metrics.stored(market_ids, received_ms, started_ms, done_ms)
        if stored is not batch:
            refused = _markets(batch)
            refused.subtract(market_ids.tolist())
            for market_id, rows in refused.items():
                self._metrics.refused.labels(market_id).inc(rows)

    def _bound(self) -> None:
        """Drops the oldest rows beyond what may be held."""
        while len(self) > self._settings.held_rows and self._rows:
            candle, _ = self._rows.popleft()
            if not self._dropped:
                log.error(
                    "more than %d candles wait for the store; the oldest are dropped, and "
                    "fetched again when it takes rows",
                    self._settings.held_rows,
                )
            minute = candle.ts_open_ms
            first, last = self._dropped.get(candle.instrument, (minute, minute))
            self._dropped[candle.instrument] = (min(first, minute), max(last, minute))
            self._waiting[candle.instrument.market_id] -= 1
            self._metrics.dropped.labels(candle.instrument.market_id).inc()

    def _repair(self) -> None:
        dropped, self._dropped = self._dropped, {}
        for instrument, (first, last) in dropped.items():
            self._lost(instrument, Period(first, last + MINUTE_MS))


def _markets(rows: Sequence[Row]) -> Counter[int]:
    """How many of the rows are of each market."""
    return Counter(candle.instrument.market_id for candle, _ in rows)


def _table(rows: Sequence[Row]) -> pa.Table:
    return table_of([candle for candle, _ in rows], [origin for _, origin in rows])


def _fits(row: Row) -> bool:
    try:
        return not faults(_table([row]))
    except (pa.ArrowException, OverflowError, InvalidInput):
        return False
