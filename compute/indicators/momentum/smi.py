"""Stochastic momentum index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.chains import twice_smoothed
from compute.indicators.kernels.extremes import LOWER, UPPER, channel_rows
from compute.indicators.kernels.holes import blank
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("window", "smoothing")
_ALL = (*_AXES, "signal_window")
DEFINITION = Definition(
    indicator_id="momentum.smi",
    title="Stochastic Momentum Index",
    group="momentum",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window(default=10), window("smoothing", 3), window("signal_window", 3)),
    axes=_ALL,
    outputs=(
        Output("smi", Rule("sign"), _AXES),
        Output("signal", Rule("sign"), _ALL),
        Output("hist", Rule("sign"), _ALL),
    ),
    primary="smi",
    formula="200 ema(ema(c - m, s), s) / ema(ema(r, s), s), m and r middle and width of the channel"
    " of the highest high and lowest low over w bars, s = smoothing; signal is its ema, hist the"
    " difference of the two.",
    reference="William Blau, Stocks & Commodities, 1993.",
    recursive=True,
)


@kernel
def _distances(top, bottom, close, apart, width):
    """Fill f8[T]: the close from the channel's middle, and half the channel's width."""
    for t in range(close.size):
        high, low = np.float64(top[t]), np.float64(bottom[t])
        apart[t] = np.float64(close[t]) - 0.5 * (high + low)
        width[t] = 0.5 * (high - low) + 0.0 * apart[t]


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    bars, windows, only = len(series), params["window"], np.array([0])
    holes = series.holes("high", "low", "close")
    channel, lines = np.empty((2, bars), np.float32), np.empty((2, bars))
    pairs = np.stack((params["smoothing"],) * 2, axis=1)
    form = {"smi": 0, "signal": 1, "hist": 2}[output]
    carry = carry or Carry()
    for w in np.unique(windows):
        for half, shape in enumerate((UPPER, LOWER)):
            row, width = channel[half : half + 1], np.array([w])
            channel_rows(series.high, series.low, series.close, width, only, shape, row)
            blank(row, holes, width - 1, width)
        _distances(channel[0], channel[1], series.close, lines[0], lines[1])
        chosen = np.flatnonzero(windows == w)
        twice_smoothed(lines[0], lines[1], pairs, params["signal_window"], form, chosen, out, carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    def ema(values: NDArray[np.float64], w: int) -> NDArray[np.float64]:
        smooth, last = np.full(values.size, np.nan), math.nan
        for t, x in enumerate(values):
            last = x if math.isnan(last) else 2 / (w + 1) * x + (1 - 2 / (w + 1)) * last
            smooth[t] = last
        return smooth

    high, low, close, w = series["high"], series["low"], series["close"], params["window"]
    apart, width = np.full(close.size, np.nan), np.full(close.size, np.nan)
    for t in range(w - 1, close.size):
        inside = slice(t - w + 1, t + 1)
        if not np.isnan(np.sum(close[inside])):
            top, bottom = np.max(high[inside]), np.min(low[inside])
            apart[t], width[t] = close[t] - (top + bottom) / 2, top - bottom
    under = ema(ema(width, params["smoothing"]), params["smoothing"])
    over = 200 * ema(ema(apart, params["smoothing"]), params["smoothing"])
    smi = over / np.where(under == 0, np.nan, under)
    signal = ema(smi, params["signal_window"])
    return {"smi": smi, "signal": signal, "hist": smi - signal}


def settle(params: Mapping[str, Any]) -> int:
    return (
        params["window"]
        + 2 * math.ceil(3.5 * (params["smoothing"] + 1))
        + math.ceil(3.5 * (params["signal_window"] + 1))
    )


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
