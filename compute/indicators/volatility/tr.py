"""True range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, delta_rule
from compute.indicators.kernels.ranges import fill_true_range
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="volatility.tr",
    title="True Range",
    group="volatility",
    inputs=("high", "low", "close"),
    sources=(),
    params=(),
    axes=(),
    outputs=(Output("tr", delta_rule(), ()),),
    primary="tr",
    formula="max(h - l, |h - c1|, |l - c1|), h - l where the previous close is missing.",
    reference="J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    for row in out:
        fill_true_range(series.high, series.low, series.close, row)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close = series["high"], series["low"], series["close"]
    value = high - low
    for t in range(1, high.size):
        if not np.isnan(close[t - 1]) and not np.isnan(value[t]):
            value[t] = max(value[t], abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
    return {"tr": value}


def settle(params: Mapping[str, Any]) -> int:
    return 1


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
