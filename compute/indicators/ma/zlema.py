"""Zero-lag exponential moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_7, Definition, Output, Rule, window
from compute.indicators.kernels.chains import own_lanes
from compute.indicators.kernels.smoothing import LANES, TILE, ema_weights
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="ma.zlema",
    title="Zero-Lag Exponential Moving Average",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(window(),),
    axes=("source", "window"),
    outputs=(
        Output("value", Rule("compare_price_to_output", price="source"), ("source", "window")),
    ),
    primary="value",
    formula="ema(2 x - x[g bars ago], w), g = floor((w - 1) / 2).",
    reference="John Ehlers and Ric Way, Zero Lag (Well, Almost), 2010.",
    recursive=True,
)


@kernel
def _ahead(x, lags, weights, state, out):
    """Row r of `out` f4[R, n], the last n bars of `x` f8[T]: 2 x - x[lags[r] bars ago], smoothed
    with `weights[r]`; `state` f8[m] is that before them."""
    rows, first = out.shape[0], x.size - out.shape[1]
    keeps, tile = 1.0 - weights, np.empty((LANES, TILE))
    for group in range(0, rows, LANES):
        lane = slice(group, group + LANES)
        weight, keep, last = weights[lane], keeps[lane], state[lane]
        for begin in range(first, x.size, TILE):
            count, at = min(TILE, x.size - begin), begin - first
            for g in range(LANES):
                lag, values = lags[min(group + g, rows - 1)], tile[g]
                skip = min(max(lag - begin, 0), count)
                values[:skip] = np.nan
                now, then = x[begin + skip : begin + count], x[begin + skip - lag :]
                fresh = values[skip:]
                for k in range(count - skip):
                    fresh[k] = 2.0 * now[k] - then[k]
            own_lanes(tile, count, weight, keep, last)
            for g in range(min(LANES, rows - group)):
                row, values = out[group + g, at : at + count], tile[g]
                for k in range(count):
                    row[k] = values[k]


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    windows, weights = params["window"], ema_weights(params["window"])
    state = (carry or Carry()).state("lines", weights.size)
    _ahead(series.wide(source), (windows - 1) // 2, weights, state, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    lag = math.floor((w - 1) / 2)
    value = np.full(x.size, np.nan)
    last = math.nan
    for t in range(lag, x.size):
        ahead = 2 * x[t] - x[t - lag]
        last = ahead if math.isnan(last) else 2 / (w + 1) * ahead + (1 - 2 / (w + 1)) * last
        value[t] = last
    return {"value": value}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(3.5 * (params["window"] + 1)) + (params["window"] - 1) // 2


def first(params: Mapping[str, Any], output: str) -> int:
    return (params["window"] - 1) // 2
