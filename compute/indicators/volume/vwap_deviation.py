"""Rolling volume-weighted price with deviation bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import (
    Definition,
    Output,
    Rule,
    delta_rule,
    multiplier,
    window,
)
from compute.indicators.kernels.sums import valid_counts, window_sums
from compute.indicators.series import BarSeries
from compute.jit import kernel

_BAND = Rule("compare_price_to_output", inverted=True)
DEFINITION = Definition(
    indicator_id="volume.vwap_deviation",
    title="Rolling VWAP Deviation Bands",
    group="volume",
    inputs=("high", "low", "close", "volume"),
    sources=(),
    params=(multiplier(), window()),
    axes=("mult", "window"),
    outputs=(
        Output("vwap", Rule("compare_price_to_output"), ("window",)),
        Output("vwap_upper", _BAND, ("mult", "window")),
        Output("vwap_lower", _BAND, ("mult", "window")),
        Output("vwap_stdev", delta_rule(), ("window",)),
    ),
    primary="vwap_upper",
    formula="sum(TP v) / sum(v) over w bars, ± mult · std of TP minus each bar's own value.",
    reference="Volume-weighted price of Berkowitz, Logue and Noser, 1988, over a rolling window.",
)


@kernel
def _weighted(typical, flow, volume, first_bar, w, sums, counts, out):
    """Fill `out` f8[T] with the volume-weighted price; NaN where the window has no volume."""
    window_sums(flow, first_bar, w, out)
    window_sums(volume, first_bar, w, sums)
    valid_counts(flow, counts)
    for t in range(out.size):
        full = counts[t] >= w and sums[t] != 0.0
        out[t] = out[t] / sums[t] if full else np.nan


@kernel
def _deviation(typical, centre, first_bar, w, apart, sums, squares, counts):
    """Fill `squares` f8[T] with the deviation of `typical` from `centre` over the window."""
    for t in range(typical.size):
        apart[t] = typical[t] - centre[t]
    valid_counts(apart, counts)
    window_sums(apart, first_bar, w, sums)
    for t in range(typical.size):
        apart[t] *= apart[t]
    window_sums(apart, first_bar, w, squares)
    for t in range(typical.size):
        mean = sums[t] / w
        spread = max(squares[t] / w - mean * mean, 0.0)
        squares[t] = np.sqrt(spread) if counts[t] >= w else np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows, mults, bars = params["window"], params["mult"], len(series)
    high, low, close, volume = (series.wide(name) for name in DEFINITION.inputs)
    typical = series.derived("typical", lambda: (high + low + close) / 3.0)
    flow = series.derived("flow", lambda: typical * volume)
    centre, deviation, apart, sums = (np.empty(bars) for _ in range(4))
    counts = np.empty(bars, np.int64)
    side = {"vwap": 0.0, "vwap_stdev": 0.0, "vwap_upper": 1.0, "vwap_lower": -1.0}[output]
    for w in np.unique(windows):
        _weighted(typical, flow, volume, series.first_bar, w, sums, counts, centre)
        if output != "vwap":
            _deviation(typical, centre, series.first_bar, w, apart, sums, deviation, counts)
        for r in np.flatnonzero(windows == w):
            if output == "vwap":
                out[r] = centre
            elif output == "vwap_stdev":
                out[r] = deviation
            else:
                out[r] = centre + side * mults[r] * deviation


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, volume = (series[name] for name in DEFINITION.inputs)
    w, mult = params["window"], params["mult"]
    typical = (high + low + close) / 3
    vwap, std = np.full(close.size, np.nan), np.full(close.size, np.nan)
    for t in range(w - 1, close.size):
        span = slice(t - w + 1, t + 1)
        total = np.sum(volume[span])
        if total != 0:
            vwap[t] = np.sum(typical[span] * volume[span]) / total
    for t in range(w - 1, close.size):
        std[t] = np.std(typical[t - w + 1 : t + 1] - vwap[t - w + 1 : t + 1])
    return {
        "vwap": vwap,
        "vwap_upper": vwap + mult * std,
        "vwap_lower": vwap - mult * std,
        "vwap_stdev": std,
    }


def settle(params: Mapping[str, Any]) -> int:
    return 2 * params["window"] - 2


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1 if output == "vwap" else 2 * params["window"] - 2
