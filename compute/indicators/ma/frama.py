"""Fractal adaptive moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import (
    SOURCES_7,
    WINDOW_MAX,
    WINDOW_MIN,
    Definition,
    Output,
    Param,
    Rule,
)
from compute.indicators.kernels.extremes import LOWER, UPPER, channel_rows
from compute.indicators.kernels.holes import blank
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("source", "window")
DEFINITION = Definition(
    indicator_id="ma.frama",
    title="Fractal Adaptive Moving Average",
    group="ma",
    inputs=("high", "low"),
    sources=SOURCES_7,
    params=(Param("window", "int", WINDOW_MIN, WINDOW_MAX, 2, 16),),
    axes=_AXES,
    outputs=(Output("value", Rule("compare_price_to_output", price="source"), _AXES),),
    primary="value",
    formula="y = y + a (x - y), a = exp(-4.6 (D - 1)) within 0.01 and 1, D = log2((N1 + N2) / N3);"
    " N1, N2: (highest high - lowest low) / (w / 2) of the older and the newer half of w bars (an"
    " odd w counts as w - 1), N3 that of all over w; a = 1 where no price moved. Starts from the"
    " first value with a full window.",
    reference="John Ehlers, Fractal Adaptive Moving Average, 2005.",
    recursive=True,
    slow=True,
)


@kernel
def _adapt(x, tops, bottoms, half, y, out):
    """Fill `out` f4[n], the last bars of f8[T] `x`, from `y` before them on, and return the last
    value; `tops` and `bottoms` f4[T] are the extremes of `half` bars, NaN where the half is not
    full."""
    first = x.size - out.size
    for t in range(first, x.size):
        if t < half:
            out[t - first] = np.nan
            continue
        top, bottom = np.float64(tops[t]), np.float64(bottoms[t])
        high, low = np.float64(tops[t - half]), np.float64(bottoms[t - half])
        parts = (top - bottom) + (high - low)
        rate = np.nan
        if parts == parts:
            whole = max(top, high) - min(bottom, low)
            # 2^D = 2 · parts / whole, and x^-4.6 of a zero is beyond 1.
            twice = 2.0 * parts / whole if whole > 0.0 else 0.0
            rate = (
                min(max(np.exp(-4.6 * (np.log2(twice) - 1.0)), 0.01), 1.0) if twice > 0.0 else 1.0
            )
        y = y + rate * (x[t] - y) if y == y else x[t] + 0.0 * rate
        out[t - first] = y
    return y


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    high, low, bars = series.high, series.low, len(series)
    holes, first = series.holes("high", "low"), bars - out.shape[1]
    state = (carry or Carry()).state("lines", len(out))
    x, channel, order = series.wide(source), np.empty((2, bars), np.float32), np.array([0])
    for r, w in enumerate(params["window"]):
        half = np.array([max(int(w) // 2, 1)])
        channel_rows(high, low, high, half, order, UPPER, channel[:1])
        channel_rows(high, low, high, half, order, LOWER, channel[1:])
        blank(channel[:1], holes, half - 1, half)
        blank(channel[1:], holes, half - 1, half)
        state[r] = _adapt(x, channel[0], channel[1], int(half[0]), state[r], out[r])
    lead = np.maximum(2 * np.maximum(params["window"] // 2, 1) - 1 - first, 0)
    blank(out, np.empty(0, np.int64), lead, lead)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, x = series["high"], series["low"], series[params["source"]]
    half = params["window"] // 2
    value, last = np.full(x.size, np.nan), math.nan
    for t in range(2 * half - 1, x.size):
        old, new = slice(t - 2 * half + 1, t - half + 1), slice(t - half + 1, t + 1)
        both = slice(t - 2 * half + 1, t + 1)
        n1, n2, n3 = ((np.max(high[s]) - np.min(low[s])) for s in (old, new, both))
        rate = 1.0
        if math.isnan(n3):
            rate = math.nan
        elif n3 > 0 and n1 + n2 > 0:
            dimension = math.log2((n1 / half + n2 / half) / (n3 / (2 * half)))
            rate = min(max(math.exp(-4.6 * (dimension - 1)), 0.01), 1.0)
        if math.isnan(rate) or math.isnan(x[t]):
            last = math.nan
        else:
            last = x[t] if math.isnan(last) else last + rate * (x[t] - last)
        value[t] = last
    return {"value": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] + 690


def first(params: Mapping[str, Any], output: str) -> int:
    return 2 * (params["window"] // 2) - 1
