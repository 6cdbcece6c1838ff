"""Running sums of flows, a tile at a time: what has just been written is added while in cache."""

from __future__ import annotations

import numpy as np

from compute.indicators.kernels.recursions import sum_up
from compute.indicators.kernels.sums import copy
from compute.indicators.kernels.vectors import LANES
from compute.jit import kernel

TILE = 1024  # bars: flows and their sums stay in the first-level cache


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
