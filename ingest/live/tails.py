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

    Those that wait are kept by minute, so that no number of reconnects makes them many, and with
    the minute of their own: a candle stored since then must not hide what is missing before it.
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
        self._waiting: dict[int, set[Instrument]] = {}
        self._some = asyncio.Event()
        self._none = asyncio.Event()
        self._none.set()
        self.threads = Threads(1, "look-up")

    def add(self, instruments: Iterable[Instrument], end_ms: int) -> None:
        """Notes that streams bring the minutes from `end_ms` on."""
        self._waiting.setdefault(end_ms, set()).update(instruments)
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
            end_ms = min(self._waiting)
            batch = sorted(self._waiting[end_ms])[:INSTRUMENTS_AT_ONCE]
            try:
                tasks = await self.threads.run(self._tasks, batch, end_ms)
            except Exception as error:
                failures += 1
                rest_s = min(RETRY_S[1], RETRY_S[0] * 2.0 ** min(failures - 1, 30))
                log.warning("last stored minutes are unknown, again in %g s: %s", rest_s, error)
                await self._sleep(rest_s)
                continue
            failures = 0
            self._waiting[end_ms].difference_update(batch)
            if not self._waiting[end_ms]:
                del self._waiting[end_ms]
            for task in tasks:
                self._found(task)

    def close(self) -> None:
        """Lets the thread end."""
        self.threads.close()

    def _tasks(self, instruments: Sequence[Instrument], end_ms: int) -> list[FillTask]:
        """What the instruments lack; runs in the thread."""
        lasts = self._lasts(instruments, end_ms)
        tasks = [self._task(one, lasts.get(one), end_ms) for one in instruments]
        return [task for task in tasks if task is not None]

    def _task(self, instrument: Instrument, last_ms: int | None, end_ms: int) -> FillTask | None:
        if last_ms is None:
            earliest_ms = self._earliest_ms(instrument)
            if earliest_ms >= end_ms:
                return None
            return FillTask(instrument, Period(earliest_ms, end_ms), "bootstrap")
        if last_ms + MINUTE_MS >= end_ms:
            return None
        return FillTask(instrument, Period(last_ms + MINUTE_MS, end_ms), "reconnect_tail")
