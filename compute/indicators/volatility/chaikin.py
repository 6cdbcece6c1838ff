"""Chaikin volatility."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, delta_rule, window
from compute.indicators.kernels.smoothing import smooth_row
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("window", "roc_window")
DEFINITION = Definition(
    indicator_id="volatility.chaikin",
    title="Chaikin Volatility",
    group="volatility",
    inputs=("high", "low"),
    sources=(),
    params=(window(default=10), window("roc_window", 10)),
    axes=_AXES,
    outputs=(Output("chaikin", delta_rule(), _AXES),),
    primary="chaikin",
    formula="100 (e / e[roc_window bars ago] - 1), e = ema(h - l, w); nothing where the earlier"
    " one is 0.",
    reference="Marc Chaikin, 1980s.",
    recursive=True,
)


@kernel
def _growth(x, lag, out):
    out[:lag] = np.nan
    now, then, row = x[lag:], x[: max(x.size - lag, 0)], out[lag:]
    for t in range(now.size):
        row[t] = 100.0 * (now[t] - then[t]) / then[t] if then[t] != 0.0 else np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    ranges = series.derived("range", lambda: series.wide("high") - series.wide("low"))
    spans, smooth = series.spans("high", "low"), np.empty(len(series))
    for w in np.unique(params["window"]):
        smooth_row(ranges, spans, 2.0 / (w + 1.0), smooth)
        for r in np.flatnonzero(params["window"] == w):
            _growth(smooth, min(int(params["roc_window"][r]), len(series)), out[r])


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    ranges, lag = series["high"] - series["low"], params["roc_window"]
    alpha = 2 / (params["window"] + 1)
    smooth = ranges.copy()
    for t in range(1, smooth.size):
        if not math.isnan(smooth[t - 1]):
            smooth[t] = alpha * ranges[t] + (1 - alpha) * smooth[t - 1]
    value = np.full(smooth.size, np.nan)
    for t in range(lag, smooth.size):
        if smooth[t - lag] != 0:
            value[t] = 100 * (smooth[t] / smooth[t - lag] - 1)
    return {"chaikin": value}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(3.5 * (params["window"] + 1)) + params["roc_window"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["roc_window"]
