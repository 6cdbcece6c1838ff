"""The database of a process that computes: its coroutines run on a loop in a thread of their own.

So a heartbeat goes out on time whatever the other threads compute.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
from collections.abc import Awaitable, Callable, Coroutine
from concurrent.futures import Future
from typing import Any, Final, TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.postgres.engine import engine, transient

T = TypeVar("T")

_FIRST_PAUSE_SECONDS: Final = 0.05
_LONGEST_PAUSE_SECONDS: Final = 1.0
_CONNECTIONS: Final = 5

_LOG = logging.getLogger(__name__)


class Database:
    """An engine, the loop it belongs to, and calls from other threads; a context manager."""

    def __init__(self, dsn: str, application: str = "roehub jobs") -> None:
        self._loop = asyncio.new_event_loop()
        self._thread = threading.Thread(target=self._loop.run_forever, name="database", daemon=True)
        self.engine: AsyncEngine = engine(dsn, connections=_CONNECTIONS, application=application)

    def __enter__(self) -> Database:
        self._thread.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._submit(self._ended()).result()
        self._loop.call_soon_threadsafe(self._loop.stop)
        self._thread.join()
        self._loop.close()

    async def _ended(self) -> None:
        here = asyncio.current_task()
        tasks = [task for task in asyncio.all_tasks() if task is not here]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await self.engine.dispose()

    def start(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        """Runs `work` on the loop; cancel the future to end it."""
        return self._submit(work)

    def call(self, make: Callable[[], Awaitable[T]], until: Callable[[], float]) -> T:
        """What `make()` returns; made again while the database cannot be reached.

        `until()` is the monotonic time after which that is given up and the failure raised. What
        is made must bear being made twice: an answer may be lost on its way. Not for the loop's
        own thread.
        """
        return self._submit(steady(make, until)).result()

    def _submit(self, work: Coroutine[Any, Any, T]) -> Future[T]:
        return asyncio.run_coroutine_threadsafe(work, self._loop)


async def steady(make: Callable[[], Awaitable[T]], until: Callable[[], float]) -> T:
    """What `make()` returns; see `Database.call`."""
    pause = _FIRST_PAUSE_SECONDS
    while True:
        try:
            return await make()
        except Exception as error:
            wait = pause * random.uniform(0.5, 1.0)
            if not transient(error) or time.monotonic() + wait >= until():
                raise
            _LOG.warning("the database cannot be used, trying again: %s", _brief(error))
        await asyncio.sleep(wait)
        pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)


def _brief(error: Exception) -> str:
    lines = str(getattr(error, "orig", None) or error).strip().splitlines()
    return lines[0] if lines else type(error).__name__
