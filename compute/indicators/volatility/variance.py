"""Rolling variance."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_6, Definition, Output, delta_rule, window
from compute.indicators.kernels.spreads import VARIANCE, spread_rows
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="volatility.variance",
    title="Rolling Variance",
    group="volatility",
    inputs=(),
    sources=SOURCES_6,
    params=(window(),),
    axes=("source", "window"),
    outputs=(Output("variance", delta_rule(), ("source", "window")),),
    primary="variance",
    formula="Mean squared deviation from the mean of the last w values.",
    reference="Textbook; population form (ddof 0).",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    x, windows, holes = series.price(source), params["window"], series.holes(source)
    spread_rows(x, holes, series.first_bar, windows, np.ones(windows.size), VARIANCE, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    value = np.full(x.size, np.nan)
    for t in range(w - 1, x.size):
        inside = x[t - w + 1 : t + 1]
        value[t] = np.mean((inside - np.mean(inside)) ** 2)
    return {"variance": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
