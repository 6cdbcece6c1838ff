"""Bollinger bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_6, Definition, Output, Rule, multiplier, window
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.spreads import BAND, spread_rows
from compute.indicators.kernels.sums import mean_rows
from compute.indicators.series import BarSeries

_AXES = ("mult", "source", "window")
_RULE = Rule("compare_price_to_output", price="source")
DEFINITION = Definition(
    indicator_id="volatility.bbands",
    title="Bollinger Bands",
    group="volatility",
    inputs=(),
    sources=SOURCES_6,
    params=(window(), multiplier()),
    axes=_AXES,
    outputs=(
        Output("basis", _RULE, ("source", "window")),
        Output("upper", _RULE, _AXES),
        Output("lower", _RULE, _AXES),
    ),
    primary="basis",
    formula="basis = mean of the last w values; upper, lower = basis ± mult · std (ddof 0).",
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
    if output == "basis":
        mean_rows(x, series.first_bar, windows, out)
        blank(out, holes, windows - 1, windows)
    else:
        factors = params["mult"] if output == "upper" else -params["mult"]
        spread_rows(x, holes, series.first_bar, windows, factors, BAND, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    basis, deviation = np.full(x.size, np.nan), np.full(x.size, np.nan)
    for t in range(w - 1, x.size):
        basis[t], deviation[t] = np.mean(x[t - w + 1 : t + 1]), np.std(x[t - w + 1 : t + 1])
    apart = params["mult"] * deviation
    return {"basis": basis, "upper": basis + apart, "lower": basis - apart}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
