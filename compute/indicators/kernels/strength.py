"""Relative strength: how much of the smoothed movement is upward."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.kernels.recursions import strength_8
from compute.indicators.kernels.smoothing import TILE
from compute.indicators.kernels.sums import copy
from compute.indicators.kernels.vectors import LANES
from compute.indicators.series import BarSeries, valid_spans
from compute.jit import kernel


@kernel
def changes(x, lag, gain, loss):
    """Fill `gain` and `loss` f8[T] with the upward and downward parts of x[t] - x[t - lag]."""
    gain[:lag] = np.nan
    loss[:lag] = np.nan
    now, then, up, down = x[lag:], x[: max(x.size - lag, 0)], gain[lag:], loss[lag:]
    for t in range(now.size):
        change = np.float64(now[t]) - np.float64(then[t])
        up[t] = 0.0 if change < 0.0 else change
        down[t] = 0.0 if change > 0.0 else -change


@kernel
def _strength_rows(gain, loss, spans, weights, first, before, out):
    """Bars first .. first + out.shape[1] of `strength_rows`; `before` f8[2, n] is the state of the
    rows at its bar `first`, and then that at its end."""
    rows, bars = out.shape
    end = first + bars
    keeps, state = 1.0 - weights, before.copy()
    tile = np.empty((LANES, TILE), np.float32)
    for row in range(0, rows, LANES):
        group = max(min(row, rows - LANES), 0)  # overlapping rows come out the same
        last = min(group + LANES, rows)
        state[:, group : group + LANES] = before[:, group : group + LANES]
        done = 0
        for i in range(spans.shape[0]):
            begin, stop = max(spans[i, 0], first), min(spans[i, 1], end)
            if begin >= stop:
                continue
            out[group:last, done : begin - first] = np.nan
            done = stop - first
            if begin == spans[i, 0]:
                state[0, group : group + LANES] = gain[begin]
                state[1, group : group + LANES] = loss[begin]
            if rows >= LANES:
                count, at = stop - begin, begin - first
                strength_8(gain, loss, begin, count, weights, keeps, state, out, at, group)
                continue
            for at in range(begin, stop, TILE):
                count = min(TILE, stop - at)
                strength_8(gain, loss, at, count, weights, keeps, state, tile, 0, 0)
                for r in range(rows):
                    copy(tile[r, :count], out[r, at - first :])
        out[group:last, done:bars] = np.nan
    before[:] = state


def strength_rows(
    gain: NDArray[np.float64],
    loss: NDArray[np.float64],
    spans: NDArray[np.int64],
    weights: NDArray[np.float64],
    out: NDArray[np.float32],
    carry: Carry | None = None,
    name: str = "moves",
) -> None:
    """Row r of `out` f4[R, n]: 100 G / (G + L) on the last n bars of `gain` and `loss` f8[T], both
    smoothed with `weights[r]`; 0 / 0 and everything outside `spans` is NaN. `weights` are padded to
    whole lanes.

    The bars before `out` left their state in `carry`, under `name`.
    """
    state = (carry or Carry()).state(name, 2, weights.size)
    _strength_rows(gain, loss, spans, weights, gain.size - out.shape[1], state, out)


def moves(
    series: BarSeries, source: str, lag: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Rises and falls f8[T] of a price over `lag` bars, and the spans i8[n, 2] that have them.

    Those over one bar are kept with the series; of any number of lags they would fill the memory.
    """

    def build() -> NDArray[np.float64]:
        both = np.empty((2, len(series)))
        changes(series.price(source), min(lag, len(series)), both[0], both[1])
        return both

    if lag != 1:
        gain, loss = build()
        return gain, loss, valid_spans(np.isnan(gain))
    gain, loss = series.derived(f"moves:{source}", build)
    spans = series.derived(f"spans:moves:{source}", lambda: valid_spans(np.isnan(gain)))
    return gain, loss, spans
