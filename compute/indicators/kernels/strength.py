"""Relative strength: how much of the smoothed movement is upward."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

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
def strength_rows(gain, loss, spans, weights, out):
    """Row r of `out` f4[R, T]: 100 G / (G + L), `gain` and `loss` f8[T] smoothed with `weights[r]`;
    0 / 0 and everything outside `spans` is NaN. `weights` are padded to whole lanes."""
    rows, bars = out.shape
    keeps, state = 1.0 - weights, np.empty((2, weights.size))
    tile = np.empty((LANES, TILE), np.float32)
    for first in range(0, rows, LANES):
        group = max(min(first, rows - LANES), 0)  # overlapping rows come out the same
        last = min(group + LANES, rows)
        done = 0
        for i in range(spans.shape[0]):
            begin, stop = spans[i, 0], spans[i, 1]
            out[group:last, done:begin] = np.nan
            state[0, group : group + LANES] = gain[begin]
            state[1, group : group + LANES] = loss[begin]
            done = stop
            if rows >= LANES:
                count = stop - begin
                strength_8(gain, loss, begin, count, weights, keeps, state, out, begin, group)
                continue
            for at in range(begin, stop, TILE):
                count = min(TILE, stop - at)
                strength_8(gain, loss, at, count, weights, keeps, state, tile, 0, 0)
                for r in range(rows):
                    copy(tile[r, :count], out[r, at:])
        out[group:last, done:bars] = np.nan


def moves(
    series: BarSeries, source: str, lag: int
) -> tuple[NDArray[np.float64], NDArray[np.float64], NDArray[np.int64]]:
    """Rises and falls f8[T] of a price over `lag` bars, and the spans i8[n, 2] that have them."""

    def build() -> NDArray[np.float64]:
        both = np.empty((2, len(series)))
        changes(series.price(source), min(lag, len(series)), both[0], both[1])
        return both

    gain, loss = series.derived(f"moves:{source}:{lag}", build)
    spans = series.derived(f"spans:moves:{source}:{lag}", lambda: valid_spans(np.isnan(gain)))
    return gain, loss, spans
