"""Chandelier exit."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, Rule, multiplier, window
from compute.indicators.kernels.extremes import LOWER, UPPER, channel_rows
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.ranges import apart_row, true_range
from compute.indicators.kernels.smoothing import rma_weights, smooth_rows
from compute.indicators.kernels.vectors import LANES
from compute.indicators.series import BarSeries

_AXES = ("window", "mult")
DEFINITION = Definition(
    indicator_id="trend.chandelier_exit",
    title="Chandelier Exit",
    group="trend",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window(), multiplier()),
    axes=_AXES,
    outputs=(
        Output("chandelier_long", Rule("compare_price_to_output"), _AXES),
        Output("chandelier_short", Rule("compare_price_to_output"), _AXES),
    ),
    primary="chandelier_long",
    formula="Highest high over w bars - mult · ATR(w); short: lowest low over w bars + mult ·"
    " ATR(w).",
    reference="Chuck LeBeau, 1990s; Alexander Elder, Come into My Trading Room, 2002.",
    recursive=True,
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    shape, side = (UPPER, -1.0) if output == "chandelier_long" else (LOWER, 1.0)
    carry, first = carry or Carry(), len(series) - out.shape[1]
    ranges, spans = true_range(series), series.spans("high", "low")
    windows, at = np.unique(params["window"], return_inverse=True)
    for group in range(0, windows.size, LANES):
        part = windows[group : group + LANES]
        edges = np.empty((part.size, len(series)), np.float32)
        reach = np.empty((part.size, out.shape[1]))
        channel_rows(
            series.high, series.low, series.close, part, np.arange(part.size), shape, edges
        )
        smooth_rows(ranges, spans, rma_weights(part), reach, carry, f"reach:{group}")
        for r in np.flatnonzero((at >= group) & (at < group + LANES)):
            edge, wide = edges[at[r] - group, first:], reach[at[r] - group]
            apart_row(edge, wide, side * params["mult"][r], out[r])
    lead = np.maximum(params["window"] - 1 - first, 0)
    blank(out, series.holes("high", "low") - first, lead, params["window"])


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, w = series["high"], series["low"], series["close"], params["window"]
    long, short = np.full(high.size, np.nan), np.full(high.size, np.nan)
    atr = math.nan
    for t in range(high.size):
        reach = high[t] - low[t]
        if t > 0 and not math.isnan(close[t - 1]) and not math.isnan(reach):
            reach = max(reach, abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
        atr = reach if math.isnan(atr) else reach / w + (1 - 1 / w) * atr
        if t >= w - 1:
            long[t] = np.max(high[t - w + 1 : t + 1]) - params["mult"] * atr
            short[t] = np.min(low[t - w + 1 : t + 1]) + params["mult"] * atr
    hole = np.isnan(long) | np.isnan(short)
    long[hole] = short[hole] = np.nan
    return {"chandelier_long": long, "chandelier_short": short}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["window"])


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
