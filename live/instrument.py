"""The runs of one instrument, advanced together: minute after minute, a commit each.

Minutes come from the feed; what it lacks is read from the store. A worker knows nothing that cannot
be read again: after any failure of a commit it forgets its runs and begins with what is stored.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, replace
from typing import Any, Final
from uuid import UUID

from compute.backtest import Backtest
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.rows import DAY_MS, MINUTE_MS, floor_minute
from live.feed import Entry
from live.leases import Lease
from live.ledger import Active, Committed, Ledger, Outcome, ms_of
from live.member import Member
from live.metrics import LiveMetrics
from live.minutes import Minutes
from live.output import Source, moment_text
from live.snapshots import Snapshots
from live.strategies.runs import Run

HISTORY_MS: Final = 30 * DAY_MS
"""Minutes that are read and replayed in one go."""
AHEAD_MS: Final = DAY_MS
"""How far from our clock a candle of the feed may be."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class RepairSettings:
    """When the store is asked for a minute that the feed did not bring, and how often again.

    The n-th time without success is followed by a pause of n · `retry_backoff_seconds`, at most
    `longest_pause_seconds`.
    """

    late_seconds: float = 5.0
    retry_backoff_seconds: float = 1.0
    longest_pause_seconds: float = 30.0


@dataclass(frozen=True, slots=True)
class Access:
    """What a worker has of the outside; `candles` and `absent` may block, they run in threads."""

    ledger: Ledger
    candles: Callable[[Instrument, Period], Candles]
    absent: Callable[[Instrument, Period], list[Period]]
    job: Callable[[Mapping[str, Any]], Backtest]
    clock: Callable[[], int]
    threads: Executor


class InstrumentWorker:
    """Advances the runs of an instrument that this process holds the lease of."""

    def __init__(
        self,
        lease: Lease,
        instrument: Instrument,
        access: Access,
        snapshots: Snapshots,
        metrics: LiveMetrics,
        repair: RepairSettings | None = None,
    ) -> None:
        self.lease, self.instrument = lease, instrument
        self._access, self._snapshots, self._metrics = access, snapshots, metrics
        self._repair = repair or RepairSettings()
        self._members: dict[UUID, Member] = {}
        self._wanted: dict[UUID, Active] = {}
        self._minutes = Minutes()
        self._entries: list[Entry] = []
        self._gap: _Gap | None = None
        self._tries, self._not_before = 0, 0.0

    def want(self, runs: Sequence[Active]) -> None:
        """The runs of this instrument that have not ended, as they are stored now."""
        self._wanted = {one.run.run_id: one for one in runs}

    def offer(self, entries: Sequence[Entry]) -> None:
        """Takes candles of the feed, which are handed back by `dealt_with` in their time."""
        self._entries += entries

    def dealt_with(self) -> list[Entry]:
        """Entries whose minutes are committed, or that no run of this worker waits for."""
        next_ms = self._next_ms()
        done: list[Entry] = []
        waiting: list[Entry] = []
        for one in self._entries:
            over = next_ms is None or one.ts_open_ms < next_ms
            (done if over else waiting).append(one)
        self._entries = waiting
        return done

    def lag_seconds(self) -> float | None:
        """From the close of the last minute that all runs went through to now; None: no runs."""
        next_ms = self._next_ms()
        return None if next_ms is None else max(0.0, (self._access.clock() - next_ms) / 1000)

    def forget(self) -> None:
        """Forgets all runs; the next step reads them again."""
        self._members.clear()
        self._minutes, self._gap = Minutes(), None

    async def step(self) -> bool:
        """Goes as far as the minutes reach; whether there may be more to do at once.

        Raises: LeaseLost, what the database raises, StoreFailed; `forget` before the next step.
        """
        ended = await self._members_of_now()
        now_ms = self._access.clock()
        next_ms = self._next_ms()
        if next_ms is None:
            return False
        limit_ms = now_ms + AHEAD_MS
        self._minutes.offer([one for one in self._entries if one.ts_open_ms < limit_ms], next_ms)
        await self._complete(next_ms, now_ms)
        began = time.perf_counter()
        outcomes = await asyncio.get_running_loop().run_in_executor(
            self._access.threads, self._advanced
        )
        self._metrics.evaluation_seconds.observe(time.perf_counter() - began)
        if not outcomes:
            return ended
        outcomes = self._with_gap(outcomes)
        await self._committed(outcomes, now_ms)
        after_ms = self._next_ms()
        self._minutes.forget(next_ms if after_ms is None else after_ms)
        return True

    async def _members_of_now(self) -> bool:
        """Takes up runs that are new, ends those that are to stop; whether some ended."""
        for run_id in [one for one in self._members if one not in self._wanted]:
            del self._members[run_id]
        outcomes: list[Outcome] = []
        for run_id, active in list(self._wanted.items()):
            known = self._members.get(run_id)
            if active.run.state == "stopping":
                self._members.pop(run_id, None)
                outcomes.append(_ending(active.run, active.source, "stopped"))
            elif active.is_deleted:
                self._members.pop(run_id, None)
                outcomes.append(
                    _ending(active.run, active.source, "failed", "strategy not found or deleted")
                )
            elif known is None:
                try:
                    self._members[run_id] = await self._taken_up(active)
                except _Unusable as error:
                    outcomes.append(_ending(active.run, active.source, "failed", str(error)))
        if outcomes:
            await self._committed(outcomes, self._access.clock())
        return bool(outcomes)

    async def _taken_up(self, active: Active) -> Member:
        """A run with its history replayed up to its checkpoint. Raises: _Unusable."""
        run, ledger = active.run, self._access.ledger
        spec = await ledger.spec(run.strategy_id)
        try:
            job = self._access.job(spec)
        except Exception as error:
            raise _Unusable(str(error) or type(error).__name__) from error
        member = Member.resumed(run, active.source, job, await ledger.account(run.run_id))
        checkpoint_ms = member.checkpoint_ms
        stop_ms = 0 if checkpoint_ms is None else checkpoint_ms + MINUTE_MS
        while member.live.next_ms < stop_ms:
            until_ms = min(member.live.next_ms + HISTORY_MS, stop_ms)
            await asyncio.to_thread(self._replay, member, until_ms)
        return member

    def _replay(self, member: Member, until_ms: int) -> None:
        period = Period(member.live.next_ms, until_ms)
        member.live.replay(self._access.candles(self.instrument, period), until_ms)

    def _next_ms(self) -> int | None:
        """The first minute that a run waits for."""
        return min((one.live.next_ms for one in self._members.values()), default=None)

    async def _complete(self, next_ms: int, now_ms: int) -> None:
        """Reads the store where the feed lacks a minute that should be there."""
        until_ms = min(self._until(one) for one in self._members.values())
        newest = self._minutes.newest()
        jumped = newest is not None and newest >= until_ms
        late_ms = now_ms - (until_ms + MINUTE_MS)
        if not jumped and late_ms < 1000 * self._repair.late_seconds:
            self._tries, self._not_before = 0, 0.0
            return
        if time.monotonic() < self._not_before:
            return
        period = Period(until_ms, min(floor_minute(now_ms), until_ms + HISTORY_MS))
        if period.start_ms >= period.end_ms:
            return
        if self._gap is None and jumped and newest is not None:
            self._gap = _Gap(until_ms, (newest - until_ms) // MINUTE_MS)
        found, absent = await asyncio.to_thread(self._read, period)
        self._minutes.looked_up(period, found, absent, now_ms)
        if len(found) or absent:
            self._tries = 0
        self._tries += 1
        pause = self._tries * self._repair.retry_backoff_seconds
        self._not_before = time.monotonic() + min(pause, self._repair.longest_pause_seconds)
        if min(self._until(one) for one in self._members.values()) > until_ms:
            self._not_before = 0.0

    def _read(self, period: Period) -> tuple[Candles, list[Period]]:
        access = self._access
        return access.candles(self.instrument, period), access.absent(self.instrument, period)

    def _until(self, member: Member) -> int:
        return self._minutes.until(member.live.next_ms, member.live.job.timeframe)

    def _advanced(self) -> list[Outcome]:
        """What the minutes at hand make of each run that can go on; a failure is its own."""
        outcomes: list[Outcome] = []
        for member in self._members.values():
            live = member.live
            until_ms = min(self._until(member), live.next_ms + HISTORY_MS)
            if until_ms <= live.next_ms and member.run.state != "starting":
                continue
            try:
                minutes = self._minutes.between(live.next_ms, until_ms)
                outcomes.append(member.advance(minutes, until_ms))
            except Exception as error:
                log.exception("run %s failed", member.run.run_id)
                outcomes.append(_ending(member.run, member.source, "failed", error))
        return outcomes

    def _with_gap(self, outcomes: list[Outcome]) -> list[Outcome]:
        """The outcomes, telling of a gap that is mended by them."""
        gap, next_ms = self._gap, self._next_ms()
        if gap is None or next_ms is None or next_ms <= gap.from_ms:
            return outcomes
        self._gap = None
        told = gap.events(self._tries or 1)
        return [
            one if one.states or one.error else replace(one, events=[*told, *one.events])
            for one in outcomes
        ]

    async def _committed(self, outcomes: Sequence[Outcome], now_ms: int) -> None:
        """Writes the outcomes; then tells of them."""
        done = await self._access.ledger.commit(self.lease, outcomes)
        for outcome in outcomes:
            run_id = outcome.run.run_id
            committed, member = done.get(run_id), self._members.get(run_id)
            if committed is None or not committed.run.active or committed.run.state == "stopping":
                self._members.pop(run_id, None)
                self._wanted.pop(run_id, None)  # until it is looked for again
            elif member is not None:
                member.run = committed.run
            if committed is not None:
                self._count(outcome, committed)
        await self._snapshots.tell(
            [(outcome, done[outcome.run.run_id]) for outcome in outcomes
             if outcome.run.run_id in done],
            now_ms,
        )  # fmt: skip

    def _count(self, outcome: Outcome, committed: Committed) -> None:
        before_ms, after_ms = ms_of(outcome.run.checkpoint_ts_open), outcome.checkpoint_ms
        if after_ms is not None and before_ms is not None and after_ms > before_ms:
            self._metrics.minutes.inc((after_ms - before_ms) // MINUTE_MS)
            self._metrics.commit_delay_seconds.observe(
                max(0.0, (self._access.clock() - after_ms - MINUTE_MS) / 1000)
            )
        self._metrics.bars.inc(len(outcome.bars))
        if committed.run.state == "failed":
            self._metrics.failed_runs.inc()


@dataclass(frozen=True, slots=True)
class _Gap:
    """Minutes that the feed left out."""

    from_ms: int
    minutes: int

    def events(self, tries: int) -> list[tuple[str, Mapping[str, Any]]]:
        at = {"from_ts": moment_text(self.from_ms), "missing_minutes": self.minutes}
        return [("gap", at), ("repair", {**at, "attempts": tries})]


class _Unusable(Exception):
    """A strategy that cannot be evaluated."""


def _ending(run: Run, source: Source, state: str, error: Exception | str | None = None) -> Outcome:
    """The end of a run; its checkpoint stays where it is."""
    text = None if error is None else str(error).strip() or type(error).__name__
    at_ms = ms_of(run.checkpoint_ts_open)
    return Outcome(run, source, at_ms, run.metadata_json, (state,), error=text)
