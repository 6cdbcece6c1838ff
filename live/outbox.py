"""Records on their way to their owners: sent together, a moment after their commits."""

from __future__ import annotations

import asyncio
import logging
from collections import deque
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager, suppress
from typing import Final

from live.metrics import OutputMetrics
from live.output import Told
from live.snapshots import Publisher

MOST: Final = 100_000
"""Records that wait at most; the oldest make room."""
_PAUSE_SECONDS: Final = 0.05
ENDING_SECONDS: Final = 3.0

log = logging.getLogger(__name__)


class Outbox:
    """Takes records at once; `run` has `publisher` send what came meanwhile.

    No commit waits for them, and a minute of many instruments is sent in few round trips.
    """

    def __init__(self, publisher: Publisher, metrics: OutputMetrics) -> None:
        self._publisher, self._metrics = publisher, metrics
        self._records: deque[Told] = deque(maxlen=MOST)
        self._came, self._ended, self._under_way = asyncio.Event(), False, 0

    async def publish(self, records: Sequence[Told]) -> None:
        """Takes records. Raises nothing."""
        if not records:
            return
        self._metrics.errors.inc(max(0, len(self._records) + len(records) - MOST))
        self._records.extend(records)
        self._came.set()

    def end(self) -> None:
        """Has `run` end when all is sent."""
        self._ended = True
        self._came.set()

    async def run(self) -> None:
        """Sends records until `end`."""
        while not self._ended or self._records:
            await self._came.wait()
            if not self._ended:
                await asyncio.sleep(_PAUSE_SECONDS)  # for those that follow
            self._came.clear()
            records = list(self._records)
            self._records.clear()
            self._under_way = len(records)
            try:
                await self._publisher.publish(records)
            except Exception:  # whatever it is, the next ones may get through
                log.exception("%d records of runs were not published", len(records))
                self._metrics.errors.inc(len(records))
            self._under_way = 0
            if self._ended:
                self._came.set()

    def give_up(self) -> None:
        """Says what was not sent."""
        lost = len(self._records) + self._under_way
        if lost:
            log.warning("%d records of runs were not published before the end", lost)
            self._metrics.errors.inc(lost)


@asynccontextmanager
async def outbox(publisher: Publisher, metrics: OutputMetrics) -> AsyncIterator[Outbox]:
    """An outbox that is emptied at the end, if that does not take long."""
    box = Outbox(publisher, metrics)
    sending = asyncio.create_task(box.run(), name="live output")
    try:
        yield box
    finally:
        box.end()
        with suppress(TimeoutError):
            async with asyncio.timeout(ENDING_SECONDS):
                await sending
        box.give_up()
