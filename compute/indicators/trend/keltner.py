"""Keltner channel."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, Rule, multiplier, window
from compute.indicators.kernels.ranges import apart_row, true_range
from compute.indicators.kernels.smoothing import ema_weights, rma_weights, smooth_rows
from compute.indicators.kernels.vectors import LANES
from compute.indicators.series import BarSeries

_AXES = ("window", "mult")
DEFINITION = Definition(
    indicator_id="trend.keltner",
    title="Keltner Channel",
    group="trend",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window(), multiplier()),
    axes=_AXES,
    outputs=(
        Output("middle", Rule("compare_price_to_output"), ("window",)),
        Output("upper", Rule("compare_price_to_output"), _AXES),
        Output("lower", Rule("compare_price_to_output"), _AXES),
    ),
    primary="middle",
    formula="middle = ema((h + l + c) / 3, w); upper, lower = middle ± mult · ATR(w).",
    reference="Chester Keltner, 1960; with ATR by Linda Bradford Raschke, 1980s.",
    recursive=True,
)


def _typical(series: BarSeries) -> NDArray[np.float64]:
    return (series.wide("high") + series.wide("low") + series.wide("close")) / 3.0


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    spans, reaches = series.spans("high", "low", "close"), series.spans("high", "low")
    typical = series.derived("typical", lambda: _typical(series))
    if output == "middle":
        smooth_rows(typical, spans, ema_weights(params["window"]), out, carry)
        return
    carry, bars = carry or Carry(), out.shape[1]
    side = 1.0 if output == "upper" else -1.0
    windows, at = np.unique(params["window"], return_inverse=True)
    for group in range(0, windows.size, LANES):
        part = windows[group : group + LANES]
        middle, reach = np.empty((2, part.size, bars))
        smooth_rows(typical, spans, ema_weights(part), middle, carry, f"middle:{group}")
        smooth_rows(true_range(series), reaches, rma_weights(part), reach, carry, f"reach:{group}")
        for r in np.flatnonzero((at >= group) & (at < group + LANES)):
            apart_row(middle[at[r] - group], reach[at[r] - group], side * params["mult"][r], out[r])


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, w = series["high"], series["low"], series["close"], params["window"]
    middle, atr = np.full(high.size, np.nan), np.full(high.size, np.nan)
    mean = last = math.nan
    for t in range(high.size):
        typical, reach = (high[t] + low[t] + close[t]) / 3, high[t] - low[t]
        if t > 0 and not math.isnan(close[t - 1]) and not math.isnan(reach):
            reach = max(reach, abs(high[t] - close[t - 1]), abs(low[t] - close[t - 1]))
        mean = typical if math.isnan(mean) else 2 / (w + 1) * typical + (1 - 2 / (w + 1)) * mean
        last = reach if math.isnan(last) else reach / w + (1 - 1 / w) * last
        middle[t], atr[t] = mean, last
    apart = params["mult"] * atr
    return {"middle": middle, "upper": middle + apart, "lower": middle - apart}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["window"])


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
