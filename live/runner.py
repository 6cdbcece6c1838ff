"""The live runner: finds the active runs, shares their instruments with other runners, advances
them as minutes close.

Each instrument has a task of its own, so that a slow one, or a run that fails, holds up no other.
"""

from __future__ import annotations

import asyncio
import contextlib
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from compute.errors import InvalidInput, RoehubError
from compute.market.instrument import Instrument
from ingest.exchanges.registry import MARKETS
from live.access import Access, RepairSettings
from live.feed import FAILURES, Entry, Feed
from live.instrument import InstrumentWorker
from live.leases import Lease, LeaseLost, Leases
from live.ledger import Active
from live.metrics import LiveMetrics
from live.snapshots import Snapshots

_LONGEST_PAUSE_SECONDS: Final = 30.0
_ENDING_SECONDS: Final = 3.0

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RunnerSettings:
    """How often runs are looked for, how long an instrument is held, and how far our clock may be
    from that of the database. Raises: InvalidInput."""

    poll_interval_seconds: float = 5.0
    lease_seconds: float = 10.0
    repair: RepairSettings = field(default_factory=RepairSettings)
    clock_seconds: float = 5.0

    def __post_init__(self) -> None:
        for name in ("poll_interval_seconds", "lease_seconds", "clock_seconds"):
            if not getattr(self, name) > 0:
                raise InvalidInput(f"{name} must be > 0, got {getattr(self, name)}")


class ClockWrong(RoehubError):
    """A clock that is not that of the database: minutes would be given up too early or late."""

    code = "conflict"


class _Held:
    """An instrument of this runner: its worker and the task that drives it."""

    def __init__(self, worker: InstrumentWorker) -> None:
        self.worker, self.wake = worker, asyncio.Event()
        self.task: asyncio.Task[None] | None = None
        self.ending = self.joined = False
        self.failure: str | None = None
        """What the last step failed with."""


class Runner:
    """Runs strategies until it is told to stop; everything that it needs to go on is stored."""

    def __init__(
        self,
        access: Access,
        leases: Leases,
        feed: Feed | None,
        snapshots: Snapshots,
        metrics: LiveMetrics,
        settings: RunnerSettings | None = None,
    ) -> None:
        self._access, self._leases, self._feed = access, leases, feed
        self._snapshots, self._metrics = snapshots, metrics
        self._settings = settings or RunnerSettings()
        self._held: dict[str, _Held] = {}
        self._stop = asyncio.Event()
        self.passed_at: float | None = None
        """When the last pass over the active runs succeeded, by the monotonic clock."""
        self.failure: str | None = None
        """Why the last one did not."""

    def measure(self) -> None:
        """Sets the lag of each instrument as it is now, also of one that cannot be advanced."""
        for key, held in self._held.items():
            lag = held.worker.lag_seconds()
            if lag is not None:
                self._metrics.lag_seconds.labels(key).set(lag)

    def troubles(self) -> dict[str, str]:
        """Why instruments cannot be advanced, by instrument."""
        found = {key: held.failure or held.worker.trouble for key, held in self._held.items()}
        return {key: text for key, text in found.items() if text is not None}

    def stop(self) -> None:
        """Asks the runner to end; what is being committed is finished first."""
        self._stop.set()

    async def run(self) -> None:
        """Advances runs until `stop`, then gives its instruments back."""
        reading = asyncio.create_task(self._read(), name="live feed")
        try:
            while not self._stop.is_set():
                began = time.monotonic()
                await self._pass()
                pause = min(self._settings.poll_interval_seconds, self._settings.lease_seconds / 3)
                await self._wait(max(0.0, began + pause - time.monotonic()))
        finally:
            self._stop.set()  # the client may swallow the cancellation
            reading.cancel()
            await asyncio.gather(reading, return_exceptions=True)
            await self._ended(list(self._held))
            try:
                await self._leases.release()
            except Exception as error:  # they end by themselves
                log.warning("instruments were not given back: %s", error)

    async def _pass(self) -> None:
        """One look at what runs, and at who runs it."""
        began = time.perf_counter()
        try:
            await self._check_clock()
            active = await self._access.ledger.active()
            by_key: dict[str, list[Active]] = {}
            for one in active:
                by_key.setdefault(one.instrument_key, []).append(one)
            leases = await self._leases.share(by_key)
            await self._hold(leases, by_key)
            self.measure()
        except Exception as error:
            self._metrics.iteration_errors.inc()
            self.failure = str(error) or type(error).__name__
            log.warning("active runs could not be looked for: %s", self.failure)
            return
        self.passed_at, self.failure = time.monotonic(), None
        self._metrics.iterations.inc()
        self._metrics.runs.set(len(active))
        self._metrics.instruments.set(len(leases))
        self._metrics.iteration_seconds.observe(time.perf_counter() - began)

    async def _check_clock(self) -> None:
        """Gives all instruments back where our clock is not that of the database.

        Raises: ClockWrong.
        """
        before_ms = self._access.clock()
        there_ms = await self._leases.now_ms()
        ahead_ms = max(before_ms - there_ms, 0) - max(there_ms - self._access.clock(), 0)
        if abs(ahead_ms) <= 1000 * self._settings.clock_seconds:
            return
        await self._ended(list(self._held))
        await self._leases.release()
        way = "ahead of" if ahead_ms > 0 else "behind"
        raise ClockWrong(
            f"the clock of this host is {abs(ahead_ms) / 1000:.1f} s {way} that of the database;"
            f" set it (NTP), until then its runs are left to other runners"
        )

    async def _hold(
        self, leases: Mapping[str, Lease], by_key: Mapping[str, Sequence[Active]]
    ) -> None:
        """Workers for the leases of now, and for no others."""
        gone = [key for key, held in self._held.items() if leases.get(key) != held.worker.lease]
        await self._ended(gone)
        for key, lease in leases.items():
            held = self._held.get(key)
            if held is None:
                worker = InstrumentWorker(
                    lease, instrument_of(key), self._access, self._snapshots, self._metrics,
                    self._settings.repair,
                )  # fmt: skip
                held = self._held[key] = _Held(worker)
            held.worker.want(by_key[key])
            if held.task is None or held.task.done():
                held.task = asyncio.create_task(self._drive(key, held), name=f"live {key}")
            held.wake.set()

    async def _join(self, key: str, held: _Held) -> None:
        """Joins a stream before its instrument is advanced, and takes over what was left of it.

        An instrument that nobody knows gets no stream.
        """
        if held.joined or self._feed is None or not await held.worker.known():
            return
        held.joined = True
        try:
            self._offered(await self._feed.left(key))
        except FAILURES as error:
            log.warning("entries of %s are not taken over: %s", key, error)

    async def _ended(self, keys: Sequence[str]) -> None:
        """Ends the tasks of instruments after the step that they are at, if it is not long."""
        tasks: list[asyncio.Task[None]] = []
        for key in keys:
            held = self._held.pop(key)
            with contextlib.suppress(KeyError):
                self._metrics.lag_seconds.remove(key)
            held.ending = True
            held.wake.set()
            if held.task is not None:
                tasks.append(held.task)
        if tasks:
            _, late = await asyncio.wait(tasks, timeout=_ENDING_SECONDS)
            for task in late:  # what it commits is fenced by its lease
                task.cancel()
            await asyncio.gather(*tasks, return_exceptions=True)
        for key in keys:
            self._snapshots.forget(key)

    async def _drive(self, key: str, held: _Held) -> None:
        """Steps an instrument whenever there may be something to do."""
        worker, pause = held.worker, 1.0
        while not held.ending:
            held.wake.clear()
            try:
                await self._join(key, held)
                more = await worker.step()
                await self._acknowledge(worker)
                pause, held.failure = 1.0, None
            except LeaseLost:
                self._metrics.leases_lost.inc()
                log.warning("%s was taken over by another runner", key)
                worker.forget()
                return
            except Exception as error:
                held.failure = str(error) or type(error).__name__
                self._metrics.instrument_errors.inc()
                log.warning("%s could not be advanced, again in %g s: %s", key, pause, error)
                worker.forget()
                await _woken(held.wake, pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)
                continue
            if not more:
                await _woken(held.wake, 1.0)

    async def _read(self) -> None:
        """Hands candles of the feed to the workers of their instruments."""
        feed = self._feed
        if feed is None:
            return
        failing, read, malformed = False, 0, 0
        while not self._stop.is_set():
            keys, some = [key for key, held in self._held.items() if held.joined], False
            try:
                for part in (feed.entries, feed.inherited):
                    some |= self._offered(await part(keys))
                failing = False
            except Exception as error:  # whatever it is, minutes come from the store meanwhile
                if not failing:
                    log.warning("the live feed cannot be read, minutes are those stored: %s", error)
                failing = True
            self._metrics.messages_read.inc(feed.read - read)
            self._metrics.messages_malformed.inc(feed.malformed - malformed)
            read, malformed = feed.read, feed.malformed
            if not some:
                await asyncio.sleep(1.0 if failing or not keys else 0.05)

    def _offered(self, entries: Sequence[Entry]) -> bool:
        """Gives entries to their workers; whether there are any."""
        for key in {entry.instrument_key for entry in entries}:
            held = self._held.get(key)
            if held is not None:
                held.worker.offer([one for one in entries if one.instrument_key == key])
                held.wake.set()
        return bool(entries)

    async def _acknowledge(self, worker: InstrumentWorker) -> None:
        done = worker.dealt_with()
        if not done or self._feed is None:
            return
        try:
            await self._feed.acknowledge(done)
            self._metrics.messages_acked.inc(len(done))
        except FAILURES as error:  # they are taken over some day, and found to be old
            log.warning("entries of %s were not acknowledged: %s", worker.instrument, error)

    async def _wait(self, seconds: float) -> None:
        await _woken(self._stop, seconds)


async def _woken(event: asyncio.Event, seconds: float) -> None:
    """Returns when `event` is set, or after a while."""
    with contextlib.suppress(TimeoutError):
        async with asyncio.timeout(seconds):
            await event.wait()


def instrument_of(key: str) -> Instrument:
    """The instrument called `exchange:market type:SYMBOL`. Raises: InvalidInput."""
    code, _, symbol = key.rpartition(":")
    for market_id, market in MARKETS.items():
        if market.code == code:
            return Instrument(market_id, symbol)
    raise InvalidInput(f"there is no market {code}")
