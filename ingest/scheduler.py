"""The scheduler: reference data kept in step, history and holes filled, again and again.

At the start once and in order: the whitelist, the metadata, a scan that plans what is missing.
Then every job at its interval, first after one interval. A job that fails is counted and tried
again soon, after pauses that grow up to its interval; the hourly pass only where all instruments
failed, for it asks for all again. Nothing of it ends the process.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections import Counter
from collections.abc import Awaitable, Callable, Collection, Sequence
from dataclasses import dataclass
from typing import Final, NamedTuple, Protocol

from compute.errors import RoehubError
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.errors import NoSeed
from ingest.live.complaints import Complaints, of_any
from ingest.live.fills import FillQueue, FillTask, Reason
from ingest.metrics import SchedulerMetrics
from ingest.rows import MINUTE_MS, floor_minute

EVERY_REASON: Final[tuple[Reason, ...]] = (
    "scheduler_bootstrap",
    "historical_backfill",
    "scheduler_tail",
)
HOURLY_REASONS: Final[tuple[Reason, ...]] = ("scheduler_bootstrap", "historical_backfill")
RETRY_S: Final = 10.0
"""How long a job rests after its first failure; after each other one in a row twice as long."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class History:
    """First and last stored minute of an instrument, and where its history may begin."""

    stored: tuple[int, int] | None
    earliest_ms: int


@dataclass(frozen=True, slots=True)
class CatchUp:
    """What catching up with an instrument came to."""

    tail_minutes: int = 0
    tail_rows_written: int = 0
    gap_days_scanned: int = 0
    gap_days_with_gaps: int = 0
    gap_ranges_filled: int = 0
    gap_rows_written: int = 0


class Duties(Protocol):
    """What the jobs do, each a call that may wait but does not block."""

    async def sync_whitelist(self) -> object:
        """Seeds markets, reads the whitelist and writes what has changed."""

    async def enrich(self) -> object:
        """Fetches the metadata of the active instruments."""

    async def active(self) -> Sequence[Instrument]:
        """The active instruments."""
        ...

    async def history(self, instrument: Instrument) -> History:
        """What is stored of an instrument."""
        ...

    async def catch_up(self, instrument: Instrument) -> CatchUp:
        """Fetches the tail and the gaps of an instrument.

        Raises:
            NoSeed: there is no candle to begin from.
        """
        ...


@dataclass(frozen=True, slots=True)
class SchedulerSettings:
    """Intervals of the jobs, and how the hourly pass goes through the instruments."""

    sync_whitelist_s: float = 3600
    enrich_s: float = 21_600
    rest_insurance_catchup_s: float = 3600
    tail_lookback_minutes: int = 180
    concurrency: int = 4
    inter_instrument_delay_s: float = 0.0


class _Words(NamedTuple):
    """How a failure of an instrument is told, and its end of a market."""

    failed: str
    mended: str


_PLANNING: Final = _Words("could not be planned", "can be planned again")
_CATCHING_UP: Final = _Words("was not caught up", "are caught up again")


class JobFailed(RoehubError):
    """Some of a job's instruments failed, the others are done; `is_soon` says whether to try again
    before its time."""

    code = "job_failed"

    def __init__(self, message: str, *, is_soon: bool = True) -> None:
        super().__init__(message)
        self.is_soon = is_soon


class Scheduler:
    """The jobs, while `run` does; the fill queue is started and closed with them."""

    def __init__(
        self,
        duties: Duties,
        fills: FillQueue,
        metrics: SchedulerMetrics,
        *,
        clock: Callable[[], int],
        settings: SchedulerSettings | None = None,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._duties = duties
        self._fills = fills
        self._metrics = metrics
        self._clock = clock
        self._settings = settings or SchedulerSettings()
        self._sleep = sleep
        self._complaints = Complaints()
        self._failures: Counter[str] = Counter()
        self.started = False
        """Whether the jobs of the start are through."""

    async def run(self, stop: asyncio.Event) -> None:
        """Works until `stop`; jobs that run then are cut off, queued fills are dropped."""
        self._fills.start()
        jobs = asyncio.create_task(self._jobs(), name="scheduler")
        stopped = asyncio.create_task(stop.wait())
        try:
            await asyncio.wait({jobs, stopped}, return_when=asyncio.FIRST_COMPLETED)
            if jobs.done():
                jobs.result()  # it does not end by itself, but by a fault of ours
        finally:
            for task in (jobs, stopped):
                task.cancel()
            await asyncio.gather(jobs, stopped, return_exceptions=True)
            await self._fills.close()
            log.info("the scheduler has stopped; what it fetched is stored, a start plans the rest")

    async def trouble(self) -> str | None:
        """What keeps the scheduler from its work now, None when nothing does."""
        return None if self.started else "the jobs of the start are not through"

    async def _jobs(self) -> None:
        settings, insurance_s = self._settings, self._settings.rest_insurance_catchup_s
        await self._job("sync_whitelist", self._duties.sync_whitelist, settings.sync_whitelist_s)
        await self._job("enrich", self._duties.enrich, settings.enrich_s)
        await self._job("startup_scan", self._scan, insurance_s)
        self.started = True
        async with asyncio.TaskGroup() as group:
            for name, work, interval_s in (
                ("sync_whitelist", self._duties.sync_whitelist, settings.sync_whitelist_s),
                ("enrich", self._duties.enrich, settings.enrich_s),
                ("rest_insurance_catchup", self._insure, insurance_s),
            ):
                group.create_task(self._repeated(name, work, interval_s), name=name)
            group.create_task(self._scanned(insurance_s), name="startup_scan")

    async def _scanned(self, longest_s: float) -> None:
        """Returns when the scan of the start has succeeded."""
        while self._failures["startup_scan"]:
            await self._sleep(self._rest_s("startup_scan", longest_s))
            await self._job("startup_scan", self._scan, longest_s)

    async def _repeated(
        self, name: str, work: Callable[[], Awaitable[object]], interval_s: float
    ) -> None:
        while True:
            await self._sleep(self._rest_s(name, interval_s))
            await self._job(name, work, interval_s)

    def _rest_s(self, name: str, interval_s: float) -> float:
        """How long a job rests now: its interval, or less where it failed."""
        failures = self._failures[name]
        return min(interval_s, RETRY_S * 2.0 ** min(failures - 1, 30)) if failures else interval_s

    async def _job(
        self, name: str, work: Callable[[], Awaitable[object]], interval_s: float
    ) -> None:
        self._metrics.runs.labels(name).inc()
        began = time.perf_counter()
        try:
            await work()
            self._failures[name] = 0
        except Exception as error:
            is_soon = not isinstance(error, JobFailed) or error.is_soon
            self._failures[name] = self._failures[name] + 1 if is_soon else 0
            self._metrics.errors.labels(name).inc()
            rest_s = self._rest_s(name, interval_s)
            if isinstance(error, RoehubError):
                log.error("job %s failed, again in %g s: %s", name, rest_s, error)
            else:
                log.exception("job %s failed, again in %g s", name, rest_s)
        finally:
            self._metrics.duration.labels(name).observe(time.perf_counter() - began)

    async def _scan(self) -> None:
        """The startup scan: everything that is missing, planned."""
        instruments = await self._duties.active()
        for instrument in instruments:
            self._metrics.scanned.labels(instrument.market_id).inc()
        await self._plan(instruments, EVERY_REASON)
        if self._failures["sync_whitelist"]:
            raise JobFailed("the whitelist is not in step; what is new on it is not planned")

    async def _insure(self) -> None:
        """The hourly pass: history that is missing is planned, tails and gaps are fetched."""
        instruments = await self._duties.active()
        failed: list[str] = []
        try:
            await self._plan(instruments, HOURLY_REASONS)
        except JobFailed as error:
            failed.append(error.message)
        waiting = list(reversed(instruments))
        failures: list[Instrument] = []

        async def work() -> None:
            while waiting:
                instrument = waiting.pop()
                if not await self._caught_up(instrument):
                    failures.append(instrument)
                if waiting and self._settings.inter_instrument_delay_s:
                    await self._sleep(self._settings.inter_instrument_delay_s)

        async with asyncio.TaskGroup() as group:
            for _ in range(min(self._settings.concurrency, len(waiting))):
                group.create_task(work())
        self._relieve(_CATCHING_UP, instruments, failures)
        if failures:
            failed.append(f"{len(failures)} of {len(instruments)} instruments were not caught up")
        if failed:  # who fails alone does not have all others asked again
            raise JobFailed("; ".join(failed), is_soon=len(failures) == len(instruments))

    async def _caught_up(self, instrument: Instrument) -> bool:
        """Catches up with an instrument; False when that failed."""
        metrics, market_id = self._metrics, instrument.market_id
        try:
            done = await self._duties.catch_up(instrument)
        except NoSeed:  # its bootstrap is in the queue
            metrics.caught_up.labels(market_id, "skipped_no_seed").inc()
            return True
        except Exception as error:
            metrics.caught_up.labels(market_id, "failed").inc()
            self._complain(_CATCHING_UP, instrument, error)
            return False
        metrics.caught_up.labels(market_id, "ok").inc()
        metrics.tail_minutes.labels(market_id).inc(done.tail_minutes)
        metrics.tail_rows.labels(market_id).inc(done.tail_rows_written)
        metrics.days_scanned.labels(market_id).inc(done.gap_days_scanned)
        metrics.days_with_gaps.labels(market_id).inc(done.gap_days_with_gaps)
        metrics.ranges_filled.labels(market_id).inc(done.gap_ranges_filled)
        metrics.gap_rows.labels(market_id).inc(done.gap_rows_written)
        return True

    async def _plan(self, instruments: Sequence[Instrument], reasons: Collection[Reason]) -> None:
        """Plans and enqueues fills of these reasons.

        Raises:
            JobFailed: some instruments could not be looked at; the others are planned.
        """
        failures: list[Instrument] = []
        for instrument in instruments:
            try:
                history = await self._duties.history(instrument)
            except Exception as error:
                failures.append(instrument)
                self._complain(_PLANNING, instrument, error)
                continue
            tasks = planned(
                instrument,
                history,
                floor_minute(self._clock()),
                self._settings.tail_lookback_minutes,
            )
            for task in tasks:
                if task.reason in reasons:
                    self._metrics.planned.labels(instrument.market_id, task.reason).inc()
                    if self._fills.add(task):
                        self._metrics.enqueued.labels(instrument.market_id, task.reason).inc()
        self._relieve(_PLANNING, instruments, failures)
        if failures:
            raise JobFailed(
                f"{len(failures)} of {len(instruments)} instruments could not be planned"
            )

    def _complain(self, work: _Words, instrument: Instrument, error: Exception) -> None:
        """Tells a failure: of those of a market that are alike the first, and rarely another."""
        source = f"{instrument.market_id} {work.failed}"
        if self._complaints.tells(source, of_any(instrument, error), self._clock() / 1000):
            log.warning("%s %s: %s; others of its market that fail alike are only counted",
                        instrument, work.failed, error)  # fmt: skip

    def _relieve(
        self, work: _Words, instruments: Sequence[Instrument], failures: Sequence[Instrument]
    ) -> None:
        """Tells of markets none of whose instruments fails any more."""
        failing = {one.market_id for one in failures}
        for market_id in sorted({one.market_id for one in instruments} - failing):
            if self._complaints.over(f"{market_id} {work.failed}"):
                log.info("all instruments of market %d %s", market_id, work.mended)


def planned(
    instrument: Instrument, history: History, now_floor_ms: int, lookback_minutes: int
) -> list[FillTask]:
    """What an instrument lacks, ascending and without overlap; gaps inside are not looked for."""
    earliest_ms = history.earliest_ms
    if earliest_ms >= now_floor_ms:
        return []
    if history.stored is None:
        return [FillTask(instrument, Period(earliest_ms, now_floor_ms), "scheduler_bootstrap")]
    first_ms, last_ms = history.stored
    tasks: list[FillTask] = []
    if first_ms > earliest_ms + MINUTE_MS:
        tasks.append(
            FillTask(
                instrument, Period(earliest_ms, min(first_ms, now_floor_ms)), "historical_backfill"
            )
        )
    next_ms = max(earliest_ms, last_ms + MINUTE_MS)
    tail_ms = max(next_ms, now_floor_ms - lookback_minutes * MINUTE_MS)
    # Older than a tail may be: no look-up of the last minute finds it once the tail is stored.
    older_ms = min(tail_ms, now_floor_ms)
    if next_ms < older_ms:
        before = Period(next_ms, older_ms)
        tasks.append(FillTask(instrument, before, "historical_backfill"))
    if tail_ms < now_floor_ms:
        tasks.append(FillTask(instrument, Period(tail_ms, now_floor_ms), "scheduler_tail"))
    return tasks
