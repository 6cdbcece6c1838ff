"""Ranges of minutes to fetch over REST: what is urgent first, each once, tried until it is done."""

from __future__ import annotations

import asyncio
import logging
import random
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Coroutine
from dataclasses import dataclass
from typing import Any, Final, Literal

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest import gaps
from ingest.errors import ExchangeError, SchemaOutdated, StoreFailed, StoreRefused
from ingest.live.complaints import Complaints, of_any
from ingest.metrics import FillMetrics

Reason = Literal[
    "gap",
    "reconnect_tail",
    "bootstrap",
    "scheduler_bootstrap",
    "historical_backfill",
    "scheduler_tail",
]
HISTORY: Final = frozenset({"bootstrap", "scheduler_bootstrap", "historical_backfill"})
"""Reasons that can wait; what a stream has just missed is urgent."""

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

    @property
    def urgent(self) -> bool:
        """Whether it goes before history."""
        return self.reason not in HISTORY


Fill = Callable[[FillTask], Awaitable[FillTask | None]]
"""Fetches the missing minutes of a task, of a long one a part, and returns what is left of it."""


@dataclass(frozen=True, slots=True)
class FillSettings:
    """`workers` fills run at once, and `urgent_workers` more that leave history alone.

    A fill that fails rests for `backoff_s[0]` before it is tried again, then twice as long up to
    `backoff_s[1]`: for as long as it takes where store or exchange may recover or be mended,
    `retries` times after a fault of ours. No fill begins before its last minute has been closed
    for `settle_ms`. There are `waiting` tasks at most; of more the oldest that do not run are
    given up for urgent ones, history first, and further history is refused: the hourly pass plans
    it again.
    """

    workers: int = WORKERS
    urgent_workers: int = 1
    retries: int = 4
    backoff_s: tuple[float, float] = (2.0, 120.0)
    settle_ms: int = SETTLE_MS
    waiting: int = 20_000


@dataclass(slots=True, eq=False)
class _Entry:
    """A task that is known: what is left of it, and how often that has failed."""

    task: FillTask
    left: FillTask
    tries: int = 0
    running: bool = False


class FillQueue:
    """Tasks, the urgent ones first, between `start` and `close`; `add` never waits.

    Of equal urgency who came first is served first; a task that is not done with its part goes
    behind those that wait. Ranges of an instrument that overlap never run at the same time, so
    that a fill sees what the one before it has stored.
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
        self._complaints = Complaints()
        # By urgency, the oldest first: all that wait, rest or run, and those that wait.
        self._known = {urgent: OrderedDict[FillTask, _Entry]() for urgent in (True, False)}
        self._ready = {urgent: OrderedDict[_Entry, None]() for urgent in (True, False)}
        self._running: set[_Entry] = set()
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self._tasks: set[asyncio.Task[None]] = set()
        self._started = False
        self._closed = False

    def __len__(self) -> int:
        return sum(map(len, self._known.values()))

    def start(self) -> None:
        """Begins to work, if it has not begun: parts of a process may share a queue."""
        if self._started or self._closed:
            return
        self._started = True
        for number in range(self._settings.workers):
            self._spawn(self._work((True, False)), f"fill worker {number + 1}")
        for number in range(self._settings.urgent_workers):
            self._spawn(self._work((True,)), f"urgent fill worker {number + 1}")

    def add(self, task: FillTask) -> bool:
        """Takes a task; False for one that it has, or has no room for."""
        if self._closed or self._has(task):
            return False
        market_id = task.instrument.market_id
        if not self._room(task):
            self._metrics.dropped.labels(market_id).inc()
            log.error("fill %s is refused: %d wait already", _named(task), len(self))
            return False
        entry = self._known[task.urgent][task] = _Entry(task, task)
        self._none.clear()
        self._metrics.tasks.labels(market_id).inc()
        self._metrics.pending.labels(market_id).inc()
        # Minutes that end in the future of a slow clock have ended all the same: no longer wait.
        age_ms = max(0, self._clock() - task.period.end_ms)
        self._rest(entry, (self._settings.settle_ms - age_ms) / 1000)
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
        left = len(self)
        for task in (task for known in self._known.values() for task in known):
            self._metrics.dropped.labels(task.instrument.market_id).inc()
            self._metrics.pending.labels(task.instrument.market_id).set(0)
        for held in (*self._known.values(), *self._ready.values()):
            held.clear()
        self._none.set()
        if left:
            log.info("%d fills are left to the next start", left)
        return left

    def _has(self, task: FillTask) -> bool:
        """Whether the task is known, or lies within a known one if it is of history.

        The beginning of a history that is being fetched moves, and with it what is planned next.
        """
        known = self._known[task.urgent]
        return task in known or (
            not task.urgent
            and any(
                one.instrument == task.instrument
                and one.period.start_ms <= task.period.start_ms
                and task.period.end_ms <= one.period.end_ms
                for one in known
            )
        )

    def _room(self, task: FillTask) -> bool:
        """Whether there is room for a task, made for an urgent one by giving up the oldest."""
        if len(self) < self._settings.waiting:
            return True
        if not task.urgent:
            return False
        for known in (self._known[False], self._known[True]):
            for entry in known.values():
                if not entry.running:
                    self._ready[entry.task.urgent].pop(entry, None)
                    self._metrics.pending.labels(entry.task.instrument.market_id).dec()
                    self._give_up(entry, f"{len(self)} wait already")
                    return True
        return False

    def _spawn(self, coroutine: Coroutine[Any, Any, None], name: str) -> None:
        task = asyncio.create_task(coroutine, name=name)
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)

    def _rest(self, entry: _Entry, seconds: float) -> None:
        """Lets a task wait its turn, after so many seconds."""
        if seconds <= 0:
            self._queue(entry)
            return

        async def later() -> None:
            await self._sleep(seconds)
            if self._known[entry.task.urgent].get(entry.task) is entry:  # not given up meanwhile
                self._queue(entry)

        self._spawn(later(), "resting fill")

    def _queue(self, entry: _Entry) -> None:
        self._ready[entry.task.urgent][entry] = None
        self._some.set()

    def _next(self, served: tuple[bool, ...]) -> _Entry | None:
        """Takes the first task, of these urgencies in turn, that overlaps none that runs."""
        for urgent in served:
            for entry in self._ready[urgent]:
                if not any(_overlap(entry.left, one.left) for one in self._running):
                    del self._ready[urgent][entry]
                    return entry
        return None

    async def _work(self, served: tuple[bool, ...]) -> None:
        while True:
            entry = self._next(served)
            if entry is None:
                self._some.clear()
                await self._some.wait()
                continue
            entry.running = True
            self._running.add(entry)
            try:
                await self._attempt(entry)
            finally:
                entry.running = False
                self._running.discard(entry)
                self._some.set()  # those that overlap it may run now

    async def _attempt(self, entry: _Entry) -> None:
        market_id = entry.task.instrument.market_id
        metrics = self._metrics
        metrics.pending.labels(market_id).dec()
        metrics.active.labels(market_id).inc()
        began = time.perf_counter()
        try:
            left = await self._fill(entry.left)
        except Exception as error:
            metrics.errors.labels(market_id).inc()
            self._again(entry, error)
            return
        finally:
            metrics.active.labels(market_id).dec()
            metrics.duration.labels(market_id).observe(time.perf_counter() - began)
        if self._complaints.over(str(market_id)):
            log.info("fills of market %d succeed again", market_id)
        if left is None:
            self._done(entry)
            return
        entry.left, entry.tries = left, 0
        metrics.pending.labels(market_id).inc()
        self._queue(entry)

    def _again(self, entry: _Entry, error: Exception) -> None:
        """Lets a failed task rest, unless trying again is in vain or has been often enough."""
        entry.tries += 1
        most = _tries(error, self._settings.retries)
        if most is not None and entry.tries >= most:
            self._give_up(entry, f"after {entry.tries} tries: {error}")
            return
        first_s, most_s = self._settings.backoff_s
        rest_s = min(most_s, first_s * 2.0 ** min(entry.tries - 1, 30)) * (1 + 0.2 * self._jitter())
        instrument = entry.task.instrument
        market_id = instrument.market_id
        alike = of_any(instrument, error)
        if self._complaints.tells(str(market_id), alike, self._clock() / 1000):
            log.warning("fill %s failed, again in %.1f s: %s", _named(entry.left), rest_s, error)
        self._metrics.retries.labels(market_id).inc()
        self._metrics.pending.labels(market_id).inc()
        self._rest(entry, rest_s)

    def _give_up(self, entry: _Entry, why: str) -> None:
        log.error("fill %s is given up, %s", _named(entry.left), why)
        self._metrics.dropped.labels(entry.task.instrument.market_id).inc()
        self._done(entry)

    def _done(self, entry: _Entry) -> None:
        del self._known[entry.task.urgent][entry.task]
        if not len(self):
            self._none.set()


def _tries(error: Exception, retries: int) -> int | None:
    """How often a fill that fails so is tried; None: until it succeeds.

    A store that refuses is mended by its operator, a password or the room on its disk say, and
    what it lacks then is still to be fetched.
    """
    if isinstance(error, (StoreFailed, StoreRefused, SchemaOutdated)):
        return None
    if isinstance(error, ExchangeError):
        return None if error.retryable else 1
    return 1 if isinstance(error, InvalidInput) else retries + 1


def _overlap(one: FillTask, other: FillTask) -> bool:
    return one.instrument == other.instrument and gaps.overlap(one.period, other.period)


def _named(task: FillTask) -> str:
    return f"{task.reason} of {task.instrument} {task.period}"
