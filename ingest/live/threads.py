"""Threads for calls that block, awaited from the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import queue
import threading
from collections.abc import Callable
from typing import Any, TypeVar

Returned = TypeVar("Returned")


class Threads:
    """A few lasting threads; a call waits for one of them to be free.

    They are daemons, for `asyncio.to_thread` keeps a process from ending while a call hangs: a
    store that does not answer would hold up a shutdown for minutes. They last, because the store
    keeps a connection a thread.
    """

    def __init__(self, count: int, name: str) -> None:
        self._calls: queue.SimpleQueue[Callable[[], None] | None] = queue.SimpleQueue()
        self._count = count
        self._name = name
        self._started = 0
        self._closed = False

    async def run(self, function: Callable[..., Returned], *arguments: Any) -> Returned:
        """What `function` returns or raises; the wait for it can be cancelled, the call cannot.

        Raises:
            RuntimeError: the threads have been closed.
        """
        if self._closed:
            raise RuntimeError(f"the threads for {self._name} are closed")
        loop = asyncio.get_running_loop()
        future: asyncio.Future[Returned] = loop.create_future()

        def settle(result: Any, error: BaseException | None) -> None:
            if future.done():  # nobody waits any more
                return
            if error is None:
                future.set_result(result)
            else:
                future.set_exception(error)

        def call() -> None:
            result: Any = None
            error: BaseException | None = None
            try:
                result = function(*arguments)
            except BaseException as raised:
                error = raised
            with contextlib.suppress(RuntimeError):  # the loop has ended without waiting
                loop.call_soon_threadsafe(settle, result, error)

        if self._started < self._count:
            self._started += 1
            threading.Thread(
                target=self._work, name=f"{self._name} {self._started}", daemon=True
            ).start()
        self._calls.put(call)
        return await future

    def close(self) -> None:
        """Lets the threads end after the calls they have."""
        self._closed = True
        for _ in range(self._started):
            self._calls.put(None)
        self._started = 0

    def _work(self) -> None:
        while (call := self._calls.get()) is not None:
            call()
