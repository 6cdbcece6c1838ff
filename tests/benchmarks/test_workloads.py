"""The workloads have the sizes they claim, and cost what they should by the engine's own model."""

from __future__ import annotations

import numpy as np
import pytest

from compute.executor import lattice
from compute.plan import plan
from compute.settings import Limits
from tests.benchmarks.arena import COLUMNS, DRAWDOWN, FIXED, SCORE, Arena, scored
from tests.benchmarks.proof import prove
from tests.benchmarks.scaling import corners
from tests.benchmarks.workloads import Workload, equals, many, small, w2, w3, w4, w5, w5_times_ten

UNGUARDED = Limits(1 << 40, 1 << 40)


@pytest.mark.parametrize(
    ("made", "base", "pairs", "bars", "preselect"),
    [
        (w2(), 5_000, 100, 35_040, 200),
        (w3(), 100_000, 100, 35_040, 200),
        (w4(), 10_000, 1, 200_000, 200),
        (w5(), 20_000, 400, 525_600, 500),
        (w5_times_ten(), 200_000, 400, 525_600, 500),
        (many(10_000_000), 10_000_000, 1, 35_040, 200),
        (equals(), 1_000_000, 1, 35_040, 200),
    ],
    ids=lambda value: getattr(value, "name", ""),
)
def test_sizes(made: Workload, base: int, pairs: int, bars: int, preselect: int) -> None:
    sizes = plan(made.job, bars + made.job.warmup_bars, bars, UNGUARDED)
    assert (sizes.stage_a_total, sizes.risk_total, made.bars) == (base, pairs, bars)
    assert sizes.preselect == preselect
    terms = made.job.terms()
    assert (terms.fee, terms.slippage, terms.sizing, terms.direction) == (0.00075, 0.0001, 0, 0)


def test_w3_has_the_windows_of_w2() -> None:
    axes = [{part.indicator_id: part.compute for part in made.job.grid.indicators} for made in
            (w2(), w3())]  # fmt: skip
    assert axes[0] == axes[1]


@pytest.mark.parametrize("made", [w2(bars=700), small(), *corners()], ids=lambda made: made.name)
def test_exactly_the_bars_are_traded(made: Workload) -> None:
    bars = made.timeline()
    assert bars.stop - bars.start == made.bars
    assert bars.start >= made.job.warmup_bars - 1
    assert (bars.missing, bars.synthetic) == (0, 0)


def test_equal_variants_are_equal_and_trade() -> None:
    arena = Arena(equals(4_000, bars=2_000), 1)
    prove(arena, base=2, pairs=0, modes=(SCORE,))
    scores = scored(arena.stage_a(), 1)
    assert len(scores) == 4_000
    assert len(np.unique(scores.equity)) == 1
    assert scores.trades[0] > 50
    arena.close_executor()


def test_planned_memory_does_not_follow_the_variants() -> None:
    """A hundred times the variants: what grows are planes and row ids, below 64 MiB."""
    few, most = (
        plan(many(count).job, 35_500, 35_040, UNGUARDED, workers=2).total_bytes
        for count in (100_000, 10_000_000)
    )
    assert most - few < 64 << 20
    assert plan(w3().job, 35_500, 35_040, UNGUARDED, workers=2).total_bytes < 1 << 30
    assert plan(w5().job, 526_800, 525_600, UNGUARDED, workers=2).total_bytes < 2 << 30


def test_the_cost_model_is_monotone() -> None:
    """Cost follows bars and what is asked for, never the number of variants."""
    long, short, wide = (
        Arena(made, 1)
        for made in (
            w2(bars=4_096, average=4, rsi=4),
            w2(bars=1_024, average=4, rsi=4),
            w2(bars=4_096, average=16, rsi=8),
        )
    )
    assert long.stage_a().nanoseconds() == 4 * short.stage_a().nanoseconds()
    assert long.stage_a().nanoseconds() == wide.stage_a().nanoseconds()
    ranks = np.arange(4)
    for dear, cheap in ((COLUMNS, SCORE), (FIXED, SCORE), (DRAWDOWN, FIXED)):
        assert long.stage_a(dear).nanoseconds() > long.stage_a(cheap).nanoseconds()
        assert long.stage_b(ranks, dear).nanoseconds() >= long.stage_b(ranks, cheap).nanoseconds()
    for arena in (long, short, wide):
        for stage in (arena.stage_a(), arena.stage_b(ranks)):
            spans = lattice(stage)
            assert [start for start, _ in spans] == [0, *(stop for _, stop in spans[:-1])]
            assert spans[-1][1] == stage.total
        arena.close_executor()
