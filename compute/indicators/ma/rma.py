"""Wilder's smoothed moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_7, Definition, Output, Rule, window
from compute.indicators.kernels.smoothing import rma_weights, smooth_rows
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="ma.rma",
    title="RMA (SMMA)",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(window(),),
    axes=("source", "window"),
    outputs=(
        Output("value", Rule("compare_price_to_output", price="source"), ("source", "window")),
    ),
    primary="value",
    formula="y = a x + (1 - a) y, a = 1 / w, seeded with the first value after a hole.",
    reference="J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.",
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
    smooth_rows(
        series.wide(source), series.spans(source), rma_weights(params["window"]), out, carry
    )


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    value = x.copy()
    for t in range(1, x.size):
        if not math.isnan(x[t]) and not math.isnan(value[t - 1]):
            value[t] = value[t - 1] + (x[t] - value[t - 1]) / w
    return {"value": value}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["window"])


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
