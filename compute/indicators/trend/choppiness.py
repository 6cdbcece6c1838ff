"""Choppiness index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, delta_rule, window
from compute.indicators.kernels.elementary import logarithm
from compute.indicators.kernels.extremes import LOWER, UPPER, channel_rows
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.ranges import true_range
from compute.indicators.kernels.sums import window_sums
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="trend.choppiness",
    title="Choppiness Index",
    group="trend",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window(default=14),),
    axes=("window",),
    outputs=(Output("choppiness", delta_rule(), ("window",)),),
    primary="choppiness",
    formula="100 log10(sum(TR, w) / (highest high - lowest low)) / log10(w) over w bars.",
    reference="E. W. Dreiss, 1990s.",
)


@kernel
def _choppiness(total, top, bottom, w, out):
    scale = 100.0 / np.log(np.float64(w))
    for t in range(out.size):
        reach = np.float64(top[t]) - np.float64(bottom[t])
        out[t] = scale * logarithm(total[t] / reach) if reach > 0.0 else np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows, bars, only = params["window"], len(series), np.array([0])
    high, low, ranges = series.high, series.low, true_range(series)
    total, channel = np.empty(bars), np.empty((2, bars), np.float32)
    for r, w in enumerate(windows):
        width = windows[r : r + 1]
        channel_rows(high, low, high, width, only, UPPER, channel[:1])
        channel_rows(high, low, high, width, only, LOWER, channel[1:])
        window_sums(ranges, series.first_bar, w, total)
        _choppiness(total, channel[0], channel[1], w, out[r])
    blank(out, series.holes("high", "low"), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, w = series["high"], series["low"], series["close"], params["window"]
    ranges = high - low
    for t in range(1, high.size):
        if not math.isnan(close[t - 1]) and not math.isnan(ranges[t]):
            ranges[t] = max(ranges[t], abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
    value = np.full(high.size, np.nan)
    for t in range(w - 1, high.size):
        inside = slice(t - w + 1, t + 1)
        reach = np.max(high[inside]) - np.min(low[inside])
        if reach > 0:
            value[t] = 100 * math.log10(np.sum(ranges[inside]) / reach) / math.log10(w)
    return {"choppiness": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
