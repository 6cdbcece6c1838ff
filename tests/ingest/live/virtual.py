"""Time that tests move: a clock and a sleep that agree."""

from __future__ import annotations

import asyncio
import heapq
from itertools import count


class VirtualTime:
    """Sleepers wake in order as `pass_s` moves the time; nothing waits in truth."""

    def __init__(self, now_ms: int = 1_700_000_040_000) -> None:
        self.now_ms = now_ms
        self.slept: list[float] = []
        self._sleepers: list[tuple[int, int, asyncio.Future[None]]] = []
        self._number = count()

    def __call__(self) -> int:
        return self.now_ms

    def monotonic(self) -> float:
        return self.now_ms / 1000

    async def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        future: asyncio.Future[None] = asyncio.get_running_loop().create_future()
        at_ms = self.now_ms + max(0, round(seconds * 1000))
        heapq.heappush(self._sleepers, (at_ms, next(self._number), future))
        await future

    async def pass_s(self, seconds: float) -> None:
        """Moves the time, waking sleepers on the way, each with the time it asked for."""
        end_ms = self.now_ms + round(seconds * 1000)
        while True:
            await settled()
            if not self._sleepers or self._sleepers[0][0] > end_ms:
                break
            at_ms, _, future = heapq.heappop(self._sleepers)
            self.now_ms = max(self.now_ms, at_ms)
            if not future.done():
                future.set_result(None)
        self.now_ms = end_ms
        await settled()


async def settled() -> None:
    """Returns when tasks that only wait for each other have gone as far as they can."""
    for _ in range(50):
        await asyncio.sleep(0)
