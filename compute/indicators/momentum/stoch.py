"""Stochastic oscillator."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Span, band_rule, window
from compute.indicators.kernels.extremes import PLACE, channel_rows
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.sums import window_means
from compute.indicators.series import BarSeries

_BAND = band_rule("int", Span(5, 30, 5), Span(70, 95, 5))
DEFINITION = Definition(
    indicator_id="momentum.stoch",
    title="Stochastic Oscillator",
    group="momentum",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window("k_window", 14), window("smoothing", 3), window("d_window", 3)),
    axes=("d_window", "k_window", "smoothing"),
    outputs=(
        Output("k", _BAND, ("k_window", "smoothing")),
        Output("d", _BAND, ("d_window", "k_window", "smoothing")),
    ),
    primary="k",
    formula="100 (c - low) / (high - low) over k_window bars, averaged (k), averaged again (d).",
    reference="George Lane, 1950s.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    k_windows, smoothing, d_windows = params["k_window"], params["smoothing"], params["d_window"]
    bars, first_bar = len(series), series.first_bar
    holes = series.holes("high", "low", "close")
    place, sums, line = np.empty((1, bars)), np.empty(bars), np.empty(bars)
    counts, only = np.empty(bars, np.int64), np.array([0])
    for k_window in np.unique(k_windows):
        width = np.array([k_window])
        channel_rows(series.high, series.low, series.close, width, only, PLACE, place)
        blank(place, holes, width - 1, width)
        for r in np.flatnonzero(k_windows == k_window):
            if output == "k":
                window_means(place[0], first_bar, smoothing[r], sums, counts, out[r])
            else:
                window_means(place[0], first_bar, smoothing[r], sums, counts, line)
                window_means(line, first_bar, d_windows[r], sums, counts, out[r])


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close = series["high"], series["low"], series["close"]

    def average(values: NDArray[np.float64], w: int) -> NDArray[np.float64]:
        means = np.full(values.size, np.nan)
        for t in range(w - 1, values.size):
            means[t] = np.mean(values[t - w + 1 : t + 1])
        return means

    place = np.full(close.size, np.nan)
    for t in range(params["k_window"] - 1, close.size):
        span = slice(t - params["k_window"] + 1, t + 1)
        top, bottom = np.max(high[span]), np.min(low[span])
        if top != bottom and not np.isnan(np.sum(close[span])):
            place[t] = 100 * (close[t] - bottom) / (top - bottom)
    k = average(place, params["smoothing"])
    return {"k": k, "d": average(k, params["d_window"])}


def settle(params: Mapping[str, Any]) -> int:
    return params["k_window"] + params["smoothing"] + params["d_window"] - 3


def first(params: Mapping[str, Any], output: str) -> int:
    full = params["k_window"] + params["smoothing"] - 2
    return full + params["d_window"] - 1 if output == "d" else full
