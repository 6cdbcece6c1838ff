"""Donchian channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.extremes import LOWER, MIDDLE, UPPER, channel_rows
from compute.indicators.kernels.holes import blank
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="trend.donchian",
    title="Donchian Channel",
    group="trend",
    inputs=("high", "low"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(
        Output("donchian_upper", Rule("compare_price_to_output"), ("window",)),
        Output("donchian_lower", Rule("compare_price_to_output"), ("window",)),
        Output("donchian_mid", Rule("compare_price_to_output"), ("window",)),
    ),
    primary="donchian_mid",
    formula="Highest high, lowest low and their mean over the last w bars, this one included.",
    reference="Richard Donchian, 1960s.",
)
_FORMS = {"donchian_upper": UPPER, "donchian_lower": LOWER, "donchian_mid": MIDDLE}


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    order = np.argsort(windows, kind="stable")
    channel_rows(series.high, series.low, series.high, windows, order, _FORMS[output], out)
    blank(out, series.holes("high", "low"), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, w = series["high"], series["low"], params["window"]
    upper, lower = np.full(high.size, np.nan), np.full(high.size, np.nan)
    for t in range(w - 1, high.size):
        upper[t] = np.max(high[t - w + 1 : t + 1])
        lower[t] = np.min(low[t - w + 1 : t + 1])
    middle = (upper + lower) / 2
    hole = np.isnan(middle)
    upper[hole] = lower[hole] = np.nan
    return {"donchian_upper": upper, "donchian_lower": lower, "donchian_mid": middle}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
