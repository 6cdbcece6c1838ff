"""Garman and Klass' range volatility."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, delta_rule, window
from compute.indicators.kernels.ranges import root_mean_rows
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="volatility.garman_klass",
    title="Garman-Klass Volatility",
    group="volatility",
    inputs=("open", "high", "low", "close"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(Output("garman_klass", delta_rule(), ("window",)),),
    primary="garman_klass",
    formula="100 sqrt(mean(ln(h / l)^2 / 2 - (2 ln 2 - 1) ln(c / o)^2, w)), in percent a bar; a"
    " negative mean counts as 0.",
    reference="Mark Garman and Michael Klass, Journal of Business, 1980.",
)


def _terms(series: BarSeries) -> NDArray[np.float64]:
    opened, high, low, close = (series.wide(name) for name in DEFINITION.inputs)
    body = (2 * math.log(2) - 1) * np.log(close / opened) ** 2
    return 0.5 * np.log(high / low) ** 2 - body


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    terms = series.derived("garman_klass", lambda: _terms(series))
    root_mean_rows(terms, series.first_bar, params["window"], 100.0, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    opened, high, low, close = (series[name] for name in DEFINITION.inputs)
    w, value = params["window"], np.full(high.size, np.nan)
    for t in range(w - 1, high.size):
        total = 0.0
        for i in range(t - w + 1, t + 1):
            total += 0.5 * math.log(high[i] / low[i]) ** 2
            total -= (2 * math.log(2) - 1) * math.log(close[i] / opened[i]) ** 2
        value[t] = 100 * np.sqrt(np.maximum(total, 0.0) / w)
    return {"garman_klass": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
