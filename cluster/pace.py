"""Time left of a stage, by how fast its units were done since the first of them was.

What came before it, candles read and kernels compiled, tells nothing of the rest.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

STARTING: Final = "loading or compiling kernels"
"""What a stage does until its first units are done."""
KERNEL_STAGES: Final = ("stage_a", "stage_b")


@dataclass(slots=True)
class Pace:
    """The pace of one stage; below `least_seconds` a rate is no more than a guess."""

    least_seconds: float
    _first: tuple[float, int] | None = None

    def left(self, done: int, total: int, now: float) -> float | None:
        """Seconds that are left at `now`; None while nobody can say."""
        if done <= 0:
            self._first = None
            return None
        if self._first is None:
            self._first = now, done
        began, before = self._first
        seconds, fresh = now - began, done - before
        if seconds < self.least_seconds or fresh <= 0:
            return None
        return seconds * (total - done) / fresh


def starting_text(stage: str, done: int) -> str:
    """What is told of a stage in place of the time left; nothing once units are done."""
    return STARTING if stage in KERNEL_STAGES and done <= 0 else ""
