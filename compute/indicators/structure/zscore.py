"""Distance of the price from its mean in standard deviations."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_6, Definition, Output, Span, band_rule, window
from compute.indicators.kernels.spreads import SCORE, spread_rows
from compute.indicators.series import BarSeries

_AXES = ("source", "window")
DEFINITION = Definition(
    indicator_id="structure.zscore",
    title="Rolling Z-Score",
    group="structure",
    inputs=(),
    sources=SOURCES_6,
    params=(window(),),
    axes=_AXES,
    outputs=(Output("zscore", band_rule("float", Span(-3, -1, 0.25), Span(1, 3, 0.25)), _AXES),),
    primary="zscore",
    formula="(x - mean) / std (ddof 0) of the last w prices, this one included.",
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
    x, holes = series.price(source), series.holes(source)
    spread_rows(x, holes, series.first_bar, windows, np.ones(windows.size), SCORE, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    value = np.full(x.size, np.nan)
    for t in range(w - 1, x.size):
        inside = x[t - w + 1 : t + 1]
        if np.max(inside) != np.min(inside):
            value[t] = (x[t] - np.mean(inside)) / np.std(inside)
    return {"zscore": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
