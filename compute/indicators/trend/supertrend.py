"""SuperTrend."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, Rule, multiplier, window
from compute.indicators.kernels.ranges import true_range
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("window", "mult")
DEFINITION = Definition(
    indicator_id="trend.supertrend",
    title="SuperTrend",
    group="trend",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window(), multiplier()),
    axes=_AXES,
    outputs=(
        Output("supertrend", Rule("compare_price_to_output"), _AXES),
        Output("supertrend_dir", Rule("sign"), _AXES),
    ),
    primary="supertrend",
    formula="Ratcheting bands (h + l) / 2 ± mult · ATR(w), flipped by a close beyond one.",
    reference="Olivier Seban, 2000s.",
    recursive=True,
)


@kernel
def _trail(high, low, close, ranges, windows, mults, direction, state, out):
    """One row a setting; `direction` asks for ±1 in place of the active band. `state` f8[5, R]:
    average range, previous close, both bands, and whether the lower one is active."""
    for r in range(out.shape[0]):
        weight, mult, row = 1.0 / windows[r], mults[r], out[r]
        keep = 1.0 - weight
        atr, previous, upper, lower = state[0, r], state[1, r], state[2, r], state[3, r]
        up = state[4, r] == 1.0
        for t in range(close.size):
            reach, price = ranges[t], np.float64(close[t])
            atr = weight * reach + keep * atr if atr == atr else reach
            if reach != reach or price != price:
                previous = np.nan
                row[t] = np.nan
                continue
            middle = 0.5 * (np.float64(high[t]) + np.float64(low[t]))
            top, bottom = middle + mult * atr, middle - mult * atr
            if previous != previous:
                up = price >= middle
                upper, lower = top, bottom
            else:
                # Bitwise, not short-circuit: a branch here is mispredicted every fifth bar.
                upper = top if (top < upper) | (previous > upper) else upper
                lower = bottom if (bottom > lower) | (previous < lower) else lower
                up = (up & (price >= lower)) | ((not up) & (price > upper))
            previous = price
            if direction:
                row[t] = 1.0 if up else -1.0
            else:
                row[t] = lower if up else upper
        state[0, r], state[1, r], state[2, r], state[3, r] = atr, previous, upper, lower
        state[4, r] = 1.0 if up else 0.0


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    first, state = len(series) - out.shape[1], (carry or Carry()).state("trail", 5, len(out))
    columns = (series.high, series.low, series.close, true_range(series))
    high, low, close, ranges = (column[first:] for column in columns)
    direction = output == "supertrend_dir"
    _trail(high, low, close, ranges, params["window"], params["mult"], direction, state, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close = series["high"], series["low"], series["close"]
    w, mult = params["window"], params["mult"]
    line, side = np.full(high.size, np.nan), np.full(high.size, np.nan)
    atr = math.nan
    state: tuple[float, float, int] | None = None
    for t in range(high.size):
        reach = high[t] - low[t]
        if math.isnan(reach):
            atr, state = math.nan, None
            continue
        if t > 0 and not math.isnan(close[t - 1]):
            reach = max(reach, abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
        atr = reach if math.isnan(atr) else reach / w + (1 - 1 / w) * atr
        if math.isnan(close[t]):
            state = None
            continue
        mid = (high[t] + low[t]) / 2
        top, bottom = mid + mult * atr, mid - mult * atr
        if state is None:
            state = (top, bottom, 1 if close[t] >= mid else -1)
        else:
            upper, lower, way = state
            if top < upper or close[t - 1] > upper:
                upper = top
            if bottom > lower or close[t - 1] < lower:
                lower = bottom
            if way == 1 and close[t] < lower:
                way = -1
            elif way == -1 and close[t] > upper:
                way = 1
            state = (upper, lower, way)
        line[t] = state[1] if state[2] == 1 else state[0]
        side[t] = state[2]
    return {"supertrend": line, "supertrend_dir": side}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["window"])


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
