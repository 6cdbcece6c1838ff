"""Williams' percent range."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Span, band_rule, window
from compute.indicators.kernels.extremes import FALL, channel_rows
from compute.indicators.kernels.holes import blank
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="momentum.williams_r",
    title="Williams %R",
    group="momentum",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window(default=14),),
    axes=("window",),
    outputs=(
        Output("williams_r", band_rule("int", Span(-95, -70, 5), Span(-30, -5, 5)), ("window",)),
    ),
    primary="williams_r",
    formula="-100 (highest high - c) / (highest high - lowest low) over w bars.",
    reference="Larry Williams, How I Made One Million Dollars Last Year Trading Commodities, 1973.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    order = np.argsort(windows, kind="stable")
    channel_rows(series.high, series.low, series.close, windows, order, FALL, out)
    blank(out, series.holes("high", "low", "close"), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, w = series["high"], series["low"], series["close"], params["window"]
    value = np.full(high.size, np.nan)
    for t in range(w - 1, high.size):
        inside = slice(t - w + 1, t + 1)
        top, bottom = np.max(high[inside]), np.min(low[inside])
        if top != bottom and not np.isnan(np.sum(close[inside])):
            value[t] = -100 * (top - close[t]) / (top - bottom)
    return {"williams_r": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
