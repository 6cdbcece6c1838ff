"""Average directional index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, delta_rule, window
from compute.indicators.kernels.chains import own_lanes
from compute.indicators.kernels.ranges import true_range
from compute.indicators.kernels.smoothing import TILE, lanes, rma_weights
from compute.indicators.kernels.sums import copy
from compute.indicators.kernels.vectors import LANES
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("window", "smoothing")
DEFINITION = Definition(
    indicator_id="trend.adx",
    title="Average Directional Index",
    group="trend",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window(), window("smoothing", 14)),
    axes=_AXES,
    outputs=(
        Output("plus_di", delta_rule(), ("window",)),
        Output("minus_di", delta_rule(), ("window",)),
        Output("adx", delta_rule(), _AXES),
    ),
    primary="adx",
    formula="±DI = 100 rma(±DM, w) / ATR(w), +DM = h - h1 where that is positive and above l1 - l,"
    " else 0, -DM mirrored; DX = 100 |+DI - -DI| / (+DI + -DI); adx = rma(DX, smoothing).",
    reference="J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.",
    recursive=True,
)


def _moves(series: BarSeries) -> NDArray[np.float64]:
    """+DM and -DM, f8[2, T]; 0 where there is no previous bar, NaN where high or low is missing."""
    high, low = series.wide("high"), series.wide("low")
    up, down = np.diff(high, prepend=np.nan)[: high.size], -np.diff(low, prepend=np.nan)[: low.size]
    hole = 0.0 * (high + low)
    both = np.stack(
        (np.where((up > down) & (up > 0), up, 0.0), np.where((down > up) & (down > 0), down, 0.0))
    )
    return both + hole


@kernel
def _directions(moves, ranges, spans, weights, side, state, out):
    """Row r of `out` f4[R, n], the last n bars of f8[T]: 100 · moves[side] / `ranges`, both
    smoothed with `weights[r]`; up to eight rows, `weights` f8[8], `state` f8[2, 8] before them."""
    keeps, first = 1.0 - weights, ranges.size - out.shape[1]
    over, under = np.empty((LANES, TILE)), np.empty((LANES, TILE))
    out[:] = np.nan
    for i in range(spans.shape[0]):
        begin, stop = max(spans[i, 0], first), spans[i, 1]
        if begin == spans[i, 0]:
            state[0], state[1] = moves[side, begin], ranges[begin]
        for at in range(begin, stop, TILE):
            count = min(TILE, stop - at)
            lanes(moves[side], at, count, weights, keeps, state[0], over, 0, 0)
            lanes(ranges, at, count, weights, keeps, state[1], under, 0, 0)
            for r in range(out.shape[0]):
                row, top, bottom = out[r, at - first : at - first + count], over[r], under[r]
                for k in range(count):
                    row[k] = 100.0 * top[k] / bottom[k] if bottom[k] != 0.0 else np.nan


@kernel
def _strengths(moves, ranges, spans, weights, state, out):
    """Row r of `out` f8[8, n], the last n bars of f8[T]: DX with `weights[r]` f8[8], `state`
    f8[3, 8] before them; the range counts only where it is 0."""
    keeps, first = 1.0 - weights, ranges.size - out.shape[1]
    tile = np.empty((3, LANES, TILE))
    out[:] = np.nan
    for i in range(spans.shape[0]):
        begin, stop = max(spans[i, 0], first), spans[i, 1]
        if begin == spans[i, 0]:
            state[0], state[1], state[2] = moves[0, begin], moves[1, begin], ranges[begin]
        for at in range(begin, stop, TILE):
            count = min(TILE, stop - at)
            for side in range(3):
                values = moves[side] if side < 2 else ranges
                lanes(values, at, count, weights, keeps, state[side], tile[side], 0, 0)
            for r in range(LANES):
                row, reach = out[r, at - first : at - first + count], tile[2, r]
                up, down = tile[0, r], tile[1, r]
                for k in range(count):
                    total = up[k] + down[k] if reach[k] != 0.0 else 0.0
                    row[k] = 100.0 * abs(up[k] - down[k]) / total if total != 0.0 else np.nan


@kernel
def _average(strengths, at, weights, state, out):
    """Row r of `out` f4[R, n]: row `at[r]` of `strengths` smoothed with `weights[r]`; `state` f8[m]
    before them."""
    rows, bars = out.shape
    tile = np.empty((LANES, TILE))
    for group in range(0, rows, LANES):
        last, weight = state[group : group + LANES], weights[group : group + LANES]
        for begin in range(0, bars, TILE):
            count = min(TILE, bars - begin)
            for g in range(LANES):
                copy(strengths[at[min(group + g, rows - 1)], begin : begin + count], tile[g])
            own_lanes(tile, count, weight, 1.0 - weight, last)
            for g in range(min(LANES, rows - group)):
                copy(tile[g, :count], out[group + g, begin:])


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    moves = series.derived("directional moves", lambda: _moves(series))
    ranges, spans, bars = true_range(series), series.spans("high", "low"), out.shape[1]
    carry = carry or Carry()
    windows, at = np.unique(params["window"], return_inverse=True)
    for group in range(0, windows.size, LANES):
        weights = rma_weights(windows[group : group + LANES])
        chosen = np.flatnonzero((at >= group) & (at < group + LANES))
        if output == "adx":
            strengths, block = np.empty((LANES, bars)), np.empty((chosen.size, bars), np.float32)
            slow = rma_weights(params["smoothing"][chosen])
            state = carry.state(f"strengths:{group}", 3, LANES)
            _strengths(moves, ranges, spans, weights, state, strengths)
            last = carry.state(f"averages:{group}", slow.size)
            _average(strengths, at[chosen] - group, slow, last, block)
            out[chosen] = block
        else:
            lines = np.empty((min(LANES, windows.size - group), bars), np.float32)
            side, state = int(output == "minus_di"), carry.state(f"lines:{group}", 2, LANES)
            _directions(moves, ranges, spans, weights, side, state, lines)
            out[chosen] = lines[at[chosen] - group]


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, w = series["high"], series["low"], series["close"], params["window"]
    size, smoothing = high.size, params["smoothing"]
    plus_di, minus_di, adx = (np.full(size, np.nan) for _ in range(3))
    plus = minus = reach = average = math.nan
    for t in range(size):
        spread = high[t] - low[t]
        if math.isnan(spread):
            plus = minus = reach = average = math.nan
            continue
        up = high[t] - high[t - 1] if t > 0 else math.nan
        down = low[t - 1] - low[t] if t > 0 else math.nan
        if t > 0 and not math.isnan(close[t - 1]):
            spread = max(spread, abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
        rise = up if up > down and up > 0 else 0.0
        fall = down if down > up and down > 0 else 0.0
        plus = rise if math.isnan(plus) else rise / w + (1 - 1 / w) * plus
        minus = fall if math.isnan(minus) else fall / w + (1 - 1 / w) * minus
        reach = spread if math.isnan(reach) else spread / w + (1 - 1 / w) * reach
        if reach != 0:
            plus_di[t], minus_di[t] = 100 * plus / reach, 100 * minus / reach
        total = plus_di[t] + minus_di[t]
        if not total > 0:
            average = math.nan
            continue
        dx = 100 * abs(plus_di[t] - minus_di[t]) / total
        average = dx if math.isnan(average) else dx / smoothing + (1 - 1 / smoothing) * average
        adx[t] = average
    return {"plus_di": plus_di, "minus_di": minus_di, "adx": adx}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["window"]) + math.ceil(6.9 * params["smoothing"])


def first(params: Mapping[str, Any], output: str) -> int:
    return 0 if output != "adx" else 1
