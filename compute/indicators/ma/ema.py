"""Exponential moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_7, Definition, Output, Rule, window
from compute.indicators.kernels.smoothing import ema_weights, smooth_rows
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="ma.ema",
    title="Exponential Moving Average",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(window(),),
    axes=("source", "window"),
    outputs=(
        Output("value", Rule("compare_price_to_output", price="source"), ("source", "window")),
    ),
    primary="value",
    formula="y = a x + (1 - a) y, a = 2 / (w + 1), seeded with the first value after a hole.",
    reference="Exponential smoothing, Brown 1956.",
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
    weights = ema_weights(params["window"])
    smooth_rows(series.wide(source), series.spans(source), weights, out, carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    alpha = 2 / (params["window"] + 1)
    value = np.full(series["close"].size, np.nan)
    last = math.nan
    for t, x in enumerate(series[params["source"]]):
        if math.isnan(x):
            last = math.nan
        else:
            last = x if math.isnan(last) else alpha * x + (1 - alpha) * last
        value[t] = last
    return {"value": value}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(3.5 * (params["window"] + 1))


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
