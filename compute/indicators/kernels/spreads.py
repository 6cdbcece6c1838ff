"""Rolling means and standard deviations (ddof 0) from prefix sums of deviations.

Sums are of deviations from the value at the block's start, two blocks a frame: squares of prices
themselves would lose the variance of a quiet market. The shorter the block, the smaller the sums
that a difference must survive, so short windows get short blocks.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.kernels.elementary import inverse_root
from compute.indicators.kernels.holes import blank, flat_runs, pin
from compute.indicators.kernels.sums import block_centre, block_groups, first_block, load, prefix
from compute.jit import kernel

SCORE, DEVIATION, VARIANCE, BAND, WIDTH = 0, 1, 2, 3, 4


@kernel
def _spread(values, sums, squares, at, w, form, factor, offset, out):
    """Fill `out` [n] with `offset` + `factor` · what `form` says of the last `w` values (BAND and
    WIDTH: their standard deviation). Frame index `at` + k is the newest bar of window k."""
    scale, count = 1.0 / w, out.size
    x = values[at:]
    s_new, s_old = sums[at + 1 :], sums[at + 1 - w :]
    q_new, q_old = squares[at + 1 :], squares[at + 1 - w :]
    if form == SCORE:
        for k in range(count):
            mean = (s_new[k] - s_old[k]) * scale
            spread = (q_new[k] - q_old[k]) * scale - mean * mean
            score = (x[k] - mean) * inverse_root(spread) if spread > 0.0 else np.nan
            out[k] = offset + factor * score
    elif form == VARIANCE:
        for k in range(count):
            mean = (s_new[k] - s_old[k]) * scale
            spread = (q_new[k] - q_old[k]) * scale - mean * mean
            out[k] = offset + factor * (spread if spread > 0.0 else 0.0)
    else:
        for k in range(count):
            mean = (s_new[k] - s_old[k]) * scale
            spread = (q_new[k] - q_old[k]) * scale - mean * mean
            out[k] = offset + factor * (spread * inverse_root(spread) if spread > 0.0 else 0.0)


@kernel
def _frame(x, start, block, centre, values, squared, sums, squares):
    """Fill the frame whose second block begins at `start`: deviations from `centre`, prefix sums of
    them and of their squares; `squared` is scratch."""
    load(x, start - block, centre, values)
    for k in range(2 * block):
        squared[k] = values[k] * values[k]
    prefix(values, sums)
    prefix(squared, squares)


@kernel
def _rows(x, first_bar, block, order, windows, factors, offset, form, out):
    """Rows `order` of `out` f4[R, T], windows ascending and up to `block`. Not blanked.

    Rows of one window share its part; a window of its own goes straight to its row.
    """
    bars = x.size
    values, squared = np.empty(2 * block), np.empty(2 * block)
    sums, squares = np.empty(2 * block + 1), np.empty(2 * block + 1)
    base, part = np.empty(block), np.empty(block)
    for start in range(first_block(first_bar, block), bars, block):
        begin, stop = max(start, 0), min(start + block, bars)
        count, at = stop - begin, block + begin - start
        centre = block_centre(x, begin, stop)
        _frame(x, start, block, centre, values, squared, sums, squares)
        known = np.int64(0)
        for i in range(order.size):
            r = order[i]
            w, factor, row = windows[r], factors[r], out[r, begin:stop]
            alone = w != known and (i + 1 == order.size or windows[order[i + 1]] != w)
            if alone and form <= VARIANCE:
                _spread(values, sums, squares, at, w, form, factor, offset, row)
                continue
            if w != known:
                known = w
                _spread(values, sums, squares, at, w, form, 1.0, 0.0, part[:count])
                newest, oldest = sums[at + 1 :], sums[at + 1 - w :]
                for k in range(count):
                    base[k] = (newest[k] - oldest[k]) / w + centre
            if form == BAND:
                for k in range(count):
                    row[k] = base[k] + factor * part[k]
            elif form == WIDTH:
                for k in range(count):
                    row[k] = factor * part[k] / base[k] if base[k] != 0.0 else np.nan
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
    for block, order in block_groups(windows):
        _rows(x, first_bar, block, order, windows, factors, offset, form, out)
    runs = flat_runs(x, int(windows.min()))
    levels = np.full(len(runs), np.nan if form == SCORE else 0.0, np.float32)
    if form == BAND:
        levels = x[runs[:, 0]].astype(np.float32)
    pin(out, runs, levels, windows)
    blank(out, holes, windows - 1 + lead, windows)
