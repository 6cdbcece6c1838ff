"""Triple exponential moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_7, Definition, Output, Rule, window
from compute.indicators.kernels.chains import cascade_rows
from compute.indicators.kernels.smoothing import ema_weights
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="ma.tema",
    title="Triple Exponential Moving Average",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(window(),),
    axes=("source", "window"),
    outputs=(
        Output("value", Rule("compare_price_to_output", price="source"), ("source", "window")),
    ),
    primary="value",
    formula="3 e1 - 3 e2 + e3, e1 = ema(x, w), e2 = ema(e1, w), e3 = ema(e2, w).",
    reference="Patrick Mulloy, Stocks & Commodities, 1994.",
    recursive=True,
)
_FACTORS = (3.0, -3.0, 1.0)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    weights = ema_weights(params["window"])
    factors = np.outer(_FACTORS, np.ones(weights.size))
    x, spans = series.wide(source), series.spans(source)
    cascade_rows(len(_FACTORS), x, spans, weights, factors, out, carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    alpha = 2 / (params["window"] + 1)
    value = np.full(series["close"].size, np.nan)
    e1 = e2 = e3 = math.nan
    for t, x in enumerate(series[params["source"]]):
        e1 = x if math.isnan(e1) else alpha * x + (1 - alpha) * e1
        e2 = e1 if math.isnan(e2) else alpha * e1 + (1 - alpha) * e2
        e3 = e2 if math.isnan(e3) else alpha * e2 + (1 - alpha) * e3
        value[t] = 3 * e1 - 3 * e2 + e3
    return {"value": value}


def settle(params: Mapping[str, Any]) -> int:
    return 3 * math.ceil(3.5 * (params["window"] + 1))


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
