"""Sums since the start over several pieces and tiles: restarts, and nothing of what follows."""

from __future__ import annotations

from itertools import pairwise

import numpy as np
import pytest
from numpy.typing import NDArray

from compute.indicators.kernels.running import TILE, accumulate

BARS, PIECE = 150_000, 3 * TILE


def flows(lost: list[int]) -> NDArray[np.float64]:
    values = np.random.default_rng(7).lognormal(0, 1, BARS) - 1.6
    values[lost] = np.nan
    return values


def summed(values: NDArray[np.float64]) -> NDArray[np.float64]:
    out, total = np.full(values.size, 123.0), 0.0
    for begin in range(0, values.size, PIECE):
        part = slice(begin, begin + PIECE)
        total = accumulate(values[part], total, out[part])
    return out


@pytest.mark.parametrize(
    "lost", [[], [0], [BARS - 1], [65_535, 65_536], [1023, 1024, 5000, 5001, 70_000, 131_071]]
)
def test_a_sum_restarts_after_every_gap(lost):
    values = flows(lost)
    edges = [-1, *lost, BARS]
    expected = np.full(BARS, np.nan)
    for begin, stop in pairwise(edges):
        expected[begin + 1 : stop] = np.cumsum(values[begin + 1 : stop])
    np.testing.assert_allclose(summed(values), expected, rtol=1e-9, atol=1e-7)


@pytest.mark.parametrize("stop", [1, 100, 1024, 65_537, 70_001])
def test_a_sum_has_the_same_bits_whatever_follows(stop):
    values = flows([3000, 66_000])
    whole = summed(values)
    other = values.copy()
    other[stop:] = np.nan
    np.testing.assert_array_equal(summed(values[:stop]), whole[:stop])
    np.testing.assert_array_equal(summed(other)[:stop], whole[:stop])
