"""Volume-weighted price of a window."""

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
    indicator_id="volume.vwap",
    title="Rolling VWAP",
    group="volume",
    inputs=("high", "low", "close", "volume"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(Output("vwap", Rule("compare_price_to_output"), ("window",)),),
    primary="vwap",
    formula="sum(TP v) / sum(v) over w bars, TP = (h + l + c) / 3.",
    reference="Volume-weighted price of Berkowitz, Logue and Noser, 1988, over a rolling window.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows, volume = params["window"], series.wide("volume")
    high, low, close = (series.wide(name) for name in ("high", "low", "close"))
    turnover = series.derived("turnover", lambda: (high + low + close) / 3.0 * volume)
    ratio_rows(turnover, volume, series.first_bar, windows, out)
    silent = flat_runs(volume, int(windows.min()), 0.0)
    pin(out, silent, np.full(len(silent), np.nan, np.float32), windows)
    blank(out, series.holes(*DEFINITION.inputs), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, volume = (series[name] for name in DEFINITION.inputs)
    w, typical = params["window"], (high + low + close) / 3
    value = np.full(close.size, np.nan)
    for t in range(w - 1, close.size):
        inside = slice(t - w + 1, t + 1)
        total = np.sum(volume[inside])
        if total != 0.0:
            value[t] = np.sum(typical[inside] * volume[inside]) / total
    return {"vwap": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
