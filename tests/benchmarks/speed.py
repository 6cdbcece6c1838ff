"""Speed of the stages: the engine against the compiled per-bar baseline, in interleaved rounds."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from functools import partial

import numpy as np
from numpy.typing import NDArray

from compute.bits import words
from tests.benchmarks import baseline
from tests.benchmarks.arena import Arena, Ballots, Mode, scan, scored
from tests.benchmarks.findings import Table
from tests.benchmarks.proof import prove_baseline
from tests.benchmarks.roofline import probe
from tests.benchmarks.rounds import Times, Work, interleaved

ENGINE, BASELINE, PROBE = "engine", "baseline", "probe"
HEADER = (
    "mode", "threads", "engine variants/s", "ns per variant·bar", "ns per trade",
    "baseline variants/s", "ratio", "best series", "of probe",
)  # fmt: skip
NOTE = (
    "ns are of one core; ratio is the median of all interleaved rounds, best series the largest "
    "ratio of a series' medians; probe: AND + edges + popcount of two planes, no account"
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is timed: the baseline's variants, ranks of Stage B, rounds of each series."""

    sample: int
    ranks: int
    ranks_baseline: int
    rounds: int
    series: int


@dataclass(frozen=True, slots=True)
class Sprint:
    """One mode of one stage: variants a call of each side scores, and their trades."""

    mode: Mode
    stage: str
    variants: int
    variants_baseline: int
    trades_per_variant: float

    def name(self, who: str, threads: int) -> str:
        return f"{self.mode.name} {self.stage} {who} {threads}"


@dataclass(frozen=True, slots=True)
class Race:
    """Times of all sprints over one arena."""

    bars: int
    threads: Sequence[int]
    sprints: list[Sprint]
    times: Times

    def sprint(self, mode: Mode, stage: str) -> Sprint:
        """The sprint of a mode and a stage."""
        return next(s for s in self.sprints if s.mode is mode and s.stage == stage)

    def seconds(self, sprint: Sprint, threads: int) -> float:
        """The engine's wall seconds a variant."""
        return self.times.median(sprint.name(ENGINE, threads)) / sprint.variants

    def best_ratio(self, mode: Mode, stage: str, threads: int) -> float:
        """Baseline's over engine's seconds a variant, in the best series."""
        sprint = self.sprint(mode, stage)
        ratio = self.times.best_ratio(sprint.name(BASELINE, threads), sprint.name(ENGINE, threads))
        return ratio * sprint.variants / sprint.variants_baseline

    def ratio(self, mode: Mode, stage: str, threads: int) -> float:
        """Baseline's over engine's seconds a variant, over all rounds."""
        sprint = self.sprint(mode, stage)
        ratio = self.times.ratio(sprint.name(BASELINE, threads), sprint.name(ENGINE, threads))
        return ratio * sprint.variants / sprint.variants_baseline

    def cost_of(self, dear: Mode, cheap: Mode, stage: str, threads: int) -> float:
        """How many times a variant of `dear` costs one of `cheap`, in the calmest series."""
        a, b = self.sprint(dear, stage), self.sprint(cheap, stage)
        ratio = self.times.least_ratio(a.name(ENGINE, threads), b.name(ENGINE, threads))
        return ratio * b.variants / a.variants

    def speedup(self, mode: Mode, stage: str, threads: int) -> float:
        """Seconds on one thread over seconds on `threads`, in the best series."""
        sprint = self.sprint(mode, stage)
        return self.times.best_ratio(sprint.name(ENGINE, 1), sprint.name(ENGINE, threads))

    def probe_speedup(self, threads: int) -> float:
        """`speedup` of the probe: what the machine had to give."""
        return self.times.best_ratio(f"{PROBE} 1", f"{PROBE} {threads}")

    def threads_table(self, title: str) -> Table:
        """How many times as fast each is on more threads: engine, baseline and probe."""
        rows: list[tuple[object, ...]] = []
        ratio = self.times.best_ratio
        for count in self.threads[1:]:
            for sprint in self.sprints:
                rows.append(
                    (sprint.mode.name, sprint.stage, count,
                     *(ratio(sprint.name(who, 1), sprint.name(who, count))
                       for who in (ENGINE, BASELINE)),
                     self.probe_speedup(count))
                )  # fmt: skip
        return Table(
            title,
            ("mode", "stage", "threads", "engine", "baseline", "probe"),
            rows,
            "times as fast as on one thread, best series; where the probe falls short of the "
            "number of threads, other programs had the cores",
        )

    def table(self, stage: str, title: str) -> Table:
        """The sprints of one stage as rows."""
        rows = [
            self._row(sprint, threads)
            for sprint in self.sprints
            if sprint.stage == stage
            for threads in self.threads
        ]
        return Table(title, HEADER, rows, NOTE)

    def _row(self, sprint: Sprint, threads: int) -> tuple[object, ...]:
        seconds = self.seconds(sprint, threads)
        slow = self.times.median(sprint.name(BASELINE, threads)) / sprint.variants_baseline
        core_ns = seconds * threads * 1e9
        probed = self.times.median(f"{PROBE} {threads}")
        return (
            sprint.mode.name,
            threads,
            1 / seconds,
            core_ns / self.bars,
            core_ns / max(sprint.trades_per_variant, 1e-9),
            1 / slow,
            self.ratio(sprint.mode, sprint.stage, threads),
            self.best_ratio(sprint.mode, sprint.stage, threads),
            probed / seconds,
        )


def race(arena: Arena, modes: Sequence[Mode], threads: Sequence[int], sizes: Sizes) -> Race:
    """The `Race` of `modes` through Stage A and, where there are stops, Stage B.

    Engine and baseline have to agree on every variant that the baseline is given.
    Raises: Unequal.
    """
    flat = arena.sample(sizes.sample)
    ballots = arena.ballots(flat)
    ranks = arena.best(sizes.ranks)
    # Few of the best, spread over their ranks: the baseline walks each under every pair.
    few = ranks[:: max(1, len(ranks) // sizes.ranks_baseline)][: sizes.ranks_baseline]
    few_ballots = arena.ballots(few)
    sprints: list[Sprint] = []
    works: dict[str, Work] = {}
    with ThreadPoolExecutor(max(threads)) as pool:
        for mode in modes:
            prove_baseline(arena, mode, ballots, flat, max(threads))
            sprint, found = _stage_a(arena, mode, threads, ballots, pool)
            sprints.append(sprint)
            works |= found
            if arena.job.risk.total > 1 and not mode.columns:
                sprint, found = _stage_b(arena, mode, threads, few_ballots, ranks, pool)
                sprints.append(sprint)
                works |= found
        for count in threads:
            works[f"{PROBE} {count}"] = partial(probe, pool, count, words(arena.bars))
        probed = probe(pool, 1, words(arena.bars))
        times = interleaved(works, rounds=sizes.rounds, series=sizes.series)
    for count in threads:
        for series in times.series[f"{PROBE} {count}"]:
            series[:] = [seconds / (probed * count) for seconds in series]
    return Race(arena.bars, threads, sprints, times)


def _stage_a(
    arena: Arena, mode: Mode, threads: Sequence[int], ballots: Ballots, pool: ThreadPoolExecutor
) -> tuple[Sprint, dict[str, Work]]:
    stage = arena.stage_a(mode)
    trades = float(scored(stage, max(threads)).trades.mean())
    sprint = Sprint(mode, "A", stage.total, len(ballots.rows), trades)
    works: dict[str, Work] = {}
    for count in threads:
        works[sprint.name(ENGINE, count)] = partial(scan, stage, pool, count)
        works[sprint.name(BASELINE, count)] = partial(
            baseline.stage_a, arena.close, ballots.votes, ballots.rows, arena.account(mode),
            columns=mode.sums, drawdown=mode.drawdown, threads=count,
        )  # fmt: skip
    return sprint, works


def _stage_b(
    arena: Arena,
    mode: Mode,
    threads: Sequence[int],
    ballots: Ballots,
    ranks: NDArray[np.int64],
    pool: ThreadPoolExecutor,
) -> tuple[Sprint, dict[str, Work]]:
    stage = arena.stage_b(ranks, mode)
    pairs = arena.job.risk.total
    trades = float(scored(stage, max(threads)).trades.mean())
    sprint = Sprint(mode, "B", len(ranks) * pairs, len(ballots.rows) * pairs, trades)
    sl, tp = arena.levels_pct()
    works: dict[str, Work] = {}
    for count in threads:
        works[sprint.name(ENGINE, count)] = partial(_stage_b_whole, arena, mode, ranks, pool, count)
        works[sprint.name(BASELINE, count)] = partial(
            baseline.stage_b, arena.close, ballots.votes, ballots.rows, sl, tp,
            arena.account(mode), columns=mode.sums, drawdown=mode.drawdown, threads=count,
        )  # fmt: skip
    return sprint, works


def _stage_b_whole(
    arena: Arena, mode: Mode, ranks: NDArray[np.int64], pool: ThreadPoolExecutor, threads: int
) -> int:
    """Stage B as a run does it: the table of calm bars is part of its price."""

    def each(work: Callable[[int], None], items: Sequence[int]) -> None:
        list(map(work, items) if threads == 1 else pool.map(work, items))

    return scan(arena.stage_b(ranks, mode, each), pool, threads)
