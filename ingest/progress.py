"""How far a long work is: rate, and the time until its end."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import Final

EVERY_S: Final = 2.0
ETA_AFTER_S: Final = 5.0
ETA_AFTER_SHARE: Final = 0.05
"""A rate tells the time left after so many seconds, or so much of the work."""

Say = Callable[[str], None]


def silent(line: str) -> None:
    """Says nothing."""


class Progress:
    """Counts what is done of `total` and says so in a line, every `every_s` at most.

    Without a total there is a rate and no end. The total may grow while work is found.
    """

    def __init__(
        self,
        what: str,
        total: int | None,
        say: Say = silent,
        *,
        every_s: float = EVERY_S,
        seconds: Callable[[], float] = time.monotonic,
    ) -> None:
        self.what = what
        self.total = total
        self.done = 0
        self._say = say
        self._every_s = every_s
        self._seconds = seconds
        self._began_s = self._said_s = seconds()
        self._said = 0  # done when a line was said last

    def add(self, count: int) -> None:
        """Counts `count` more, and says a line when one is due."""
        self.done += count
        now_s = self._seconds()
        if now_s - self._said_s >= self._every_s:
            self._said_s, self._said = now_s, self.done
            self._say(self.line())

    def expect(self, count: int) -> None:
        """Adds to the total."""
        self.total = (self.total or 0) + count

    def finish(self) -> None:
        """Says that all is done, if less was said of it before."""
        whole = self.total == self.done == self._said
        self.total = self.done
        if self._said and not whole:
            self._say(self.line())

    @property
    def rate(self) -> float:
        """Done a second since the beginning; 0 before any time has passed."""
        passed_s = self._seconds() - self._began_s
        return self.done / passed_s if passed_s > 0 else 0.0

    @property
    def eta_s(self) -> float | None:
        """Seconds until the total is done at the rate so far, None when nobody can say: too
        little of it is done, in too short a time."""
        rate = self.rate
        if self.total is None or rate <= 0:
            return None
        early = self._seconds() - self._began_s < ETA_AFTER_S
        if early and self.done < ETA_AFTER_SHARE * self.total:
            return None
        return max(0, self.total - self.done) / rate

    def line(self) -> str:
        """The state in one line."""
        eta_s = self.eta_s
        if self.total is None:
            return f"{self.what}: {self.done}, {self.rate:.0f}/s"
        percent = 100 * min(1.0, self.done / self.total) if self.total else 100.0
        left = f", {duration(eta_s)} left" if eta_s else ""
        return (
            f"{self.what}: {self.done} of {self.total} ({percent:.0f} %), {self.rate:.0f}/s{left}"
        )


def duration(seconds: float) -> str:
    """A duration as people read it: `5 s`, `2 min 05 s`, `3 h 20 min`."""
    whole = round(seconds)
    if whole < 60:
        return f"{whole} s"
    if whole < 3600:
        return f"{whole // 60} min {whole % 60:02d} s"
    return f"{whole // 3600} h {whole % 3600 // 60:02d} min"
