"""Small versions of the workloads equal the oracle, in every mode that is measured."""

from __future__ import annotations

from collections.abc import Iterator

import numpy as np
import pytest

from tests.benchmarks.arena import COLUMNS, MODES, SCORE, Arena, Mode, scored
from tests.benchmarks.proof import Unequal, prove, prove_baseline
from tests.benchmarks.speed import Sizes, race
from tests.benchmarks.workloads import Workload, w2, w4, w5, workload


@pytest.fixture(scope="module")
def arena() -> Iterator[Arena]:
    """W2 over two months and a fortieth of its grid."""
    made = Arena(w2(bars=5_000, average=12, rsi=10), 2)
    yield made
    made.close_executor()


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_w2_equals_the_oracle(arena: Arena, mode: Mode) -> None:
    compared = prove(arena, base=4, pairs=0 if mode is COLUMNS else 6, modes=(mode,))
    assert compared["trades"] > 1_000
    assert compared["scores"] == (4 if mode is COLUMNS else 10)
    assert compared["votes"] == 2 * 5_000


@pytest.mark.parametrize("mode", MODES, ids=lambda mode: mode.name)
def test_engine_and_baseline_agree_on_the_grid(arena: Arena, mode: Mode) -> None:
    flat = np.arange(arena.variants)
    assert prove_baseline(arena, mode, arena.ballots(flat), flat, threads=2) == 120


@pytest.mark.parametrize(
    "grid",
    [
        w4(bars=3_000, fast=5, slow=5),
        w5(bars=6_000, preselect=20),
        workload(
            "dense", "votes that turn every few bars", frame="15m", bars=1_000,
            indicators={"ma.sma": {"window": [2, 3]}, "momentum.rsi": {"window": [2, 3]}},
            band=((50,), (50,)),
        ),
    ],
    ids=lambda grid: grid.name,
)  # fmt: skip
def test_other_workloads_equal_the_oracle(grid: Workload) -> None:
    arena = Arena(grid, 1)
    assert prove(arena, base=3, pairs=3, modes=(SCORE,))["trades"] > 0
    arena.close_executor()


def test_a_wrong_score_is_found(arena: Arena) -> None:
    """The proof can fail: an oracle told of other costs disagrees with the engine."""

    class Dearer(Arena):
        def oracle_terms(self, mode: Mode) -> dict[str, object]:
            terms = super().oracle_terms(mode)
            return {**terms, "fee_pct": terms["fee_pct"] * 1.0001}

        def terms(self, mode: Mode):
            return arena.terms(mode)

    wrong = Dearer(arena.workload, 1)
    with pytest.raises(Unequal, match="equity"):
        prove(wrong, base=2, pairs=0, modes=(SCORE,))
    wrong.close_executor()


def test_scores_do_not_depend_on_threads(arena: Arena) -> None:
    one, two = (scored(arena.stage_a(), threads) for threads in (1, 2))
    np.testing.assert_array_equal(one.equity, two.equity)
    np.testing.assert_array_equal(one.index, np.arange(arena.variants))


def test_a_race_measures_every_sprint(arena: Arena) -> None:
    run = race(arena, (SCORE, COLUMNS), (1, 2), Sizes(16, 8, 2, rounds=1, series=1))
    assert [(s.mode.name, s.stage, s.variants) for s in run.sprints] == [
        ("score", "A", 120),
        ("score", "B", 800),
        ("columns", "A", 120),
    ]
    table = run.table("A", "Stage A")
    assert [row[:2] for row in table.rows] == [
        ("score", 1), ("score", 2), ("columns", 1), ("columns", 2),
    ]  # fmt: skip
    assert all(value > 0 for row in table.rows for value in row[2:])
