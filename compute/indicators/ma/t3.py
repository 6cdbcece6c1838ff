"""Tillson's T3 moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_7, Definition, Output, Rule, real, window
from compute.indicators.kernels.chains import cascade_rows, padded_rows
from compute.indicators.kernels.smoothing import ema_weights
from compute.indicators.series import BarSeries

_AXES = ("source", "window", "vfactor")
DEFINITION = Definition(
    indicator_id="ma.t3",
    title="T3 Moving Average",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(window(), real("vfactor", 0.0, 1.0, 0.01, 0.7)),
    axes=_AXES,
    outputs=(Output("value", Rule("compare_price_to_output", price="source"), _AXES),),
    primary="value",
    formula="gd(gd(gd(x))), gd(x) = (1 + v) ema(x, w) - v ema(ema(x, w), w), v = vfactor.",
    reference="Tim Tillson, Stocks & Commodities, 1998.",
    recursive=True,
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    v = params["vfactor"]
    none = np.zeros(v.size)
    # The six averages gd(gd(gd(x))) consists of, by the powers of (1 + v) and -v.
    factors = (none, none, (1 + v) ** 3, -3 * v * (1 + v) ** 2, 3 * v**2 * (1 + v), -(v**3))
    weights = ema_weights(params["window"])
    padded, x, spans = padded_rows(np.stack(factors)), series.wide(source), series.spans(source)
    cascade_rows(len(factors), x, spans, weights, padded, out, carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    def ema(values: NDArray[np.float64]) -> NDArray[np.float64]:
        smooth, last = np.full(values.size, np.nan), math.nan
        for t, x in enumerate(values):
            last = x if math.isnan(last) else alpha * x + (1 - alpha) * last
            smooth[t] = last
        return smooth

    def generalised(values: NDArray[np.float64]) -> NDArray[np.float64]:
        once = ema(values)
        return (1 + v) * once - v * ema(once)

    alpha, v = 2 / (params["window"] + 1), params["vfactor"]
    return {"value": generalised(generalised(generalised(series[params["source"]])))}


def settle(params: Mapping[str, Any]) -> int:
    return 6 * math.ceil(3.5 * (params["window"] + 1))


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
