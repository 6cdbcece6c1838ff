"""Average true range."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, delta_rule, window
from compute.indicators.kernels.ranges import true_range
from compute.indicators.kernels.smoothing import rma_weights, smooth_rows
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="volatility.atr",
    title="Average True Range",
    group="volatility",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(Output("atr", delta_rule(), ("window",)),),
    primary="atr",
    formula="True range smoothed with weight 1 / w, seeded with its first value.",
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
    weights = rma_weights(params["window"])
    smooth_rows(true_range(series), series.spans("high", "low"), weights, out, carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close = series["high"], series["low"], series["close"]
    w = params["window"]
    atr = np.full(high.size, np.nan)
    last = math.nan
    for t in range(high.size):
        if math.isnan(high[t]) or math.isnan(low[t]):
            last = math.nan
            continue
        before = close[t - 1] if t > 0 else math.nan
        reach = high[t] - low[t]
        if not math.isnan(before):
            reach = max(reach, abs(high[t] - before), abs(low[t] - before))
        last = reach if math.isnan(last) else reach / w + (1 - 1 / w) * last
        atr[t] = last
    return {"atr": atr}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["window"])


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
