"""What a worker has of the outside, and how patient it is with it."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Awaitable, Callable, Mapping, Sequence
from concurrent.futures import Executor
from dataclasses import dataclass, fields
from typing import Any, ClassVar, TypeVar

from compute.backtest import Backtest
from compute.errors import InvalidInput, RoehubError
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period
from live.feed import Entry
from live.ledger import Ledger

Answer = TypeVar("Answer")


@dataclass(frozen=True, slots=True)
class RepairSettings:
    """When the store is asked for a minute that the feed did not bring, and how often again.

    The n-th time without success is followed by a pause of n · `retry_backoff_seconds`, at most
    `longest_pause_seconds`. Raises: InvalidInput.
    """

    SECTIONS: ClassVar = ("strategy.live_worker.repair",)

    late_seconds: float = 5.0
    retry_backoff_seconds: float = 1.0
    longest_pause_seconds: float = 30.0

    def __post_init__(self) -> None:
        for item in fields(self):
            if not getattr(self, item.name) >= 0:
                raise InvalidInput(f"{item.name} must be >= 0, got {getattr(self, item.name)}")


class StoreGone(Exception):
    """A store that cannot be read."""


@dataclass(frozen=True, slots=True)
class Access:
    """What a worker has of the outside.

    `candles`, `absent` and `bounds` are those of the store; they may block and run in `readers`,
    evaluation in `threads`: a slow store holds up only those who wait for it. `recent` are the
    entries that the feed still has.
    """

    ledger: Ledger
    candles: Callable[[Instrument, Period], Candles]
    absent: Callable[[Instrument, Period], list[Period]]
    bounds: Callable[[Instrument], tuple[int, int] | None]
    job: Callable[[Mapping[str, Any]], Backtest]
    clock: Callable[[], int]
    threads: Executor
    readers: Executor
    recent: Callable[[str, Period], Awaitable[Sequence[Entry]]] | None = None

    async def read(self, question: Callable[..., Answer], *about: object) -> Answer:
        """The answer of the store. Raises: StoreGone."""
        loop = asyncio.get_running_loop()
        try:
            return await loop.run_in_executor(self.readers, question, *about)
        except (RoehubError, OSError) as error:
            raise StoreGone(str(error) or type(error).__name__) from error


class Pause:
    """A time in which something is not tried again; it grows with each failure."""

    def __init__(self, settings: RepairSettings) -> None:
        self._settings = settings
        self.tries, self._until = 0, 0.0

    @property
    def over(self) -> bool:
        """Whether it may be tried."""
        return time.monotonic() >= self._until

    def begin(self) -> None:
        """After a try."""
        self.tries += 1
        seconds = self.tries * self._settings.retry_backoff_seconds
        self._until = time.monotonic() + min(seconds, self._settings.longest_pause_seconds)

    def cut(self) -> None:
        """It may be tried at once, and counts on."""
        self._until = 0.0

    def end(self) -> None:
        """After a success."""
        self.tries, self._until = 0, 0.0
