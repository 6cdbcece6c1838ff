"""Slope of the least-squares line."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_6, Definition, Output, Rule, window
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.weighted import weighted_rows
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="trend.linreg_slope",
    title="Linear Regression Slope",
    group="trend",
    inputs=(),
    sources=SOURCES_6,
    params=(window(),),
    axes=("source", "window"),
    outputs=(Output("slope", Rule("sign"), ("source", "window")),),
    primary="slope",
    formula="Slope per bar of the least-squares line through the last w values.",
    reference="Textbook; Legendre 1805, Gauss 1809.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    weighted_rows(series.price(source), series.first_bar, windows, True, out)
    blank(out, series.holes(source), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    places = np.arange(w) - (w - 1) / 2
    value = np.full(x.size, np.nan)
    for t in range(w - 1, x.size):
        inside = x[t - w + 1 : t + 1]
        value[t] = np.sum(places * (inside - inside[0])) / np.sum(places**2)
    return {"slope": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
