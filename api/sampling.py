"""The sample on its way into the store: one load at a time for a service, and how far it is."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable
from contextlib import suppress

from ingest.sample import Sample, store_sample
from ingest.stores.candles import CandleStore

log = logging.getLogger(__name__)

Threaded = Callable[[Callable[[], Sample]], Awaitable[Sample]]
"""Makes a call on a thread."""


class SampleLoad:
    """Stores the sample for whoever asks; it goes on when they go away.

    `share` is how much of the work under way is done, `has_failed` whether the last one did.
    """

    def __init__(self, store: CandleStore, threaded: Threaded) -> None:
        self._store, self._threaded = store, threaded
        self._task: asyncio.Task[Sample] | None = None
        self.share = 0.0
        self.has_failed = False

    @property
    def is_on(self) -> bool:
        """Whether it is being stored."""
        return self._task is not None and not self._task.done()

    def begin(self, now_ms: int) -> asyncio.Task[Sample]:
        """The load under way, a new one where there is none."""
        if self._task is None or self._task.done():
            self.share, self.has_failed = 0.0, False
            self._task = asyncio.create_task(self._write(now_ms))
            self._task.add_done_callback(self._ended)
        return self._task

    async def stored(self, now_ms: int) -> Sample:
        """The sample when it is stored. Raises: StorageFailed."""
        return await asyncio.shield(self.begin(now_ms))

    async def end(self) -> None:
        """Returns when nothing is being written, whatever became of it."""
        if self._task is not None and self.is_on:
            with suppress(Exception):
                await self._task

    async def _write(self, now_ms: int) -> Sample:
        return await self._threaded(lambda: store_sample(self._store, now_ms, self._went))

    def _went(self, share: float) -> None:
        self.share = share

    def _ended(self, task: asyncio.Task[Sample]) -> None:
        """Takes note of a failure, which nobody may be waiting for."""
        if not task.cancelled() and (error := task.exception()) is not None:
            self.has_failed = True
            log.warning("the sample was not stored: %s", error.__cause__ or error)
