"""Exponential smoothing of several rows at once: y = a·x + (1 - a)·y, seeded with the first value.

One recursion waits about six cycles for its own last value; eight side by side fill the wait.
Every run between holes starts again from its first value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.jit import kernel

LANES = 8
TILE = 256  # bars: eight float64 rows stay in L1


def ema_weights(windows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Weight of the newest value, 2 / (w + 1), padded to whole lanes by repetition."""
    return padded((2.0 / (windows + 1.0)).astype(np.float64))


def rma_weights(windows: NDArray[np.int64]) -> NDArray[np.float64]:
    """Wilder's weight of the newest value, 1 / w, padded to whole lanes by repetition."""
    return padded((1.0 / windows).astype(np.float64))


def padded(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values` f8[n] extended with its last one to a multiple of `LANES`."""
    count = -(-values.size // LANES) * LANES
    return np.concatenate((values, np.full(count - values.size, values[-1])))


@kernel
def lanes(x, begin, count, weights, keeps, state, out, column, group):
    """Advance eight recursions over `x[begin : begin + count]`, writing `out[:, column ...]`.

    Lanes `group .. group + 7` of weights, keeps (1 - weight), state and rows of `out` take part.
    """
    g, stop = group, column + count
    a0, a1, a2, a3 = weights[g], weights[g + 1], weights[g + 2], weights[g + 3]
    a4, a5, a6, a7 = weights[g + 4], weights[g + 5], weights[g + 6], weights[g + 7]
    b0, b1, b2, b3 = keeps[g], keeps[g + 1], keeps[g + 2], keeps[g + 3]
    b4, b5, b6, b7 = keeps[g + 4], keeps[g + 5], keeps[g + 6], keeps[g + 7]
    y0, y1, y2, y3 = state[g], state[g + 1], state[g + 2], state[g + 3]
    y4, y5, y6, y7 = state[g + 4], state[g + 5], state[g + 6], state[g + 7]
    t0, t1, t2 = out[g, column:stop], out[g + 1, column:stop], out[g + 2, column:stop]
    t3, t4, t5 = out[g + 3, column:stop], out[g + 4, column:stop], out[g + 5, column:stop]
    t6, t7 = out[g + 6, column:stop], out[g + 7, column:stop]
    values = x[begin : begin + count]
    for k in range(count):
        v = values[k]
        y0 = a0 * v + b0 * y0
        y1 = a1 * v + b1 * y1
        y2 = a2 * v + b2 * y2
        y3 = a3 * v + b3 * y3
        y4 = a4 * v + b4 * y4
        y5 = a5 * v + b5 * y5
        y6 = a6 * v + b6 * y6
        y7 = a7 * v + b7 * y7
        t0[k] = y0
        t1[k] = y1
        t2[k] = y2
        t3[k] = y3
        t4[k] = y4
        t5[k] = y5
        t6[k] = y6
        t7[k] = y7
    state[g], state[g + 1], state[g + 2], state[g + 3] = y0, y1, y2, y3
    state[g + 4], state[g + 5], state[g + 6], state[g + 7] = y4, y5, y6, y7


@kernel
def smooth_row(x, spans, weight, out):
    """Fill `out` [T] with `x` f8[T] smoothed, NaN outside `spans`."""
    keep = 1.0 - weight
    out[:] = np.nan
    for i in range(spans.shape[0]):
        y = x[spans[i, 0]]
        out[spans[i, 0]] = y
        for t in range(spans[i, 0] + 1, spans[i, 1]):
            y = weight * x[t] + keep * y
            out[t] = y


@kernel
def smooth_rows(x, spans, weights, out):
    """Row r of `out` f4[R, T]: `x` f8[T] smoothed with `weights[r]`, NaN outside `spans`."""
    rows, bars = out.shape
    if rows < LANES:
        for r in range(rows):
            smooth_row(x, spans, weights[r], out[r])
        return
    keeps, state = 1.0 - weights, np.empty(rows)
    for first in range(0, rows, LANES):
        group = min(first, rows - LANES)  # the last group may overlap: its rows come out the same
        done = 0
        for i in range(spans.shape[0]):
            begin, stop = spans[i, 0], spans[i, 1]
            out[group : group + LANES, done:begin] = np.nan
            out[group : group + LANES, begin] = x[begin]
            state[group : group + LANES] = x[begin]
            at = begin + 1
            lanes(x, at, stop - at, weights, keeps, state, out, at, group)
            done = stop
        out[group : group + LANES, done:bars] = np.nan
