"""Position of the price inside its Bollinger bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import (
    SOURCES_6,
    Definition,
    Output,
    Span,
    band_rule,
    multiplier,
    window,
)
from compute.indicators.kernels.spreads import SCORE, spread_rows
from compute.indicators.series import BarSeries

_AXES = ("mult", "source", "window")
DEFINITION = Definition(
    indicator_id="volatility.bbands_percent_b",
    title="Bollinger Percent B",
    group="volatility",
    inputs=(),
    sources=SOURCES_6,
    params=(window(), multiplier()),
    axes=_AXES,
    outputs=(
        Output("percent_b", band_rule("float", Span(-0.2, 0.2, 0.05), Span(0.8, 1.2, 0.05)), _AXES),
    ),
    primary="percent_b",
    formula="(x - lower) / (upper - lower), bands at mean ± mult · std (ddof 0).",
    reference="John Bollinger, Bollinger on Bollinger Bands, 2001.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    spread_rows(
        series.price(source),
        series.holes(source),
        series.first_bar,
        params["window"],
        0.5 / params["mult"],
        SCORE,
        out,
        offset=0.5,
    )


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w, mult = series[params["source"]], params["window"], params["mult"]
    value = np.full(x.size, np.nan)
    for t in range(w - 1, x.size):
        inside = x[t - w + 1 : t + 1]
        mean, std = np.mean(inside), np.std(inside)
        upper, lower = mean + mult * std, mean - mult * std
        if np.max(inside) != np.min(inside):
            value[t] = (x[t] - lower) / (upper - lower)
    return {"percent_b": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
