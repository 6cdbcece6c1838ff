"""Runs on their way in: the minutes since their anchors, read once for all of an instrument.

What a run was traded on before its restart are exactly those minutes, or it waits: a minute that
the store does not have yet is looked for in the feed. A new run is brought up to what is settled.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from typing import Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.rows import DAY_MS, MINUTE_MS, instrument_key
from live.access import Access, Pause, RepairSettings, StoreGone
from live.evaluation import Course
from live.feed import FAILURES
from live.ledger import Active
from live.member import Member, course_of
from live.minutes import Minutes
from live.outcomes import ms_of
from live.output import moment_text
from live.settled import given_up_ms

HISTORY_MS: Final = 30 * DAY_MS
"""Minutes that are read and replayed in one go."""
UNKNOWN_MS: Final = 3_600_000
"""So long after its start a run waits for the first candle of its instrument."""

log = logging.getLogger(__name__)


class _NoCandle(Exception):
    """An instrument of which there is none yet."""


@dataclass(slots=True)
class _Waiting:
    """A run that is replayed up to `stop_ms`; `lacks` says what it waits for."""

    active: Active
    member: Member
    stop_ms: int
    lacks: str | None = None

    @property
    def next_ms(self) -> int:
        return self.member.live.next_ms


@dataclass(slots=True)
class Arrivals:
    """Runs that are ready for the next minute, those that cannot be evaluated and why, and
    whether the others got any further."""

    ready: list[Member]
    failed: list[tuple[Active, str]]
    moved: bool = False


class History:
    """Brings the runs of an instrument to the minute that they go on with."""

    def __init__(self, instrument: Instrument, access: Access, repair: RepairSettings) -> None:
        self._instrument, self._access = instrument, access
        self._waiting: dict[UUID, _Waiting] = {}
        self._away, self._lacking = Pause(repair), Pause(repair)
        self._trouble: str | None = None

    @property
    def trouble(self) -> str | None:
        """Why runs have to wait."""
        lacks = (one.lacks for one in self._waiting.values())
        return self._trouble or next((text for text in lacks if text is not None), None)

    def keep(self, run_ids: Iterable[UUID]) -> None:
        """Forgets all runs but these."""
        kept = set(run_ids)
        self._waiting = {one: at for one, at in self._waiting.items() if one in kept}

    async def arrivals(self, wanted: Sequence[Active], now_ms: int) -> Arrivals:
        """What became of those that are wanted: at most `HISTORY_MS` are replayed in a call.

        Raises: what the database raises.
        """
        found = Arrivals([], [])
        if not self._away.over:
            return found
        try:
            for active in wanted:
                if active.run.run_id not in self._waiting:
                    await self._begin(active, now_ms, found)
            await self._go_on(found)
        except _NoCandle:
            self._away.begin()
        except StoreGone as error:
            if self._trouble is None:
                log.warning("history of %s cannot be read: %s", self._instrument, error)
            self._trouble = str(error)
            self._away.begin()
        else:
            self._trouble = None
            self._away.end()
        return found

    async def _begin(self, active: Active, now_ms: int, found: Arrivals) -> None:
        """Reads a run as it is stored; one that is new gets its course.

        Raises: StoreGone, _NoCandle.
        """
        stored = await self._access.ledger.stored(active.run.run_id)
        run, course = stored.run, course_of(stored.run)
        bounds = None
        if run.checkpoint_ts_open is None:
            bounds = await self._access.read(self._access.bounds, self._instrument)
        try:
            job = self._access.job(stored.spec)
            started_ms = ms_of(run.started_at) or 0
            if run.checkpoint_ts_open is None and bounds is None:
                if now_ms < started_ms + UNKNOWN_MS:
                    raise _NoCandle
                raise LookupError(
                    f"there was no candle of {self._instrument} within an hour: is its symbol"
                    f" right, and is it on the whitelist of market data?"
                )
            if course is None:
                assert bounds is not None
                course = Course.begun(job, started_ms, bounds[0])
            member = Member.resumed(stored, active.source, job, course)
        except _NoCandle:
            raise
        except Exception as error:
            found.failed.append((active, str(error) or type(error).__name__))
            return
        checkpoint_ms = member.checkpoint_ms
        if checkpoint_ms is not None:
            stop_ms = checkpoint_ms + MINUTE_MS
        else:
            assert bounds is not None
            settled_ms = min(given_up_ms(job.timeframe, now_ms), bounds[1] + MINUTE_MS)
            stop_ms = min(settled_ms, course.earliest_ms - job.timeframe.ms)
        self._waiting[run.run_id] = _Waiting(active, member, stop_ms)

    async def _go_on(self, found: Arrivals) -> None:
        """Replays the earliest minutes that some run waits for. Raises: StoreGone."""
        some = [one for one in self._waiting.values() if one.lacks is None]
        if not some and self._lacking.over:
            some = list(self._waiting.values())
        for one in [one for one in some if one.next_ms >= one.stop_ms]:
            some.remove(one)
            del self._waiting[one.member.run.run_id]
            found.ready.append(one.member)
        if not some:
            return
        start_ms = min(one.next_ms for one in some)
        stop_ms = min(start_ms + HISTORY_MS, max(one.stop_ms for one in some))
        here = [one for one in some if one.next_ms < min(stop_ms, one.stop_ms)]
        period = Period(start_ms, stop_ms)
        minutes = Minutes(await self._access.read(self._access.candles, self._instrument, period))
        await self._completed(minutes, here, stop_ms)
        if any(one.lacks is not None for one in here):
            self._lacking.begin()
        else:
            self._lacking.end()
        going = [one for one in here if one.lacks is None]
        failed = await asyncio.get_running_loop().run_in_executor(
            self._access.threads, _replayed, going, minutes, stop_ms
        )
        for one, text in failed:
            del self._waiting[one.member.run.run_id]
            found.failed.append((one.active, text))
        found.moved = bool(going)

    async def _completed(self, minutes: Minutes, here: Sequence[_Waiting], stop_ms: int) -> None:
        """Adds what the feed has of minutes that runs have seen; notes what is still lacking."""
        lacking = await self._lacking_of(minutes, here, stop_ms)
        opens = np.concatenate([np.empty(0, np.int64), *lacking])
        if len(opens) and self._access.recent is not None:
            period = Period(int(opens.min()), int(opens.max()) + MINUTE_MS)
            try:
                entries = await self._access.recent(instrument_key(self._instrument), period)
            except FAILURES as error:
                log.warning("the live feed has nothing of %s: %s", self._instrument, error)
            else:
                minutes.offer(entries, period.start_ms)
                lacking = await self._lacking_of(minutes, here, stop_ms)
        for one, opens in zip(here, lacking, strict=True):
            one.lacks = None
            if len(opens):
                one.lacks = (
                    f"{len(opens)} minutes from {moment_text(int(opens[0]))} on, which run"
                    f" {one.member.run.run_id} traded on, are not stored yet"
                )

    async def _lacking_of(
        self, minutes: Minutes, here: Sequence[_Waiting], stop_ms: int
    ) -> list[NDArray[np.int64]]:
        loop = asyncio.get_running_loop()
        return await loop.run_in_executor(self._access.threads, _lacking, here, minutes, stop_ms)


def _lacking(here: Sequence[_Waiting], minutes: Minutes, stop_ms: int) -> list[NDArray[np.int64]]:
    """The minutes that each run has seen before and now lacks."""
    return [
        np.empty(0, np.int64)
        if one.member.checkpoint_ms is None
        else one.member.lacking(minutes, min(stop_ms, one.stop_ms))
        for one in here
    ]


def _replayed(
    going: Sequence[_Waiting], minutes: Minutes, stop_ms: int
) -> list[tuple[_Waiting, str]]:
    """Replays runs; which of them failed, and why."""
    failed: list[tuple[_Waiting, str]] = []
    for one in going:
        member = one.member
        replay = member.seed if member.checkpoint_ms is None else member.replay
        try:
            replay(minutes, min(stop_ms, one.stop_ms))
        except Exception as error:
            log.exception("history of run %s cannot be replayed", member.run.run_id)
            failed.append((one, str(error) or type(error).__name__))
    return failed
