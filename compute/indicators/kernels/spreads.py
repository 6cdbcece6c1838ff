"""Rolling means and standard deviations (ddof 0) from prefix sums of deviations.

Sums are of deviations from the value at the block's start, two blocks a frame: squares of prices
themselves would lose the variance of a quiet market. The shorter the block, the smaller the sums
that a difference must survive, so short windows get short blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.kernels.holes import blank, flat_runs, pin
from compute.indicators.kernels.sums import block_centre, first_block, load, prefix
from compute.jit import kernel

_SHORTEST_BLOCK = 256
SCORE, DEVIATION, VARIANCE, BAND, WIDTH = 0, 1, 2, 3, 4


@kernel
def _spread(values, sums, squares, at, w, centre, form, base, out):
    """Fill `base` and `out` f8[n] with the two parts of a row (see `spread_rows`).

    Frame index `at` + k is the newest bar of window k.
    """
    scale = 1.0 / w
    x = values[at:]
    s_new, s_old = sums[at + 1 :], sums[at + 1 - w :]
    q_new, q_old = squares[at + 1 :], squares[at + 1 - w :]
    for k in range(out.size):
        mean = (s_new[k] - s_old[k]) * scale
        spread = (q_new[k] - q_old[k]) * scale - mean * mean
        base[k] = mean
        out[k] = spread if spread > 0.0 else 0.0
    if form == VARIANCE:
        return
    if form == SCORE:
        for k in range(out.size):
            out[k] = (x[k] - base[k]) / np.sqrt(out[k]) if out[k] > 0.0 else np.nan
        return
    for k in range(out.size):
        out[k] = np.sqrt(out[k])
        base[k] += centre
    if form == WIDTH:
        for k in range(out.size):
            out[k] = out[k] / base[k] if base[k] != 0.0 else np.nan


@kernel
def _rows(x, first_bar, block, order, windows, factors, offset, form, out):
    """Rows `order` of `out` f4[R, T], windows ascending and up to `block`. Not blanked."""
    bars = x.size
    values, squared = np.empty(2 * block), np.empty(2 * block)
    sums, squares = np.empty(2 * block + 1), np.empty(2 * block + 1)
    base, part = np.empty(block), np.empty(block)
    for start in range(first_block(first_bar, block), bars, block):
        begin, stop = max(start, 0), min(start + block, bars)
        count, at = stop - begin, block + begin - start
        centre = block_centre(x, begin, stop)
        load(x, start - block, centre, values)
        for k in range(2 * block):
            squared[k] = values[k] * values[k]
        prefix(values, sums)
        prefix(squared, squares)
        known = np.int64(0)
        for r in order:
            if windows[r] != known:
                known = windows[r]
                _spread(values, sums, squares, at, known, centre, form, base[:count], part[:count])
            row, factor = out[r, begin:stop], factors[r]
            if form == BAND:
                for k in range(count):
                    row[k] = base[k] + factor * part[k]
            else:
                for k in range(count):
                    row[k] = offset + factor * part[k]


def spread_rows(
    x: NDArray[np.floating],
    holes: NDArray[np.int64],
    first_bar: int,
    windows: NDArray[np.int64],
    factors: NDArray[np.float64],
    form: int,
    out: NDArray[np.float32],
    offset: float = 0.0,
    lead: int = 0,
) -> None:
    """Row r of `out` f4[R, T] over the last `windows[r]` values: `factors[r]` times the deviation
    of the newest from the mean in standard deviations (SCORE), the standard deviation, the
    variance, or the standard deviation over the mean (WIDTH), plus `offset`; BAND is the mean plus
    `factors[r]` standard deviations.

    NaN before `lead` + a full window, around `holes`, and where SCORE has no spread.
    """
    order = np.argsort(windows, kind="stable")
    blocks = np.maximum(_SHORTEST_BLOCK, 1 << np.ceil(np.log2(windows[order])).astype(np.int64))
    for block in np.unique(blocks):
        part = order[blocks == block]
        _rows(x, first_bar, int(block), part, windows, factors, offset, form, out)
    runs = flat_runs(x, int(windows.min()))
    levels = np.full(len(runs), np.nan if form == SCORE else 0.0, np.float32)
    if form == BAND:
        levels = x[runs[:, 0]].astype(np.float32)
    pin(out, runs, levels, windows)
    blank(out, holes, windows - 1 + lead, windows)
