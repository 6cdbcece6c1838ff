"""What runs beside the API: in this process, because the candle store has no other; on a thread and
an event loop of its own, so that what blocks there holds up no request."""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable
from contextlib import suppress

from api.children import STEADY_SECONDS, Backoff
from compute.quantities import plural
from ingest.live.threads import Threads

log = logging.getLogger(__name__)

Work = Callable[[asyncio.Event], Awaitable[int]]
"""Runs until the event; the number of things that it could not finish."""


class Beside:
    """Runs `work`, again whenever it ends by itself; `say` hears of that by its `name`.

    `loop` makes its event loop; that of Python without.
    """

    def __init__(
        self,
        work: Work,
        say: Callable[[str], None],
        name: str = "ingestion",
        *,
        backoff: Backoff | None = None,
        loop: Callable[[], asyncio.AbstractEventLoop] | None = None,
    ) -> None:
        self._work, self._say, self._name = work, say, name
        self._loop = loop
        self._backoff = backoff or Backoff()

    async def kept(self, stop: asyncio.Event) -> None:
        """Keeps it running until `stop`, and then waits for what it has still to store."""
        threads = Threads(1, self._name)
        try:
            await self._kept(threads, stop)
        finally:
            threads.close()

    async def _kept(self, threads: Threads, stop: asyncio.Event) -> None:
        failures = 0
        while not stop.is_set():
            began = time.monotonic()
            try:
                left = await threads.run(self._life, stop, asyncio.get_running_loop())
                reason = "ended"
                if left:
                    self._say(f"{self._name} could not store {plural(left, 'candle')}")
            except Exception as error:
                log.exception("%s failed", self._name)
                reason = f"failed: {error}"
            if stop.is_set():
                return
            failures = 1 if time.monotonic() - began > STEADY_SECONDS else failures + 1
            pause = self._backoff.pause(failures)
            self._say(f"{self._name} {reason}; starting it again in {pause:g} s")
            with suppress(TimeoutError):
                await asyncio.wait_for(stop.wait(), pause)

    def _life(self, stop: asyncio.Event, home: asyncio.AbstractEventLoop) -> int:
        """Runs it once in this thread; `stop` belongs to the loop `home`."""

        async def work() -> int:
            # An event of its own: whoever sets it there must not stop everything else.
            asked, here = asyncio.Event(), asyncio.get_running_loop()
            waiting = asyncio.run_coroutine_threadsafe(stop.wait(), home)
            waiting.add_done_callback(lambda _: _told(here, asked))
            try:
                return await self._work(asked)
            finally:
                waiting.cancel()

        with asyncio.Runner(loop_factory=self._loop) as runner:
            return runner.run(work())


def _told(loop: asyncio.AbstractEventLoop, event: asyncio.Event) -> None:
    with suppress(RuntimeError):  # the loop has ended meanwhile
        loop.call_soon_threadsafe(event.set)
