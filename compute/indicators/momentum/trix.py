"""Rate of change of a triple exponential average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_6, Definition, Output, Rule, window
from compute.indicators.kernels.chains import GROWTH, cascade, cascade_rows, own_lanes
from compute.indicators.kernels.smoothing import TILE, ema_weights
from compute.indicators.kernels.sums import copy
from compute.indicators.kernels.vectors import LANES
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


@kernel
def _signal(x, spans, weights, signal_weights, hist, before, out):
    """Row r of `out` f4[R, n], the last n bars of `x` f8[T]: the line smoothed with
    `signal_weights[r]`, or what it is above that; `before` f8[4, m] is the state of the three
    stages and of the signal before them, and then that at their end."""
    rows, first = out.shape[0], x.size - out.shape[1]
    keeps, factors = 1.0 - weights, np.empty((3, weights.size))
    line, smooth, state = np.empty((LANES, TILE)), np.empty((LANES, TILE)), np.empty((3, LANES))
    out[:] = np.nan
    for group in range(0, rows, LANES):
        lane = slice(group, group + LANES)
        weight, keep, slow, last = weights[lane], keeps[lane], signal_weights[lane], before[3, lane]
        state[:] = before[:3, lane]
        for i in range(spans.shape[0]):
            begin = max(spans[i, 0], first)
            if begin >= spans[i, 1]:
                continue
            if begin == spans[i, 0]:
                state[:], last[:] = x[begin], np.nan
                begin += 1
            for at in range(begin, spans[i, 1], TILE):
                count = min(TILE, spans[i, 1] - at)
                cascade(GROWTH, x, at, count, weight, keep, state, factors, line, 0, 0)
                for g in range(LANES):
                    copy(line[g, :count], smooth[g])
                own_lanes(smooth, count, slow, 1.0 - slow, last)
                for g in range(min(LANES, rows - group)):
                    row = out[group + g, at - first : at - first + count]
                    level, slack = line[g], smooth[g]
                    for k in range(count):
                        row[k] = level[k] - slack[k] if hist else slack[k]
        before[:3, lane] = state


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    x, spans, weights = series.wide(source), series.spans(source), ema_weights(params["window"])
    if output == "trix":
        cascade_rows(GROWTH, x, spans, weights, np.zeros((3, weights.size)), out, carry)
    else:
        state, slow = (carry or Carry()).state("lines", 4, weights.size), params["signal_window"]
        _signal(x, spans, weights, ema_weights(slow), output == "hist", state, out)


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
