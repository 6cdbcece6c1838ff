"""Linearly weighted moving average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_7, Definition, Output, Rule, window
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.weighted import weighted_rows
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="ma.wma",
    title="Weighted Moving Average",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(window(),),
    axes=("source", "window"),
    outputs=(
        Output("value", Rule("compare_price_to_output", price="source"), ("source", "window")),
    ),
    primary="value",
    formula="Mean of the last w values with weights 1..w, the newest heaviest.",
    reference="Textbook.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    weighted_rows(series.price(source), series.first_bar, windows, False, out)
    blank(out, series.holes(source), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    weights = np.arange(1, w + 1)
    value = np.full(x.size, np.nan)
    for t in range(w - 1, x.size):
        value[t] = np.sum(weights * x[t - w + 1 : t + 1]) / np.sum(weights)
    return {"value": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
