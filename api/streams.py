"""Who may have event streams open: each user so many at a time, and as long as he is allowed to."""

from __future__ import annotations

import asyncio
from collections import Counter
from collections.abc import Awaitable, Callable
from uuid import UUID

from api.errors import TooManyRequests


class OpenStreams:
    """The streams of this process; a user has at most `most` of them here."""

    def __init__(self, most: int) -> None:
        self._most = most
        self._open: Counter[UUID] = Counter()

    def open(self, user_id: UUID) -> Callable[[], None]:
        """What ends a stream of a user that begins now. Raises: TooManyRequests."""
        if self._open[user_id] >= self._most:
            raise TooManyRequests(
                f"{self._most} event streams of yours are open, which is the most; close pages or"
                " programs that follow jobs and runs, or raise"
                " backtest.api.max_event_streams_per_user",
                details={
                    "error": "max_event_streams_exceeded",
                    "max_event_streams_per_user": self._most,
                },
            )
        self._open[user_id] += 1
        return lambda: self._close(user_id)

    def _close(self, user_id: UUID) -> None:
        self._open[user_id] -= 1
        if not self._open[user_id]:
            del self._open[user_id]


async def always() -> bool:
    """The answer for a reader whom nobody asks for."""
    return True


class Permit:
    """Whether the reader of a stream that begins now is still `allowed`, asked each `seconds`."""

    def __init__(self, allowed: Callable[[], Awaitable[bool]], seconds: float) -> None:
        self._allowed, self._seconds = allowed, seconds
        self._asked_at = asyncio.get_running_loop().time()

    async def holds(self) -> bool:
        """Whether the stream may go on; ask before each of its pieces."""
        clock = asyncio.get_running_loop()
        if clock.time() - self._asked_at < self._seconds:
            return True
        found = await self._allowed()
        self._asked_at = clock.time()
        return found
