"""Volume-weighted moving average."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.holes import blank, flat_runs, pin
from compute.indicators.kernels.sums import ratio_rows
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="ma.vwma",
    title="Volume Weighted Moving Average",
    group="ma",
    inputs=("close", "volume"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(Output("value", Rule("compare_price_to_output"), ("window",)),),
    primary="value",
    formula="sum(c v) / sum(v) over w bars; nothing where no volume was traded.",
    reference="Buff Dormeier, Stocks & Commodities, 2001.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows, volume = params["window"], series.wide("volume")
    flow = series.derived("close flow", lambda: series.wide("close") * volume)
    ratio_rows(flow, volume, series.first_bar, windows, out)
    silent = flat_runs(series.volume, int(windows.min()), level=0.0)
    pin(out, silent, np.full(len(silent), np.nan, np.float32), windows)
    blank(out, series.holes("close", "volume"), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    close, volume, w = series["close"], series["volume"], params["window"]
    value = np.full(close.size, np.nan)
    for t in range(w - 1, close.size):
        inside = slice(t - w + 1, t + 1)
        if np.sum(volume[inside]) != 0:
            value[t] = np.sum(close[inside] * volume[inside]) / np.sum(volume[inside])
    return {"value": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
