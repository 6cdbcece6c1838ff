"""How many requests a host may get, shared by every task that asks it.

Three things hold a request back: so many may be under way at once, a host may be paused because it
complained, and the weight of a window, where the exchange counts one, stays below a share of its
limit. Waiting is first come, first served.

Windows are the exchange's, so they follow its clock: each answer's date tells how far ours is off.
It is in whole seconds and old by the way back, so the exchange is taken to be a little behind where
it is and a window is entered late rather than early.
"""

from __future__ import annotations

import asyncio
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from ingest.errors import RateLimited
from ingest.exchanges.exchange import Usage, WeightLimit
from ingest.settings import LimiterSettings

Clock = Callable[[], int]
Sleep = Callable[[float], Awaitable[None]]

LONGEST_WAIT_S: Final = 900.0
"""A ban that lasts longer is an error, not a reason to sit still."""


class LeftAlone(RateLimited):
    """A request that was not sent: the host must be left alone for longer than anyone waits."""


@dataclass(slots=True)
class Ticket:
    """A request that was let through: what it weighs, and in which window it was counted."""

    weight: int
    window: int


class Limiter:
    """The limits of one host."""

    def __init__(
        self,
        settings: LimiterSettings,
        *,
        clock: Clock,
        sleep: Sleep = asyncio.sleep,
        longest_wait_s: float = LONGEST_WAIT_S,
    ) -> None:
        self.settings = settings
        self.learning = asyncio.Lock()
        """Held by the task that asks for the host's limit."""
        self.learned = False
        self._clock = clock
        self._sleep = sleep
        self._longest_wait_s = longest_wait_s
        self._slots = asyncio.Semaphore(settings.max_concurrency)
        self._turn = asyncio.Lock()
        self._limit: WeightLimit | None = None
        self._window = 0
        self._used = 0
        self._under_way = 0
        self._paused_ms = self._paused_until_ms = 0
        self._ahead_ms = 0

    @property
    def budget(self) -> int | None:
        """Weight that may be used in a window; None where the exchange counts none."""
        if self._limit is None:
            return None
        return max(1, int(self._limit.weight * self.settings.safety_factor))

    @property
    def ahead_ms(self) -> int:
        """How far the clock here is ahead of the exchange's, to a second; 0 while unknown."""
        return self._ahead_ms

    def learn(self, limit: WeightLimit | None) -> None:
        """Takes what the exchange said its limit is."""
        self._limit = limit
        self.learned = True

    def pause(self, seconds: float) -> None:
        """Lets nothing through for so long; a longer pause already under way stays."""
        now_ms = self._clock()
        if now_ms + int(seconds * 1000) > self._paused_until_ms:
            self._paused_ms, self._paused_until_ms = now_ms, now_ms + int(seconds * 1000)

    @asynccontextmanager
    async def slot(
        self, weight: int, on_wait: Callable[[float], None] = lambda _: None
    ) -> AsyncIterator[Ticket]:
        """A turn to send one request; `on_wait` is told of each pause, in seconds.

        Raises:
            LeftAlone: the host must be left alone for longer than anyone should wait.
        """
        async with self._slots:
            async with self._turn:
                while (wait_s := self._wait_s(weight)) > 0:
                    if wait_s > self._longest_wait_s:
                        raise LeftAlone(
                            "not sent, for the exchange must be left alone for "
                            f"{wait_s:.0f} s and the longest wait is "
                            f"{self._longest_wait_s:.0f} s; try again later",
                            retry_after_s=wait_s,
                        )
                    on_wait(wait_s)
                    await self._sleep(wait_s)
                ticket = Ticket(weight, self._window)
                self._used += weight
            self._under_way += weight
            try:
                yield ticket
            finally:
                self._under_way -= weight

    def observe(self, ticket: Ticket, usage: Usage | None, date_ms: int | None) -> None:
        """Takes what the answer to a ticket's request said: the use so far, the exchange's time."""
        now_ms = self._clock()
        if date_ms is not None:
            self._ahead_ms = now_ms - date_ms
        if usage is None:
            return
        if usage.limit is not None:
            if usage.used >= usage.limit * self.settings.safety_factor and usage.reset_at_ms:
                self.pause(max(0, usage.reset_at_ms + self._ahead_ms - now_ms) / 1000)
            return
        # An answer that was counted in an earlier window says nothing about this one.
        if ticket.window == self._window:
            others = self._under_way - ticket.weight
            self._used = max(self._used, usage.used + others)

    def _wait_s(self, weight: int) -> float:
        now_ms = self._clock()
        if now_ms < self._paused_ms:  # the clock was set back; a pause gets no longer by that
            self._paused_until_ms -= self._paused_ms - now_ms
            self._paused_ms = now_ms
        if now_ms < self._paused_until_ms:
            return (self._paused_until_ms - now_ms) / 1000
        budget = self.budget
        if self._limit is None or budget is None:
            return 0.0
        span_ms = self._limit.window_s * 1000
        at_ms = now_ms - self._ahead_ms
        window = at_ms // span_ms
        # Dates in whole seconds may step into the window before; further back was the clock.
        if window > self._window or window < self._window - 1:
            self._window, self._used = window, self._under_way
        # A request heavier than the whole budget goes through alone in a fresh window.
        if self._used + weight <= budget or self._used == 0:
            return 0.0
        return ((self._window + 1) * span_ms - at_ms) / 1000
