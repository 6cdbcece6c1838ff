"""Linearly weighted windows: means with weights 1..w and slopes of the least-squares line.

With prefix sums S of the values and M of (index · value), U[i] = M[i] - (i - 1) S[i] gives the
weighted sum of the w values before i as U[i] - U[i - w] + w S[i]. A frame is two blocks of
deviations from the price at the block's start, so the sums are exact for float32 prices.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.kernels.differences import ROWS, weighted_4
from compute.indicators.kernels.sums import block_centre, block_groups, first_block, load, prefix
from compute.jit import kernel


@kernel
def weigh(x, start, block, centre, values, sums, turned):
    """Fill `sums` (S) and `turned` (U), f8[2·block + 1], for the frame whose second block begins
    at `start`; `values` f8[2·block] is scratch."""
    load(x, start - block, centre, values)
    prefix(values, sums)
    for k in range(2 * block):
        values[k] *= k
    prefix(values, turned)
    for k in range(2 * block + 1):
        turned[k] -= (k - 1.0) * sums[k]


@kernel
def weighted_means(sums, turned, at, w, centre, out):
    """Fill `out` [n] with weighted means of w bars; window k ends at frame index `at` + k."""
    scale, width = 2.0 / (w * (w + 1.0)), np.float64(w)
    u_new, u_old, s_new = turned[at + 1 :], turned[at + 1 - w :], sums[at + 1 :]
    for k in range(out.size):
        out[k] = (u_new[k] - u_old[k] + width * s_new[k]) * scale + centre


@kernel
def _slopes(sums, turned, at, w, out):
    """Fill `out` [n] with least-squares slopes per bar."""
    scale, width = 12.0 / (w * (np.float64(w) * w - 1.0)), np.float64(w)
    half = 0.5 * (width + 1.0)
    u_new, u_old = turned[at + 1 :], turned[at + 1 - w :]
    s_new, s_old = sums[at + 1 :], sums[at + 1 - w :]
    for k in range(out.size):
        weighted = u_new[k] - u_old[k] + width * s_new[k]
        out[k] = (weighted - half * (s_new[k] - s_old[k])) * scale


@kernel
def _rows(x, first_bar, block, order, windows, slope, out):
    bars = x.size
    values, sums, turned = np.empty(2 * block), np.empty(2 * block + 1), np.empty(2 * block + 1)
    scales = 2.0 / (windows * (windows + 1.0))
    for start in range(first_block(first_bar, block), bars, block):
        begin, stop = max(start, 0), min(start + block, bars)
        centre, at = block_centre(x, begin, stop), block + begin - start
        weigh(x, start, block, centre, values, sums, turned)
        done, count = 0, stop - begin
        while not slope and done + ROWS <= order.size:
            weighted_4(
                turned, sums, at + 1, order, done, windows, scales, centre, out, begin, count
            )
            done += ROWS
        for r in order[done:]:
            if slope:
                _slopes(sums, turned, at, windows[r], out[r, begin:stop])
            else:
                weighted_means(sums, turned, at, windows[r], centre, out[r, begin:stop])


def weighted_rows(
    x: NDArray[np.floating],
    first_bar: int,
    windows: NDArray[np.int64],
    slope: bool,
    out: NDArray[np.float32],
) -> None:
    """Row r of `out` f4[R, T]: weighted mean of the last `windows[r]` values, or the slope of the
    line through them. Not blanked."""
    for block, order in block_groups(windows):
        _rows(x, first_bar, block, order, windows, slope, out)
