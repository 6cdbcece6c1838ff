"""Ranges of minutes to fetch over REST: each once, few at a time, tried again."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import deque
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import ExchangeError
from ingest.metrics import FillMetrics

Reason = Literal[
    "gap",
    "reconnect_tail",
    "bootstrap",
    "scheduler_bootstrap",
    "historical_backfill",
    "scheduler_tail",
]
REASONS_TO_CLAMP: Final = frozenset({"bootstrap", "scheduler_bootstrap", "historical_backfill"})
"""History before the first stored candle: the end moves to that candle when the fill begins."""

WORKERS: Final = 4
SETTLE_MS: Final = 3000
"""An exchange may still correct the minute that has just closed."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class FillTask:
    """Minutes of an instrument to fetch, and why; equal tasks are one."""

    instrument: Instrument
    period: Period
    reason: Reason


Fill = Callable[[FillTask], Awaitable[object]]
"""Fetches a task's minutes and stores those that are missing."""


@dataclass(frozen=True, slots=True)
class FillSettings:
    """`workers` fills run at once; one that fails is tried `retries` times more.

    Between tries it rests for `backoff_s[0]`, then twice as long up to `backoff_s[1]`. No fill
    begins before its last minute has been closed for `settle_ms`. More than `waiting` tasks are
    refused: the hourly pass plans them again.
    """

    workers: int = WORKERS
    retries: int = 4
    backoff_s: tuple[float, float] = (2.0, 120.0)
    settle_ms: int = SETTLE_MS
    waiting: int = 20_000


class FillQueue:
    """Tasks first come, first served, between `start` and `close`; `add` never waits.

    Ranges of one instrument never run at the same time, so that a fill sees what the one before
    it has stored.
    """

    def __init__(
        self,
        fill: Fill,
        metrics: FillMetrics,
        *,
        clock: Callable[[], int],
        settings: FillSettings | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
        jitter: Callable[[], float] = random.random,
    ) -> None:
        self._fill = fill
        self._metrics = metrics
        self._clock = clock
        self._settings = settings or FillSettings()
        self._sleep = sleep
        self._jitter = jitter
        self._known: set[FillTask] = set()  # waiting, resting or running
        self._tries: dict[FillTask, int] = {}
        self._waiting: dict[Instrument, deque[FillTask]] = {}
        self._ready: deque[Instrument] = deque()  # have a task, and none that runs
        self._busy: set[Instrument] = set()
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        self._closed = False

    def __len__(self) -> int:
        return len(self._known)

    def start(self) -> None:
        """Begins to work, if it has not begun: parts of a process may share a queue."""
        if self._started or self._closed:
            return
        self._started = True
        for number in range(self._settings.workers):
            self._spawn(self._work(), f"fill worker {number + 1}")

    def add(self, task: FillTask) -> bool:
        """Takes a task; False for one that it has, or has no room for."""
        if self._closed or task in self._known:
            return False
        market_id = task.instrument.market_id
        if len(self._known) >= self._settings.waiting:
            self._metrics.dropped.labels(market_id).inc()
            log.error("fill %s is refused: %d wait already", _named(task), len(self._known))
            return False
        self._known.add(task)
        self._none.clear()
        self._metrics.tasks.labels(market_id).inc()
        self._metrics.pending.labels(market_id).inc()
        # Minutes that end in the future of a slow clock have ended all the same: no longer wait.
        age_ms = max(0, self._clock() - task.period.end_ms)
        self._rest(task, (self._settings.settle_ms - age_ms) / 1000)
        return True

    async def idle(self) -> None:
        """Returns when there is no task: none waits, rests or runs."""
        await self._none.wait()

    async def close(self) -> int:
        """Drops what waits, stops what runs, and returns how many tasks that were.

        What a stopped fill has stored stays; a later fill fetches the rest.
        """
        self._closed = True
        for one in self._tasks:
            one.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        left = len(self._known)
        for task in self._known:
            self._metrics.dropped.labels(task.instrument.market_id).inc()
            self._metrics.pending.labels(task.instrument.market_id).set(0)
        self._known.clear()
        self._none.set()
        if left:
            log.info("%d fills are left to the next start", left)
        return left

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _rest(self, task: FillTask, seconds: float) -> None:
        """Lets a task wait its turn, after so many seconds."""
        if seconds <= 0:
            self._queue(task)
            return

        async def later() -> None:
            await self._sleep(seconds)
            self._queue(task)

        self._spawn(later(), "resting fill")

    def _queue(self, task: FillTask) -> None:
        instrument = task.instrument
        waiting = self._waiting.setdefault(instrument, deque())
        waiting.append(task)
        if len(waiting) == 1 and instrument not in self._busy:
            self._ready.append(instrument)
            self._some.set()

    async def _work(self) -> None:
        while True:
            if not self._ready:
                self._some.clear()
                await self._some.wait()
                continue
            instrument = self._ready.popleft()
            waiting = self._waiting[instrument]
            task = waiting.popleft()
            self._busy.add(instrument)
            try:
                await self._attempt(task)
            finally:
                self._busy.discard(instrument)
                if waiting:
                    self._ready.append(instrument)
                    self._some.set()
                else:
                    self._waiting.pop(instrument, None)

    async def _attempt(self, task: FillTask) -> None:
        market_id = task.instrument.market_id
        metrics = self._metrics
        metrics.pending.labels(market_id).dec()
        metrics.active.labels(market_id).inc()
        began = time.perf_counter()
        try:
            await self._fill(task)
        except Exception as error:
            metrics.errors.labels(market_id).inc()
            self._again(task, error)
            return
        finally:
            metrics.active.labels(market_id).dec()
            metrics.duration.labels(market_id).observe(time.perf_counter() - began)
        self._done(task)

    def _again(self, task: FillTask, error: Exception) -> None:
        """Lets a failed task rest, unless trying again is in vain or has been often enough."""
        tries = self._tries[task] = self._tries.get(task, 0) + 1
        in_vain = isinstance(error, InvalidInput) or (
            isinstance(error, ExchangeError) and not error.retryable
        )
        market_id = task.instrument.market_id
        if in_vain or tries > self._settings.retries:
            log.error("fill %s is given up after %d tries: %s", _named(task), tries, error)
            self._metrics.dropped.labels(market_id).inc()
            self._done(task)
            return
        first, most = self._settings.backoff_s
        rest_s = min(most, first * 2.0 ** (tries - 1)) * (1 + 0.2 * self._jitter())
        log.warning("fill %s failed, again in %.1f s: %s", _named(task), rest_s, error)
        self._metrics.retries.labels(market_id).inc()
        self._metrics.pending.labels(market_id).inc()
        self._rest(task, rest_s)

    def _done(self, task: FillTask) -> None:
        self._known.discard(task)
        self._tries.pop(task, None)
        if not self._known:
            self._none.set()


def _named(task: FillTask) -> str:
    return f"{task.reason} of {task.instrument} {task.period}"
