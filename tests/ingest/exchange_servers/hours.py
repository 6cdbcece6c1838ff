"""Time that passes when somebody sleeps."""

from __future__ import annotations

import asyncio


class Hours:
    """A clock that sleeping moves on; client and server may share it."""

    def __init__(self, now_ms: int) -> None:
        self.now_ms = now_ms
        self.slept: list[float] = []

    def __call__(self) -> int:
        return self.now_ms

    async def sleep(self, seconds: float) -> None:
        """Lets so much time pass, and other tasks run."""
        self.slept.append(seconds)
        until_ms = self.now_ms + max(1, round(seconds * 1000))
        await asyncio.sleep(0)
        self.now_ms = max(self.now_ms, until_ms)
