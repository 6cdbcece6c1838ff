"""Chains of exponential smoothing: averages of averages, eight rows side by side.

A chain of one price lives in registers; where every row has its own values, a tile of them is
smoothed in place, and a NaN among them restarts its row.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.kernels.recursions import (
    combine_2,
    combine_3,
    combine_6,
    grow_3,
    ratio_8,
    ratio_clean_8,
    ratio_hist_8,
    ratio_signal_8,
    smooth_own,
)
from compute.indicators.kernels.smoothing import TILE, ema_weights
from compute.indicators.kernels.sums import copy
from compute.indicators.kernels.vectors import LANES
from compute.jit import kernel

GROWTH = 0


@kernel
def own_lanes(tile, count, weights, keeps, state):
    """Smooth the first `count` values of eight rows of `tile` f8[8, TILE] in place.

    `weights`, `keeps` (1 - weight) and `state` f8[8]; a NaN state starts from the next value.
    """
    smooth_own(tile, count, weights, keeps, state)


@kernel
def cascade(kind, x, begin, count, weights, keeps, state, factors, out, column, group):
    """Advance eight rows of the chain `kind` (see `cascade_rows`) over `count` bars."""
    if kind == 2:
        combine_2(x, begin, count, weights, keeps, state, factors, out, column, group)
    elif kind == 3:
        combine_3(x, begin, count, weights, keeps, state, factors, out, column, group)
    elif kind == 6:
        combine_6(x, begin, count, weights, keeps, state, factors, out, column, group)
    else:
        grow_3(x, begin, count, weights, keeps, state, factors, out, column, group)


@kernel
def _cascade_rows(kind, x, spans, weights, factors, first, before, out):
    """Bars first .. first + out.shape[1] of `cascade_rows`; `before` f8[stages, n] is the state of
    the rows at its bar `first`, and then that at its end."""
    rows, bars = out.shape
    stages, end = factors.shape[0], first + bars
    keeps, state = 1.0 - weights, before.copy()
    tile = np.empty((LANES, TILE), np.float32)
    for row in range(0, rows, LANES):
        group = max(min(row, rows - LANES), 0)  # overlapping rows come out the same
        lanes = slice(group, min(group + LANES, rows))
        state[:, group : group + LANES] = before[:, group : group + LANES]
        done = 0
        for i in range(spans.shape[0]):
            begin, stop = max(spans[i, 0], first), min(spans[i, 1], end)
            if begin >= stop:
                continue
            out[lanes, done : begin - first] = np.nan
            done = stop - first
            if begin == spans[i, 0]:
                state[:, group : group + LANES] = x[begin]
                for r in range(lanes.start, lanes.stop):
                    total = np.nan if kind == GROWTH else 0.0
                    for k in range(stages):
                        total += factors[k, r] * x[begin]
                    out[r, begin - first] = total
                begin += 1
            if rows >= LANES:
                count, at = stop - begin, begin - first
                cascade(kind, x, begin, count, weights, keeps, state, factors, out, at, group)
                continue
            for at in range(begin, stop, TILE):
                count = min(TILE, stop - at)
                cascade(kind, x, at, count, weights, keeps, state, factors, tile, 0, 0)
                for r in range(rows):
                    copy(tile[r, :count], out[r, at - first :])
        out[lanes, done:bars] = np.nan
    before[:] = state


def cascade_rows(
    kind: int,
    x: NDArray[np.float64],
    spans: NDArray[np.int64],
    weights: NDArray[np.float64],
    factors: NDArray[np.float64],
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    """Row r of `out` f4[R, n], the last n bars of `x` f8[T]: the sum over i of `factors[i, r]` ·
    e_i, where e_0 is `x` smoothed with `weights[r]` and e_i is e_(i - 1) smoothed again; NaN
    outside `spans`.

    `kind` is the number of stages, 2, 3 or 6; GROWTH is 100 (e_2 / its value a bar ago - 1), NaN on
    the first bar. `weights` f8[n] and `factors` f8[stages, n] are padded to whole lanes. The bars
    before `out` left their state in `carry`.
    """
    state = (carry or Carry()).state("stages", *factors.shape)
    _cascade_rows(kind, x, spans, weights, factors, x.size - out.shape[1], state, out)


@kernel
def _broken(over, under, begin, count, state):
    """Whether a NaN is among the next `count` values or in what they go on from."""
    total = 0.0
    for t in range(begin, begin + count):
        total += (over[t] - over[t]) + (under[t] - under[t])
    for i in range(4):
        for g in range(LANES):
            total += state[i, g] - state[i, g]
    return total != 0.0


@kernel
def _ratios(over, under, weights, form, rows, state, out):
    """`rows` of `out`, its bars the last ones of `over` and `under`; `state` f8[5, 8]."""
    first = over.size - out.shape[1]
    keeps, tile = 1.0 - weights, np.empty((LANES, TILE), np.float32)
    for begin in range(first, over.size, TILE):
        count = min(TILE, over.size - begin)
        if form == 0 and not _broken(over, under, begin, count, state):
            ratio_clean_8(over, under, begin, count, weights, keeps, state, tile)
        elif form == 0:
            ratio_8(over, under, begin, count, weights, keeps, state, tile)
        elif form == 1:
            ratio_signal_8(over, under, begin, count, weights, keeps, state, tile)
        else:
            ratio_hist_8(over, under, begin, count, weights, keeps, state, tile)
        for g in range(rows.size):
            copy(tile[g, :count], out[rows[g], begin - first :])


def twice_smoothed(
    over: NDArray[np.float64],
    under: NDArray[np.float64],
    windows: NDArray[np.int64],
    signal_windows: NDArray[np.int64],
    form: int,
    rows: NDArray[np.int64],
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    """Fill `rows` of `out` f4[R, n] with 100 ema(ema(over)) / ema(ema(under)) on the last n bars of
    f8[T] by `windows` i8[R, 2] (form 0), its ema over `signal_windows` i8[R] (1) or the difference
    of the two (2); NaN where the denominator is 0.

    The bars before `out` left their state in `carry`, under the rows' numbers.
    """
    carry = carry or Carry()
    for begin in range(0, rows.size, LANES):
        part = rows[begin : begin + LANES]
        one, two = (ema_weights(windows[part, i]) for i in range(2))
        weights = np.stack((one, two, one, two, ema_weights(signal_windows[part])))
        state = carry.state(f"ratios:{part[0]}", 5, LANES)
        _ratios(over, under, weights, form, part, state, out)


def padded_rows(values: NDArray[np.float64]) -> NDArray[np.float64]:
    """`values` f8[stages, n] extended with its last column to a multiple of `LANES`."""
    missing = -values.shape[1] % LANES
    return np.ascontiguousarray(np.concatenate((values, values[:, -1:].repeat(missing, 1)), 1))
