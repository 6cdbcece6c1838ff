"""Rate of change of a triple exponential average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_6, Definition, Output, Rule, window
from compute.indicators.kernels.chains import own_lanes
from compute.indicators.kernels.smoothing import LANES, TILE, ema_weights
from compute.indicators.series import BarSeries
from compute.jit import kernel

_ALL = ("signal_window", "source", "window")
DEFINITION = Definition(
    indicator_id="momentum.trix",
    title="TRIX",
    group="momentum",
    inputs=(),
    sources=SOURCES_6,
    params=(window("signal_window", 9), window(default=15)),
    axes=_ALL,
    outputs=(
        Output("trix", Rule("sign"), ("source", "window")),
        Output("signal", Rule("sign"), _ALL),
        Output("hist", Rule("sign"), _ALL),
    ),
    primary="trix",
    formula="100 (e / e1 - 1), e = ema(ema(ema(x, w), w), w); signal is its ema, hist the"
    " difference of the two.",
    reference="Jack Hutson, Technical Analysis of Stocks & Commodities, 1983.",
    recursive=True,
)
_TRIX, _SIGNAL, _HIST = 0, 1, 2


@kernel
def _growth(smooth, last, count, change):
    """Fill `change` f8[8, TILE] with the growth of each row in percent; `last` f8[8] carries."""
    for g in range(LANES):
        before, now, row = last[g], smooth[g], change[g]
        for k in range(count):
            row[k] = 100.0 * (now[k] - before) / before if before != 0.0 else np.nan
            before = now[k]
        last[g] = before


@kernel
def _trix(x, weights, signal_weights, form, out):
    rows, bars = out.shape
    smooth, change, signal = (
        np.empty((LANES, TILE)),
        np.empty((LANES, TILE)),
        np.empty((LANES, TILE)),
    )
    state = np.empty((5, LANES))
    for group in range(0, rows, LANES):
        state[:] = np.nan
        weight = weights[group : group + LANES]
        for begin in range(0, bars, TILE):
            count = min(TILE, bars - begin)
            smooth[:, :count] = x[begin : begin + count]
            for i in range(3):
                own_lanes(smooth, count, weight, 1.0 - weight, state[i])
            _growth(smooth, state[3], count, change)
            if form != _TRIX:
                signal[:, :count] = change[:, :count]
                slow = signal_weights[group : group + LANES]
                own_lanes(signal, count, slow, 1.0 - slow, state[4])
            for g in range(min(LANES, rows - group)):
                row = out[group + g, begin : begin + count]
                if form == _TRIX:
                    row[:] = change[g, :count]
                elif form == _SIGNAL:
                    row[:] = signal[g, :count]
                else:
                    for k in range(count):
                        row[k] = change[g, k] - signal[g, k]


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    form = {"trix": _TRIX, "signal": _SIGNAL, "hist": _HIST}[output]
    _trix(
        series.wide(source),
        ema_weights(params["window"]),
        ema_weights(params["signal_window"]),
        form,
        out,
    )


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    def ema(values: NDArray[np.float64], w: int) -> NDArray[np.float64]:
        smooth, last = np.full(values.size, np.nan), math.nan
        for t, x in enumerate(values):
            last = x if math.isnan(last) else 2 / (w + 1) * x + (1 - 2 / (w + 1)) * last
            smooth[t] = last
        return smooth

    w = params["window"]
    smooth = ema(ema(ema(series[params["source"]], w), w), w)
    trix = np.full(smooth.size, np.nan)
    for t in range(1, smooth.size):
        if smooth[t - 1] != 0:
            trix[t] = 100 * (smooth[t] / smooth[t - 1] - 1)
    signal = ema(trix, params["signal_window"])
    return {"trix": trix, "signal": signal, "hist": trix - signal}


def settle(params: Mapping[str, Any]) -> int:
    return (
        3 * math.ceil(3.5 * (params["window"] + 1))
        + math.ceil(3.5 * (params["signal_window"] + 1))
        + 1
    )


def first(params: Mapping[str, Any], output: str) -> int:
    return 1
