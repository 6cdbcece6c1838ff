"""The table of calm bars holds what its definition says, across blocks and parts."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from random import Random

import numpy as np
import pytest

from compute.account import terms
from compute.stage_b import calm_table
from compute.stops import levels
from tests.compute.engines.fast import frozen
from tests.compute.engines.markets import walk

AHEAD = 32


def first_of_interest(closes: list[float], entry: int, side: int, sl: float, tp: float) -> int:
    """The first bar after `entry` that touches a level, at most `AHEAD` bars are looked at."""
    fill = closes[entry] * (1.0 + side * 0.0001)
    bounds = sorted([fill * (1.0 - side * sl), fill * (1.0 + side * tp)])
    bar = entry + 1
    while bar < min(entry + AHEAD + 1, len(closes)) and bounds[0] < closes[bar] < bounds[1]:
        bar += 1
    return bar


@pytest.mark.parametrize("bars", [1, 2, 33, 1_023, 1_025, 16_384 + 40])
@pytest.mark.parametrize(("sl", "tp"), [(2.0, 3.0), (0.0, 5.0), (None, 1.0), (None, None)])
def test_equals_its_definition(bars: int, sl: float | None, tp: float | None) -> None:
    closes = walk(Random(bars), bars, 6)
    rates = levels((sl,), (tp,))
    costs = terms(slippage_pct=0.01)
    with ThreadPoolExecutor(2) as pool:

        def each(work: Callable[[int], None], items: Sequence[int]) -> None:
            list(pool.map(work, items))

        table = calm_table(frozen(closes, np.float64), costs, rates, each)
    np.testing.assert_array_equal(table, calm_table(frozen(closes, np.float64), costs, rates))
    edges = [0, 1, 991, 1_022, 1_023, 1_024, 16_351, 16_383, 16_384, bars - 33, bars - 2, bars - 1]
    for entry in sorted({entry for entry in edges if 0 <= entry < bars}):
        for row, side in ((0, 1), (1, -1)):
            wanted = first_of_interest(closes, entry, side, rates.sl[0], rates.tp[0])
            assert table[row, entry] == wanted, (entry, side)
