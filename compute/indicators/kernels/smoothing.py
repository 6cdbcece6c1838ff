"""Exponential smoothing of several rows at once: y = a·x + (1 - a)·y, seeded with the first value.

One recursion waits about six cycles for its own last value; sixteen side by side fill the wait.
Every run between holes starts again from its first value.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.kernels.recursions import smooth_8, smooth_16
from compute.indicators.kernels.vectors import LANES
from compute.jit import kernel

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
    last = state.reshape((1, state.size))
    smooth_8(x, begin, count, weights, keeps, last, last, out, column, group)


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
    keeps, state = 1.0 - weights, np.empty((1, rows))
    step = 2 * LANES if rows >= 2 * LANES else LANES
    for first in range(0, rows, step):
        group = min(first, rows - step)  # the last group may overlap: its rows come out the same
        done = 0
        for i in range(spans.shape[0]):
            begin, stop = spans[i, 0], spans[i, 1]
            out[group : group + step, done:begin] = np.nan
            out[group : group + step, begin] = x[begin]
            state[0, group : group + step] = x[begin]
            at = begin + 1
            if step > LANES:
                smooth_16(x, at, stop - at, weights, keeps, state, state, out, at, group)
            else:
                smooth_8(x, at, stop - at, weights, keeps, state, state, out, at, group)
            done = stop
        out[group : group + step, done:bars] = np.nan
