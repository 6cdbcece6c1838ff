"""Running sums of flows, a tile at a time: what has just been written is added while in cache."""

from __future__ import annotations

from collections.abc import Callable

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.kernels.recursions import sum_up
from compute.indicators.kernels.sums import copy
from compute.indicators.kernels.vectors import LANES
from compute.indicators.series import BarSeries
from compute.jit import kernel

TILE = 1024  # bars: flows and their sums stay in the first-level cache
"""Sums depend on where their tiles begin: a later piece goes back to the begin of its first one."""


@kernel
def accumulate(flows, total, out):
    """Fill `out` [n] with the sum of `flows` f8[n], begun with `total`, and return the last one.

    It restarts after every NaN: a tile with a NaN is summed in the same order up to there, so that
    no sum depends on what follows it, and bar by bar behind.
    """
    tile, sums = np.zeros(TILE), np.empty(TILE)
    for begin in range(0, flows.size, TILE):
        part, row = flows[begin : begin + TILE], out[begin : begin + TILE]
        if part.size % LANES == 0:
            total = sum_up(part, total, row)
        else:
            copy(part, tile)
            tile[part.size :] = 0.0
            total = sum_up(tile, total, sums)
            copy(sums[: part.size], row)
        if total == total:
            continue
        lost = 0
        while lost < part.size and part[lost] == part[lost]:
            lost += 1
        total = 0.0
        for k in range(lost, part.size):
            total = total + part[k] if part[k] == part[k] else 0.0
            row[k] = total if part[k] == part[k] else np.nan
    return total


@kernel
def add_tile(flows, begin, total, first, out):
    """Put the sum of a tile of `flows`, whose first bar is `begin`, into `out` [n], whose first bar
    is `first`; return what the next tile begins with, `total` where this one is not whole."""
    if begin >= first:
        last = accumulate(flows, total, out[begin - first : begin - first + flows.size])
    else:
        sums = np.empty(flows.size)
        last = accumulate(flows, total, sums)
        copy(sums[first - begin :], out)
    return last if flows.size == TILE else total


def running_rows(
    line: Callable[[int, int, float, NDArray[np.floating]], float],
    out: NDArray[np.floating],
    bars: int,
    carry: Carry | None,
) -> None:
    """Fill every row of `out` [R, n] with the running sum at the last n of `bars` bars.

    `line(first, since, total, row)` sums from bar `first - since` on, where a tile begins with
    `total`, puts bars from `first` on into `row`, and returns what the last tile that is not whole
    begins with. `carry` holds `total` and `since`.
    """
    state = (carry or Carry()).state("sum", 2, start=0.0)
    total, since = float(state[0]), int(state[1])
    for row in out:
        state[0] = line(bars - row.size, since, total, row)
    state[1] = (since + out.shape[1]) % TILE


def kept(
    series: BarSeries,
    name: str,
    size: int,
    state: NDArray[np.float64],
    fill: Callable[[NDArray[np.float64]], None],
) -> NDArray[np.float64]:
    """The array f8[size] called `name` that `fill` writes, going on from `state`, which it
    advances. Array and advanced state stay with the series for the other rows of its bars."""

    def build() -> NDArray[np.float64]:
        both = np.empty(size + state.size)
        fill(both[:size])
        both[size:] = state
        return both

    both = series.derived(name, build)
    state[:] = both[size:]
    return both[:size]
