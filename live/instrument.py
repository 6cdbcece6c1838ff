"""The runs of one instrument, advanced together: minute after minute, a commit each.

Minutes come from the feed; what it lacks is read from the store. A worker knows nothing that cannot
be read again: after any failure of a commit it forgets its runs and begins with what is stored. A
store that fails holds up only runs that wait for a minute of it.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Mapping, Sequence
from dataclasses import replace
from typing import Final
from uuid import UUID

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.rows import DAY_MS, MINUTE_MS, floor_minute
from live.access import Access, Pause, RepairSettings, StoreGone
from live.feed import Entry
from live.gaps import Gap
from live.history import HISTORY_MS, History
from live.leases import Lease
from live.ledger import Active
from live.member import Member, begun_ms
from live.metrics import LiveMetrics
from live.minutes import Minutes
from live.outcomes import Committed, Outcome, ended, ms_of
from live.snapshots import Snapshots

AHEAD_MS: Final = DAY_MS
"""How far from our clock a candle of the feed may be."""
MOST_BARS: Final = 5_000
"""About how many a commit writes: it must be short, the lease is locked for so long."""
MISSED_MS: Final = MINUTE_MS
"""So long after its close a minute that neither feed nor store has is told to be missing."""

log = logging.getLogger(__name__)


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
        self._entries: dict[str, Entry] = {}
        self._history = History(instrument, access, self._repair)
        self._pause = Pause(self._repair)
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why runs have to wait: what the store did not answer, or does not have."""
        return self._trouble or self._history.trouble

    def want(self, runs: Sequence[Active]) -> None:
        """The runs of this instrument that have not ended, as they were found; what was committed
        here since then is not forgotten."""
        known = self._wanted
        self._wanted = {one.run.run_id: one for one in runs}
        for run_id, one in self._wanted.items():
            if run_id in known and known[run_id].run.updated_at > one.run.updated_at:
                self._wanted[run_id] = replace(one, run=known[run_id].run)

    def offer(self, entries: Sequence[Entry]) -> None:
        """Takes candles of the feed, which are handed back by `dealt_with` in their time."""
        self._entries |= {entry.entry_id: entry for entry in entries}
        for member in self._members.values():
            member.dropped += sum(one.ts_open_ms < member.live.next_ms for one in entries)

    def dealt_with(self) -> list[Entry]:
        """Entries whose minutes are committed, or that no run of this worker waits for."""
        waits_ms = self._waits_ms()
        done = [one for one in self._entries.values()
                if waits_ms is None or one.ts_open_ms < waits_ms]  # fmt: skip
        for one in done:
            del self._entries[one.entry_id]
        return done

    def lag_seconds(self) -> float | None:
        """From the close of the last minute that all runs went through to now; None: no runs.

        A run that has not come to its start yet lags since its start.
        """
        behind_ms = [max(next_ms, begun) for next_ms, begun in self._waiting()]
        if not behind_ms:
            return None
        return max(0.0, (self._access.clock() - min(behind_ms)) / 1000)

    async def known(self) -> bool:
        """Whether there are candles of this instrument: some run has seen one, or the store has."""
        if any(one.run.checkpoint_ts_open is not None for one in self._wanted.values()):
            return True
        try:
            return await self._access.read(self._access.bounds, self.instrument) is not None
        except StoreGone:
            return False

    def forget(self) -> None:
        """Forgets all runs; the next step reads them again."""
        self._members.clear()
        self._history.keep([])
        self._minutes = Minutes()

    async def step(self) -> bool:
        """Goes as far as the minutes reach; whether there may be more to do at once.

        Raises: LeaseLost, OutOfStep, what the database raises; `forget` before the next step.
        """
        now_ms = self._access.clock()
        more = await self._members_of_now(now_ms)
        next_ms = self._next_ms()
        if next_ms is None:
            return more
        limit_ms = now_ms + AHEAD_MS
        entries = [one for one in self._entries.values() if one.ts_open_ms < limit_ms]
        self._minutes.offer(entries, next_ms)
        missed = self._missed(now_ms)
        if await self._complete(now_ms):
            missed |= self._missed(now_ms)
        if not missed and not any(map(self._goes_on, self._members.values())):
            return more
        began = time.perf_counter()
        outcomes = await asyncio.get_running_loop().run_in_executor(
            self._access.threads, self._advanced, missed
        )
        self._metrics.evaluation_seconds.observe(time.perf_counter() - began)
        if not outcomes:
            return more
        await self._committed(outcomes, now_ms)
        after_ms = self._next_ms()
        self._minutes.forget(next_ms if after_ms is None else after_ms)
        return True

    async def _members_of_now(self, now_ms: int) -> bool:
        """Takes in runs that are new, ends those that are to stop; whether any of that was done."""
        for run_id in [one for one in self._members if one not in self._wanted]:
            del self._members[run_id]
        outcomes: list[Outcome] = []
        new: list[Active] = []
        for run_id, active in self._wanted.items():
            known = self._members.get(run_id)
            run = active.run if known is None else known.run
            if active.run.state == "stopping":
                outcomes.append(ended(active.run, active.source, "stopped"))
            elif active.is_deleted:
                text = "strategy not found or deleted"
                outcomes.append(ended(run, active.source, "failed", text))
            elif known is None:
                new.append(active)
        self._history.keep(one.run.run_id for one in new)
        came = await self._history.arrivals(new, now_ms)
        self._members |= {one.run.run_id: one for one in came.ready}
        for active, text in came.failed:
            outcomes.append(ended(active.run, active.source, "failed", text))
        if outcomes:
            await self._committed(outcomes, now_ms)
        return bool(outcomes or came.ready or came.moved)

    def _next_ms(self) -> int | None:
        """The first minute that a run waits for."""
        return min((one.live.next_ms for one in self._members.values()), default=None)

    def _waits_ms(self) -> int | None:
        """The same, also of runs that could not be taken up yet."""
        return min((next_ms for next_ms, _ in self._waiting()), default=None)

    def _waiting(self) -> list[tuple[int, int]]:
        """The minute that each run waits for, and the one that it was started in."""
        waiting = [(one.live.next_ms, one.begun_ms) for one in self._members.values()]
        for run_id, active in self._wanted.items():
            if run_id not in self._members:
                checkpoint_ms, begun = ms_of(active.run.checkpoint_ts_open), begun_ms(active.run)
                next_ms = begun if checkpoint_ms is None else checkpoint_ms + MINUTE_MS
                waiting.append((next_ms, begun))
        return waiting

    def _missed(self, now_ms: int) -> dict[UUID, Gap]:
        """The gaps that begin for runs: the feed jumped over minutes, or nobody has them."""
        missed: dict[UUID, Gap] = {}
        newest = self._minutes.newest()
        for run_id, member in self._members.items():
            if member.gap is not None or member.run.state == "starting":
                continue
            until_ms = self._until(member)
            from_ms = max(until_ms, member.begun_ms)
            to_ms = from_ms if newest is None else newest
            late_ms = floor_minute(now_ms - MISSED_MS)
            if self._minutes.asked_for(until_ms) and len(self._minutes.missing(from_ms, late_ms)):
                to_ms = max(to_ms, floor_minute(now_ms))
            gap = Gap.found(self._minutes, from_ms, to_ms)
            if gap is not None:
                missed[run_id] = gap
        return missed

    async def _complete(self, now_ms: int) -> bool:
        """Reads the store where the feed lacks a minute that should be there; whether it did."""
        until_ms = min(self._until(one) for one in self._members.values())
        newest = self._minutes.newest()
        jumped = newest is not None and newest >= until_ms
        late_ms = now_ms - (until_ms + MINUTE_MS)
        if not jumped and late_ms < 1000 * self._repair.late_seconds:
            self._pause.end()
            return False
        if not self._pause.over:
            return False
        period = Period(until_ms, min(floor_minute(now_ms), until_ms + HISTORY_MS))
        if period.start_ms >= period.end_ms:
            return False
        self._pause.begin()
        access = self._access
        try:
            found = await access.read(access.candles, self.instrument, period)
            absent = await access.read(access.absent, self.instrument, period)
        except StoreGone as error:
            self._metrics.instrument_errors.inc()
            if self._trouble is None:
                log.warning("candles of %s cannot be read: %s", self.instrument, error)
            self._trouble = str(error)
            return False
        self._trouble = None
        self._minutes.looked_up(period, found, absent, now_ms)
        if min(self._until(one) for one in self._members.values()) > until_ms:
            self._pause.cut()
        return True

    def _until(self, member: Member) -> int:
        return self._minutes.until(member.live.next_ms, member.live.job.timeframe)

    def _goes_on(self, member: Member) -> bool:
        return self._until(member) > member.live.next_ms or member.run.state == "starting"

    def _advanced(self, missed: Mapping[UUID, Gap]) -> list[Outcome]:
        """What the minutes at hand make of each run that can go on; a failure is its own."""
        outcomes: list[Outcome] = []
        most_bars = max(1, MOST_BARS // len(self._members))
        for run_id, member in self._members.items():
            live, frame_ms = member.live, member.live.job.timeframe.ms
            stop_ms = (live.next_ms // frame_ms + most_bars) * frame_ms
            until_ms = min(self._until(member), stop_ms)
            gap = missed.get(run_id)
            try:
                if self._goes_on(member):
                    outcomes.append(member.advance(self._minutes, until_ms, self._pause.tries, gap))
                elif gap is not None:
                    outcomes.append(member.miss(gap))
            except Exception as error:
                log.exception("run %s failed", member.run.run_id)
                outcomes.append(ended(member.run, member.source, "failed", error))
        return outcomes

    async def _committed(self, outcomes: Sequence[Outcome], now_ms: int) -> None:
        """Writes the outcomes; then tells of them."""
        done = await self._access.ledger.commit(self.lease, outcomes)
        for outcome in outcomes:
            run_id = outcome.run.run_id
            committed, member = done.get(run_id), self._members.get(run_id)
            if committed is None or not committed.run.active or committed.run.state == "stopping":
                self._members.pop(run_id, None)
                self._wanted.pop(run_id, None)  # until it is looked for again
                continue
            if run_id in self._wanted:
                self._wanted[run_id] = replace(self._wanted[run_id], run=committed.run)
            if member is not None:
                member.run = committed.run
        for committed in done.values():
            self._count(committed)
        await self._snapshots.tell(list(done.values()), now_ms)

    def _count(self, committed: Committed) -> None:
        outcome = committed.outcome
        before_ms, after_ms = ms_of(outcome.run.checkpoint_ts_open), outcome.checkpoint_ms
        if after_ms is not None and before_ms is not None and after_ms > before_ms:
            self._metrics.minutes.inc((after_ms - before_ms) // MINUTE_MS)
            self._metrics.commit_delay_seconds.observe(
                max(0.0, (self._access.clock() - after_ms - MINUTE_MS) / 1000)
            )
        self._metrics.bars.inc(len(outcome.bars))
        if committed.run.state == "failed":
            self._metrics.failed_runs.inc()
