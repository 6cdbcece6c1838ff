"""Distance of the price from its exponential average in average true ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_6, Definition, Output, Span, band_rule, window
from compute.indicators.kernels.chains import own_lanes
from compute.indicators.kernels.ranges import true_range
from compute.indicators.kernels.smoothing import LANES, TILE, ema_weights, rma_weights
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("source", "window")
DEFINITION = Definition(
    indicator_id="structure.distance_to_ma_norm",
    title="Distance to EMA in ATR Units",
    group="structure",
    inputs=("high", "low", "close"),
    sources=SOURCES_6,
    params=(window(),),
    axes=_AXES,
    outputs=(
        Output(
            "distance_to_ma_norm",
            band_rule("float", Span(-3, -0.5, 0.25), Span(0.5, 3, 0.25)),
            _AXES,
        ),
    ),
    primary="distance_to_ma_norm",
    formula="(x - ema(x, w)) / atr(w), the true range smoothed with weight 1 / w; the atr is"
    " rounded to float32 first.",
    reference="Textbook.",
    recursive=True,
)


@kernel
def _distances(x, ranges, weights, range_weights, state, out):
    """Row r of `out` f4[R, T] from `x` and true `ranges` f8[T]; weights padded to whole lanes, as
    are the averages of both before the first bar, `state` f8[2, n]."""
    rows, bars = out.shape
    keeps, range_keeps = 1.0 - weights, 1.0 - range_weights
    mean, reach = np.empty((LANES, TILE)), np.empty((LANES, TILE))
    for group in range(0, rows, LANES):
        lane = slice(group, group + LANES)
        mean_state, reach_state = state[0, lane], state[1, lane]
        for begin in range(0, bars, TILE):
            count = min(TILE, bars - begin)
            values = x[begin : begin + count]
            mean[:, :count] = values
            reach[:, :count] = ranges[begin : begin + count]
            own_lanes(mean, count, weights[lane], keeps[lane], mean_state)
            own_lanes(reach, count, range_weights[lane], range_keeps[lane], reach_state)
            for g in range(min(LANES, rows - group)):
                row = out[group + g, begin : begin + count]
                means, reaches = mean[g], reach[g]
                for k in range(count):
                    unit = np.float64(np.float32(reaches[k]))
                    row[k] = (values[k] - means[k]) / unit if unit != 0.0 else np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    first, weights = len(series) - out.shape[1], ema_weights(params["window"])
    x, ranges = series.wide(source)[first:], true_range(series)[first:]
    state = (carry or Carry()).state("averages", 2, weights.size)
    _distances(x, ranges, weights, rma_weights(params["window"]), state, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close = (series[name] for name in DEFINITION.inputs)
    x, w = series[params["source"]], params["window"]
    value = np.full(x.size, np.nan)
    mean = atr = before = math.nan
    for t in range(x.size):
        mean = x[t] if math.isnan(mean) else 2 / (w + 1) * x[t] + (1 - 2 / (w + 1)) * mean
        reach = high[t] - low[t]
        if not math.isnan(before):
            reach = max(reach, abs(high[t] - before), abs(low[t] - before))
        before = close[t]
        atr = reach if math.isnan(atr) else 1 / w * reach + (1 - 1 / w) * atr
        unit = float(np.float32(atr))
        if unit != 0.0:
            value[t] = (x[t] - mean) / unit
    return {"distance_to_ma_norm": value}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["window"])


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
