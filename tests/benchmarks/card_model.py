"""What a card should do, on paper: instructions and bytes of a variant against a card's rates.

A model until somebody measures. Counts are read off the bodies in `compute.cuda.bodies`; a 64-bit
integer instruction counts as two, a division as ten multiplications. See
docs/architecture/compute/cuda.md.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

# Share of a card's rates that code with branches, uneven runs and scattered loads reaches.
REACHED: Final = 0.5
# A run's chain of dependent loads and a division, in clock cycles: what a thread takes when alone.
RUN_CYCLES: Final = 700
# Bars of a run that are compared with stops, after the table of calm bars: a typical market.
LOOKED: Final = 4.0


@dataclass(frozen=True, slots=True)
class Model:
    """A card: multiprocessors, clock, 32-bit integer and float64 instructions a clock of each."""

    name: str
    multiprocessors: int
    ghz: float
    integers: int
    doubles: int
    memory_gbs: float
    threads: int = 768  # resident on a multiprocessor, by the registers of the kernels

    def ridge(self) -> float:
        """Integer instructions a byte of memory: with more of them memory does not limit."""
        return self.multiprocessors * self.ghz * self.integers / self.memory_gbs

    def bound(self, work: Work) -> str:
        """What `work` is limited by on a full card: "integers", "float64" or "memory"."""
        lanes = self.multiprocessors * self.ghz
        limits = {
            "integers": work.integers / (lanes * self.integers),
            "float64": work.doubles / (lanes * self.doubles),
            "memory": work.bytes / self.memory_gbs,
        }
        return max(limits, key=lambda name: limits[name])

    def seconds(self, work: Work, count: int) -> float:
        """Time of `count` threads that do `work` each."""
        lanes = self.multiprocessors * self.ghz * 1e9 * REACHED
        busy = count * max(
            work.integers / (lanes * self.integers),
            work.doubles / (lanes * self.doubles),
            work.bytes / (self.memory_gbs * 1e9 * REACHED),
        )
        waves = -(-count // (self.multiprocessors * self.threads))
        return max(busy, waves * work.runs * RUN_CYCLES / (self.ghz * 1e9))


@dataclass(frozen=True, slots=True)
class Work:
    """What one thread does; `bytes` come from the card's memory, beyond its caches."""

    integers: float
    doubles: float
    bytes: float
    runs: float


def base_work(bars: int, runs: float, indicators: int, doubles: int = 14) -> Work:
    """A base variant: words are joined and scanned, every run is a factor."""
    words = bars / 64
    scan = words * 2 * (8 * indicators + 14)
    return Work(scan + 50 * runs, doubles * runs, 8 * indicators + 13, runs)


def pairs_work(bars: int, runs: float, indicators: int, pairs: int) -> Work:
    """A variant under all pairs at once: every run is walked once, cells are multiplied out."""
    scan = bars / 64 * 2 * (8 * indicators + 14)
    return Work(
        scan + (70 + 8 * LOOKED) * runs + 12 * pairs,
        (16 + 2 * LOOKED) * runs + 5 * pairs,
        8 * indicators + 70 * pairs,
        runs,
    )


def pair_work(bars: int, runs: float, indicators: int) -> Work:
    """One pair alone: every run is walked and traded with the account's own arithmetic."""
    scan = bars / 64 * 2 * (8 * indicators + 14)
    return Work(scan + (60 + 8 * LOOKED) * runs, (29 + 2 * LOOKED) * runs, 40, runs)


H100: Final = Model("H100 SXM", 132, 1.83, 64, 64, 3350)
L40S: Final = Model("L40S", 142, 2.52, 64, 2, 864)
RTX_4090: Final = Model("RTX 4090", 128, 2.52, 64, 2, 1008)
CARDS: Final = (H100, L40S, RTX_4090)

_LANES: Final = {
    (7, 5): (64, 2), (8, 0): (64, 32), (8, 6): (64, 2), (8, 9): (64, 2), (9, 0): (64, 64),
    (10, 0): (64, 64), (12, 0): (128, 2),
}  # fmt: skip


def model_of(
    name: str, capability: tuple[int, int], multiprocessors: int, ghz: float, memory_gbs: float
) -> Model:
    """The model of a card that is there; one of an unknown generation is taken for a small one."""
    integers, doubles = _LANES.get(capability, (64, 2))
    return Model(name, multiprocessors, ghz, integers, doubles, memory_gbs)


@dataclass(frozen=True, slots=True)
class Case:
    """A search of the page's table: work of a thread, threads, scores of each.

    `core` are the scores a second of one core as docs/benchmarks.md has them.
    """

    name: str
    work: Work
    threads: int
    each: int
    core: float

    def rate(self, card: Model) -> float:
        """Scores a second."""
        return self.threads * self.each / card.seconds(self.work, self.threads)


def cases(bars: int = 35_040, runs: float = 2_690, indicators: int = 2) -> tuple[Case, ...]:
    """Searches of the size of W3 (100 000 variants, the best 20 000 × 10 × 10)."""
    base, pair = base_work(bars, runs, indicators), pair_work(bars, runs, indicators)
    return (
        Case("Stage A, return", base, 100_000, 1, 211e3),
        Case("Stage A, fixed amount", base_work(bars, runs, indicators, 22), 100_000, 1, 94e3),
        Case("Stage B, all pairs", pairs_work(bars, runs, indicators, 100), 20_000, 100, 2.5e6),
        Case("Stage B, pair by pair", pair, 2_000_000, 1, 726e3),
    )


def rows(cards: tuple[Model, ...] = CARDS) -> list[tuple[str, ...]]:
    """Per case: scores a second of each card in millions, and the cores it stands for."""
    return [
        (
            case.name,
            *(f"{case.rate(card) / 1e6:.3g} M/s = {case.rate(card) / case.core:.0f} cores"
              for card in cards),
        )
        for case in cases()
    ]  # fmt: skip


def ridges(cards: tuple[Model, ...] = CARDS) -> list[tuple[str, ...]]:
    """Per case: integer instructions a byte, and per card its ridge and what limits there."""
    return [
        (
            case.name,
            f"{case.work.integers / case.work.bytes:.0f}",
            *(f"{card.ridge():.1f}: {card.bound(case.work)}" for card in cards),
        )
        for case in cases()
    ]
