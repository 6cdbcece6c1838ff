"""Chaikin volatility."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, delta_rule, window
from compute.indicators.kernels.smoothing import padded, smooth_rows
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
    """Fill `out` f4[n] with the growth of the last n values of `x` over `lag` bars."""
    now = x[x.size - out.size :]
    then = x[x.size - out.size - lag :]
    for t in range(out.size):
        out[t] = 100.0 * (now[t] - then[t]) / then[t] if then[t] != 0.0 else np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    ranges = series.derived("range", lambda: series.wide("high") - series.wide("low"))
    spans, lags, carry = series.spans("high", "low"), params["roc_window"], carry or Carry()
    tail, bars = int(lags.max()), out.shape[1]
    smooth = np.empty(tail + bars)
    for w in np.unique(params["window"]):
        before = carry.state(f"tail:{w}", tail)
        smooth[:tail] = before
        fresh, weights = smooth[tail:].reshape(1, bars), padded(np.array([2.0 / (w + 1.0)]))
        smooth_rows(ranges, spans, weights, fresh, carry, f"smoothed:{w}")
        before[:] = smooth[bars:]
        for r in np.flatnonzero(params["window"] == w):
            _growth(smooth, lags[r], out[r])


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
