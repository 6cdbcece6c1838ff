"""Historical volatility."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_6, Definition, Output, delta_rule, window
from compute.indicators.kernels.ranges import log_returns
from compute.indicators.kernels.spreads import DEVIATION, spread_rows
from compute.indicators.series import BarSeries

_AXES = ("annualization", "source", "window")
DEFINITION = Definition(
    indicator_id="volatility.hv",
    title="Historical Volatility (Log Returns)",
    group="volatility",
    inputs=(),
    sources=SOURCES_6,
    params=(window(), window("annualization", 365)),
    axes=_AXES,
    outputs=(Output("hv", delta_rule(), _AXES),),
    primary="hv",
    formula="100 sqrt(annualization) std(ln(x / x1)) over w returns (ddof 0), in percent;"
    " annualization is bars per year.",
    reference="Textbook; close-to-close volatility.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    returns = log_returns(series, source)
    holes = series.derived(f"holes:returns:{source}", lambda: np.flatnonzero(np.isnan(returns)))
    factors = 100.0 * np.sqrt(params["annualization"])
    spread_rows(returns, holes, series.first_bar, windows, factors, DEVIATION, out, lead=1)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    returns = np.full(x.size, np.nan)
    for t in range(1, x.size):
        if x[t] > 0 and x[t - 1] > 0:
            returns[t] = math.log(x[t] / x[t - 1])
    value = np.full(x.size, np.nan)
    for t in range(w, x.size):
        inside = returns[t - w + 1 : t + 1]
        value[t] = 100 * math.sqrt(params["annualization"]) * math.sqrt(np.var(inside))
    return {"hv": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"]
