"""Exponential smoothing of several rows at once: y = a·x + (1 - a)·y, seeded with the first value.

One recursion waits about six cycles for its own last value; sixteen side by side fill the wait.
Every run between holes starts again from its first value.
"""

from __future__ import annotations

from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
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
def _smooth_rows(x, spans, weights, first, before, out):
    """Bars first .. first + out.shape[1] of `smooth_rows`; `before` f8[1, n] is the state of the
    rows at its bar `first`, and then that at its end."""
    rows, bars = out.shape
    end = first + bars
    keeps, state = 1.0 - weights, before.copy()
    step = 2 * LANES if rows >= 2 * LANES else min(rows, LANES)
    for row in range(0, rows, step):
        group = min(row, rows - step)  # the last group may overlap: its rows come out the same
        stop_row = group + step
        state[0, group:stop_row] = before[0, group:stop_row]
        done = 0
        for i in range(spans.shape[0]):
            begin, stop = max(spans[i, 0], first), min(spans[i, 1], end)
            if begin >= stop:
                continue
            at = begin - first
            out[group:stop_row, done:at] = np.nan
            done = stop - first
            if begin == spans[i, 0]:
                out[group:stop_row, at] = x[begin]
                state[0, group:stop_row] = x[begin]
                begin, at = begin + 1, at + 1
            if step > LANES:
                smooth_16(x, begin, stop - begin, weights, keeps, state, state, out, at, group)
            elif step == LANES:
                smooth_8(x, begin, stop - begin, weights, keeps, state, state, out, at, group)
            else:
                for r in range(rows):
                    y, weight, keep = state[0, r], weights[r], keeps[r]
                    for t in range(begin, stop):
                        y = weight * x[t] + keep * y
                        out[r, t - first] = y
                    state[0, r] = y
        out[group:stop_row, done:bars] = np.nan
    before[:] = state


def smooth_rows(
    x: NDArray[np.float64],
    spans: NDArray[np.int64],
    weights: NDArray[np.float64],
    out: NDArray[np.floating[Any]],
    carry: Carry | None = None,
    name: str = "smoothed",
) -> None:
    """Row r of `out` [R, n]: the last n bars of `x` f8[T] smoothed with `weights[r]`, NaN outside
    `spans`.

    `weights` are padded to whole lanes. The bars before `out` left their state in `carry`, under
    `name`.
    """
    state = (carry or Carry()).state(name, 1, weights.size)
    _smooth_rows(x, spans, weights, x.size - out.shape[1], state, out)
