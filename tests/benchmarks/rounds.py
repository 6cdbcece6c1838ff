"""Interleaved rounds: works timed in turn, so that a machine that drifts drifts for all of them."""

from __future__ import annotations

import statistics
import time
from collections.abc import Callable, Mapping
from dataclasses import dataclass

Work = Callable[[], object]


@dataclass(frozen=True, slots=True)
class Times:
    """Seconds of one call of each work, by work and series; a series holds one entry a round."""

    series: dict[str, list[list[float]]]

    def median(self, name: str) -> float:
        """Median over all rounds."""
        return statistics.median(second for series in self.series[name] for second in series)

    def ratio(self, slow: str, fast: str) -> float:
        """How many times `slow` takes what `fast` does: the middle of all rounds."""
        return self.median(slow) / self.median(fast)

    def best_ratio(self, slow: str, fast: str) -> float:
        """`ratio` in the series where it is largest: neighbours on the machine hit one of both."""
        pairs = zip(self.series[slow], self.series[fast], strict=True)
        return max(statistics.median(a) / statistics.median(b) for a, b in pairs)

    def least_ratio(self, slow: str, fast: str) -> float:
        """`ratio` in the series where it is smallest."""
        return 1 / self.best_ratio(fast, slow)


def interleaved(
    works: Mapping[str, Work],
    *,
    rounds: int,
    series: int = 1,
    least_seconds: float = 0.05,
    clock: Callable[[], float] = time.perf_counter,
) -> Times:
    """`Times` of `works`: each runs once to be warm, then once a round, one after the other.

    A work shorter than `least_seconds` is repeated within its turn and divided.
    """
    repeats = {name: _repeats(work, least_seconds, clock) for name, work in works.items()}
    found: dict[str, list[list[float]]] = {name: [] for name in works}
    for _ in range(series):
        for name in works:
            found[name].append([])
        for _ in range(rounds):
            for name, work in works.items():
                began = clock()
                for _ in range(repeats[name]):
                    work()
                found[name][-1].append((clock() - began) / repeats[name])
    return Times(found)


def _repeats(work: Work, least_seconds: float, clock: Callable[[], float]) -> int:
    work()  # compiled, its memory touched
    began = clock()
    work()
    seconds = clock() - began
    return max(1, min(1_000, round(least_seconds / seconds))) if seconds > 0 else 1_000
