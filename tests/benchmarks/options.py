"""What a run of the benchmark was asked for."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Options:
    """Threads to measure on, whether sizes are cut, and where lines about the course go."""

    threads: tuple[int, ...]
    quick: bool
    say: Callable[[str], None]

    @property
    def rounds(self) -> tuple[int, int]:
        """(rounds a series, series) where a goal hangs on the ratio."""
        return (3, 1) if self.quick else (5, 3)

    @property
    def few(self) -> int:
        """Rounds of what takes long or decides nothing."""
        return 2 if self.quick else 5
