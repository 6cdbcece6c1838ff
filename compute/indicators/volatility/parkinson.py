"""Parkinson's range volatility."""

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
    indicator_id="volatility.parkinson",
    title="Parkinson Volatility",
    group="volatility",
    inputs=("high", "low"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(Output("parkinson", delta_rule(), ("window",)),),
    primary="parkinson",
    formula="100 sqrt(mean(ln(h / l)^2, w) / (4 ln 2)), in percent a bar.",
    reference="Michael Parkinson, Journal of Business, 1980.",
)


def _terms(series: BarSeries) -> NDArray[np.float64]:
    return np.log(series.wide("high") / series.wide("low")) ** 2 / (4 * math.log(2))


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    terms = series.derived("parkinson", lambda: _terms(series))
    root_mean_rows(terms, series.first_bar, params["window"], 100.0, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, w = series["high"], series["low"], params["window"]
    value = np.full(high.size, np.nan)
    for t in range(w - 1, high.size):
        inside = [math.log(high[i] / low[i]) ** 2 for i in range(t - w + 1, t + 1)]
        value[t] = 100 * math.sqrt(np.mean(inside) / (4 * math.log(2)))
    return {"parkinson": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
