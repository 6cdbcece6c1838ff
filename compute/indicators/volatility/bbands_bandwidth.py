"""Width of the Bollinger bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import (
    SOURCES_6,
    Definition,
    Output,
    delta_rule,
    multiplier,
    window,
)
from compute.indicators.kernels.spreads import WIDTH, spread_rows
from compute.indicators.series import BarSeries

_AXES = ("mult", "source", "window")
DEFINITION = Definition(
    indicator_id="volatility.bbands_bandwidth",
    title="Bollinger Bandwidth",
    group="volatility",
    inputs=(),
    sources=SOURCES_6,
    params=(window(), multiplier()),
    axes=_AXES,
    outputs=(Output("bandwidth", delta_rule(), _AXES),),
    primary="bandwidth",
    formula="(upper - lower) / basis = 2 mult · std / mean over w values (ddof 0).",
    reference="John Bollinger, Bollinger on Bollinger Bands, 2001.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    x, windows, holes = series.price(source), params["window"], series.holes(source)
    spread_rows(x, holes, series.first_bar, windows, 2.0 * params["mult"], WIDTH, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w, mult = series[params["source"]], params["window"], params["mult"]
    value = np.full(x.size, np.nan)
    for t in range(w - 1, x.size):
        basis, deviation = np.mean(x[t - w + 1 : t + 1]), np.std(x[t - w + 1 : t + 1])
        if basis != 0:
            value[t] = ((basis + mult * deviation) - (basis - mult * deviation)) / basis
    return {"bandwidth": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
