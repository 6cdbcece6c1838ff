"""Vortex indicator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Rule, RuleParam, Span, window
from compute.indicators.kernels.holes import blank, flat_runs, pin
from compute.indicators.kernels.ranges import true_range
from compute.indicators.kernels.sums import ratio_rows
from compute.indicators.series import BarSeries

_WIDTH = (RuleParam("abs_threshold", "float", Span(0.0, 0.3, 0.02)),)
DEFINITION = Definition(
    indicator_id="trend.vortex",
    title="Vortex Indicator",
    group="trend",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(
        Output("vi_plus", Rule("threshold_centered", _WIDTH), ("window",)),
        Output("vi_minus", Rule("threshold_centered", _WIDTH, inverted=True), ("window",)),
    ),
    primary="vi_plus",
    formula="Sums of |h - l1| (plus) or |l - h1| (minus) over sums of the true range.",
    reference="Etienne Botes and Douglas Siepman, Stocks & Commodities, 2010.",
)


def _movement(series: BarSeries, output: str) -> NDArray[np.float64]:
    """|h - previous l| or |l - previous h|, f8[T]; NaN on the first bar."""
    head, tail = ("high", "low") if output == "vi_plus" else ("low", "high")
    moved = np.full(len(series), np.nan)
    moved[1:] = np.abs(series.wide(head)[1:] - series.wide(tail)[:-1])
    return moved


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    movement = series.derived(f"vortex:{output}", lambda: _movement(series, output))
    ranges = true_range(series)
    holes = series.derived(
        f"holes:vortex:{output}", lambda: np.flatnonzero(np.isnan(movement) | np.isnan(ranges))
    )
    ratio_rows(movement, ranges, series.first_bar, windows, out)
    still = flat_runs(ranges, int(windows.min()), level=0.0)
    pin(out, still, np.full(len(still), np.float32(np.nan)), windows)
    blank(out, holes, windows, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, w = series["high"], series["low"], series["close"], params["window"]
    size = high.size
    ranges, plus, minus = (np.full(size, np.nan) for _ in range(3))
    for t in range(size):
        ranges[t] = high[t] - low[t]
        if t > 0:
            plus[t], minus[t] = abs(high[t] - low[t - 1]), abs(low[t] - high[t - 1])
            if not np.isnan(close[t - 1]):
                reach = (ranges[t], abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
                ranges[t] = np.max(reach)
    out = {"vi_plus": np.full(size, np.nan), "vi_minus": np.full(size, np.nan)}
    for t in range(w - 1, size):
        span = slice(t - w + 1, t + 1)
        total = np.sum(ranges[span])
        if total != 0:
            out["vi_plus"][t] = np.sum(plus[span]) / total
            out["vi_minus"][t] = np.sum(minus[span]) / total
    return out


def settle(params: Mapping[str, Any]) -> int:
    return params["window"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"]
