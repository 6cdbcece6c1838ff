"""Rogers and Satchell's range volatility."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, delta_rule, window
from compute.indicators.kernels.ranges import root_mean_rows
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="volatility.rogers_satchell",
    title="Rogers-Satchell Volatility",
    group="volatility",
    inputs=("open", "high", "low", "close"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(Output("rogers_satchell", delta_rule(), ("window",)),),
    primary="rogers_satchell",
    formula="100 sqrt(mean(ln(h / c) ln(h / o) + ln(l / c) ln(l / o), w)), in percent a bar; a"
    " negative mean counts as 0.",
    reference="Chris Rogers and Stephen Satchell, Annals of Applied Probability, 1991.",
)


def drift_free(series: BarSeries) -> NDArray[np.float64]:
    """What each bar adds, f8[T]."""

    def build() -> NDArray[np.float64]:
        opened, high, low, close = (series.wide(name) for name in DEFINITION.inputs)
        above = np.log(high / close) * np.log(high / opened)
        return above + np.log(low / close) * np.log(low / opened)

    return series.derived("rogers_satchell", build)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    root_mean_rows(drift_free(series), series.first_bar, params["window"], 100.0, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    opened, high, low, close = (series[name] for name in DEFINITION.inputs)
    w, value = params["window"], np.full(high.size, np.nan)
    for t in range(w - 1, high.size):
        total = 0.0
        for i in range(t - w + 1, t + 1):
            total += math.log(high[i] / close[i]) * math.log(high[i] / opened[i])
            total += math.log(low[i] / close[i]) * math.log(low[i] / opened[i])
        value[t] = 100 * np.sqrt(np.maximum(total, 0.0) / w)
    return {"rogers_satchell": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
