"""From the last stored minute to the beginning of a stream: looked up off the event loop."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Iterable, Mapping, Sequence
from typing import Final, Protocol

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.live.fills import FillTask
from ingest.live.threads import Threads
from ingest.rows import MINUTE_MS

INSTRUMENTS_AT_ONCE: Final = 50
"""An embedded store answers one call at a time, and inserts must not wait long."""
RETRY_S: Final = (0.5, 5.0)

log = logging.getLogger(__name__)


class Bounds(Protocol):
    """What is used of `CandleStore`."""

    def bounds(
        self, instrument: Instrument, before_ms: int | None = None
    ) -> tuple[int, int] | None: ...


def last_minutes(
    store: Bounds, instruments: Sequence[Instrument], before_ms: int
) -> dict[Instrument, int]:
    """The newest stored minute before a time, of the instruments that have one."""
    found = {one: store.bounds(one, before_ms) for one in instruments}
    return {one: bounds[1] for one, bounds in found.items() if bounds is not None}


class Tails:
    """Instruments whose stream began at some minute; `run` makes fill tasks of them.

    Of an instrument that waits the first such minute is kept and the last, so that no number of
    reconnects makes it more: up to the last the minutes are to be fetched, from the newest stored
    one that opens before the first, for what was stored since then must not hide a hole.
    """

    def __init__(
        self,
        lasts: Callable[[Sequence[Instrument], int], Mapping[Instrument, int]],
        earliest_ms: Callable[[Instrument], int],
        found: Callable[[FillTask], None],
        *,
        sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    ) -> None:
        self._lasts = lasts
        self._earliest_ms = earliest_ms
        self._found = found
        self._sleep = sleep
        self._waiting: dict[Instrument, tuple[int, int]] = {}
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self.threads = Threads(1, "look-up")

    def __len__(self) -> int:
        return len(self._waiting)

    def add(self, instruments: Iterable[Instrument], end_ms: int) -> None:
        """Notes that streams bring the minutes from `end_ms` on."""
        for one in instruments:
            self._note(one, end_ms, end_ms)
        self._none.clear()
        self._some.set()

    async def idle(self) -> None:
        """Returns when every instrument has been looked up."""
        await self._none.wait()

    async def run(self) -> None:
        """Looks up, oldest first; a store that fails is asked again."""
        failures = 0
        while True:
            if not self._waiting:
                self._none.set()
                self._some.clear()
                await self._some.wait()
                continue
            before_ms = min(first_ms for first_ms, _ in self._waiting.values())
            same = [one for one, (first_ms, _) in self._waiting.items() if first_ms == before_ms]
            # Taken out: what a stream adds meanwhile is looked up on its own.
            batch = {one: self._waiting.pop(one)[1] for one in sorted(same)[:INSTRUMENTS_AT_ONCE]}
            try:
                tasks = await self.threads.run(self._tasks, batch, before_ms)
            except Exception as error:
                for one, end_ms in batch.items():
                    self._note(one, before_ms, end_ms)
                failures += 1
                rest_s = min(RETRY_S[1], RETRY_S[0] * 2.0 ** min(failures - 1, 30))
                log.warning("last stored minutes are unknown, again in %g s: %s", rest_s, error)
                await self._sleep(rest_s)
                continue
            failures = 0
            for task in tasks:
                self._found(task)

    def close(self) -> None:
        """Lets the thread end."""
        self.threads.close()

    def _note(self, instrument: Instrument, first_ms: int, end_ms: int) -> None:
        first, end = self._waiting.get(instrument, (first_ms, end_ms))
        self._waiting[instrument] = min(first, first_ms), max(end, end_ms)

    def _tasks(self, ends: Mapping[Instrument, int], before_ms: int) -> list[FillTask]:
        """What the instruments lack up to the end of each; runs in the thread."""
        lasts = self._lasts(list(ends), before_ms)
        tasks = [self._task(one, lasts.get(one), end_ms) for one, end_ms in ends.items()]
        return [task for task in tasks if task is not None]

    def _task(self, instrument: Instrument, last_ms: int | None, end_ms: int) -> FillTask | None:
        """The minutes from the one after the last stored, or from the earliest, to an end."""
        start_ms = self._earliest_ms(instrument) if last_ms is None else last_ms + MINUTE_MS
        if start_ms >= end_ms:
            return None
        reason = "bootstrap" if last_ms is None else "reconnect_tail"
        return FillTask(instrument, Period(start_ms, end_ms), reason)
