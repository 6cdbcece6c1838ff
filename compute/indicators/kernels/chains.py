"""Chains of exponential smoothing: averages of averages, eight rows side by side.

Unlike `smoothing`, every row has its own values, and a NaN among them restarts it.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.kernels.smoothing import LANES, TILE, ema_weights
from compute.jit import kernel


@kernel
def own_lanes(tile, count, weights, keeps, state):
    """Smooth the first `count` values of eight rows of `tile` f8[8, TILE] in place.

    `weights`, `keeps` (1 - weight) and `state` f8[8]; a NaN state starts from the next value.
    """
    a0, a1, a2, a3, a4, a5, a6, a7 = (
        weights[0], weights[1], weights[2], weights[3],
        weights[4], weights[5], weights[6], weights[7],
    )  # fmt: skip
    b0, b1, b2, b3, b4, b5, b6, b7 = (
        keeps[0], keeps[1], keeps[2], keeps[3], keeps[4], keeps[5], keeps[6], keeps[7],
    )  # fmt: skip
    y0, y1, y2, y3, y4, y5, y6, y7 = (
        state[0], state[1], state[2], state[3], state[4], state[5], state[6], state[7],
    )  # fmt: skip
    t0, t1, t2, t3 = tile[0, :count], tile[1, :count], tile[2, :count], tile[3, :count]
    t4, t5, t6, t7 = tile[4, :count], tile[5, :count], tile[6, :count], tile[7, :count]
    for k in range(count):
        y0 = a0 * t0[k] + b0 * y0 if y0 == y0 else t0[k]
        y1 = a1 * t1[k] + b1 * y1 if y1 == y1 else t1[k]
        y2 = a2 * t2[k] + b2 * y2 if y2 == y2 else t2[k]
        y3 = a3 * t3[k] + b3 * y3 if y3 == y3 else t3[k]
        y4 = a4 * t4[k] + b4 * y4 if y4 == y4 else t4[k]
        y5 = a5 * t5[k] + b5 * y5 if y5 == y5 else t5[k]
        y6 = a6 * t6[k] + b6 * y6 if y6 == y6 else t6[k]
        y7 = a7 * t7[k] + b7 * y7 if y7 == y7 else t7[k]
        t0[k], t1[k], t2[k], t3[k] = y0, y1, y2, y3
        t4[k], t5[k], t6[k], t7[k] = y4, y5, y6, y7
    state[0], state[1], state[2], state[3] = y0, y1, y2, y3
    state[4], state[5], state[6], state[7] = y4, y5, y6, y7


@kernel
def cascade_rows(x, weights, factors, out):
    """Row r of `out` f4[R, T]: the sum over i of `factors[i, r]` · e_i, where e_0 is `x` f8[T]
    smoothed with `weights[r]` and e_i is e_(i - 1) smoothed again.

    `weights` f8[n] and `factors` f8[stages, n] are padded to whole lanes.
    """
    rows, bars = out.shape
    stages = factors.shape[0]
    keeps = 1.0 - weights
    tile, total = np.empty((LANES, TILE)), np.empty((LANES, TILE))
    state = np.empty((stages, LANES))
    for group in range(0, rows, LANES):
        state[:] = np.nan
        weight, keep = weights[group : group + LANES], keeps[group : group + LANES]
        for begin in range(0, bars, TILE):
            count = min(TILE, bars - begin)
            tile[:, :count] = x[begin : begin + count]
            total[:, :count] = 0.0
            for i in range(stages):
                own_lanes(tile, count, weight, keep, state[i])
                if not np.any(factors[i, group : group + LANES]):
                    continue
                for g in range(LANES):
                    factor, values, sums = factors[i, group + g], tile[g], total[g]
                    for k in range(count):
                        sums[k] += factor * values[k]
            for g in range(min(LANES, rows - group)):
                out[group + g, begin : begin + count] = total[g, :count]


@kernel
def _ratios(over, under, weights, signal_weights, form, out):
    rows, bars = out.shape
    tops, bottoms, line = np.empty((LANES, TILE)), np.empty((LANES, TILE)), np.empty((LANES, TILE))
    state = np.full((5, LANES), np.nan)
    for begin in range(0, bars, TILE):
        count = min(TILE, bars - begin)
        tops[:, :count] = over[begin : begin + count]
        bottoms[:, :count] = under[begin : begin + count]
        for i in range(2):
            own_lanes(tops, count, weights[i], 1.0 - weights[i], state[i])
            own_lanes(bottoms, count, weights[i], 1.0 - weights[i], state[2 + i])
        for g in range(LANES):
            top, bottom = tops[g], bottoms[g]
            for k in range(count):
                top[k] = 100.0 * top[k] / bottom[k] if bottom[k] != 0.0 else np.nan
        if form > 0:
            line[:, :count] = tops[:, :count]
            own_lanes(line, count, signal_weights, 1.0 - signal_weights, state[4])
        for r in range(rows):
            row, ratio, smooth = out[r, begin : begin + count], tops[r], line[r]
            if form == 0:
                row[:] = ratio[:count]
            elif form == 1:
                row[:] = smooth[:count]
            else:
                for k in range(count):
                    row[k] = ratio[k] - smooth[k]


def twice_smoothed(
    over: NDArray[np.float64],
    under: NDArray[np.float64],
    windows: NDArray[np.int64],
    signal_windows: NDArray[np.int64],
    form: int,
    out: NDArray[np.float32],
) -> None:
    """Up to eight rows of `out` f4[R, T]: 100 ema(ema(over)) / ema(ema(under)) by `windows`
    i8[R, 2] (form 0), its ema over `signal_windows` (1) or the difference of the two (2); NaN
    where the denominator is 0."""
    weights = np.stack([ema_weights(windows[:, i]) for i in range(2)])
    _ratios(over, under, weights, ema_weights(signal_windows), form, out)


def padded_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values` f8[stages, n] extended with its last column to a multiple of `LANES`."""
    missing = -values.shape[1] % LANES
    return np.ascontiguousarray(np.concatenate((values, values[:, -1:].repeat(missing, 1)), 1))
