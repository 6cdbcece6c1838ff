"""Stochastic oscillator of the relative strength index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_6, Definition, Output, Span, band_rule, window
from compute.indicators.kernels.extremes import PLACE, channel_rows
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.smoothing import rma_weights
from compute.indicators.kernels.strength import moves, strength_rows
from compute.indicators.kernels.sums import window_means
from compute.indicators.series import BarSeries, frozen

_BAND = band_rule("int", Span(5, 30, 5), Span(70, 95, 5))
_ALL = ("d_window", "k_window", "rsi_window", "smoothing", "source")
DEFINITION = Definition(
    indicator_id="momentum.stoch_rsi",
    title="Stochastic RSI",
    group="momentum",
    inputs=(),
    sources=SOURCES_6,
    params=(
        window("d_window", 3),
        window("k_window", 14),
        window("rsi_window", 14),
        window("smoothing", 3),
    ),
    axes=_ALL,
    outputs=(Output("k", _BAND, _ALL[1:]), Output("d", _BAND, _ALL)),
    primary="k",
    formula="100 (r - lowest r) / (highest r - lowest r) over k_window bars, averaged (k), averaged"
    " again (d); r is the RSI over rsi_window in float32, so that a resting market has no place.",
    reference="Tushar Chande and Stanley Kroll, The New Technical Trader, 1994.",
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
    # The windows read relative strengths of bars before the first one.
    names = ("k_window", "smoothing", "d_window") if carry else ()
    tail = sum(int(params[name].max()) for name in names)
    only, carry, new = np.array([0]), carry or Carry(), out.shape[1]
    bars, first_bar = tail + new, series.first_bar + len(series) - new - tail
    gain, loss, spans = moves(series, source, 1)
    strength = np.empty((1, bars), np.float32)
    place, sums, line = np.empty((1, bars)), np.empty(bars), np.empty(bars)
    counts = np.empty(bars, np.int64)
    pairs = np.stack((params["rsi_window"], params["k_window"]), axis=1)
    for rsi_window in np.unique(pairs[:, 0]):
        before, name = carry.state(f"tail:{rsi_window}", tail), f"moves:{rsi_window}"
        strength[0, :tail] = before
        weights, fresh = rma_weights(np.array([rsi_window])), strength[:, tail:]
        strength_rows(gain, loss, spans, weights, fresh, carry, name)
        before[:] = strength[0, new:]
        holes = np.flatnonzero(np.isnan(strength[0]))
        r = frozen(strength[0])
        for k_window in np.unique(pairs[pairs[:, 0] == rsi_window, 1]):
            width = np.array([k_window])
            channel_rows(r, r, r, width, only, PLACE, place)
            blank(place, holes, width - 1, width)
            for at in np.flatnonzero(np.all(pairs == (rsi_window, k_window), axis=1)):
                row = out[at] if output == "k" else line
                window_means(place[0], first_bar, params["smoothing"][at], sums, counts, row)
                if output == "d":
                    window_means(line, first_bar, params["d_window"][at], sums, counts, out[at])


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    def average(values: NDArray[np.float64], w: int) -> NDArray[np.float64]:
        means = np.full(values.size, np.nan)
        for t in range(w - 1, values.size):
            means[t] = np.mean(values[t - w + 1 : t + 1])
        return means

    x, w = series[params["source"]], params["rsi_window"]
    rsi = np.full(x.size, np.nan)
    gain = loss = math.nan
    for t in range(1, x.size):
        rise, fall = np.maximum(x[t] - x[t - 1], 0), np.maximum(x[t - 1] - x[t], 0)
        gain = rise if math.isnan(gain) else rise / w + (1 - 1 / w) * gain
        loss = fall if math.isnan(loss) else fall / w + (1 - 1 / w) * loss
        if gain + loss > 0:
            rsi[t] = np.float32(100 * gain / (gain + loss))
    place = np.full(x.size, np.nan)
    for t in range(params["k_window"] - 1, x.size):
        inside = rsi[t - params["k_window"] + 1 : t + 1]
        top, bottom = np.max(inside), np.min(inside)
        if top != bottom:
            place[t] = 100 * (rsi[t] - bottom) / (top - bottom)
    k = average(place, params["smoothing"])
    return {"k": k, "d": average(k, params["d_window"])}


def settle(params: Mapping[str, Any]) -> int:
    return (
        math.ceil(6.9 * params["rsi_window"])
        + params["k_window"]
        + params["smoothing"]
        + params["d_window"]
    )


def first(params: Mapping[str, Any], output: str) -> int:
    return (
        params["k_window"]
        + params["smoothing"]
        - 1
        + (params["d_window"] - 1 if output == "d" else 0)
    )
