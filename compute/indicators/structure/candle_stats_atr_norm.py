"""Body and wicks of each candle in average true ranges."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import (
    Definition,
    Output,
    Rule,
    RuleParam,
    Span,
    delta_rule,
    window,
)
from compute.indicators.kernels.ranges import true_range
from compute.indicators.kernels.smoothing import rma_weights, smooth_rows
from compute.indicators.series import BarSeries
from compute.indicators.structure.candle_stats import candle_part
from compute.jit import kernel

_AXES = ("atr_window",)
_BODY = Rule("candle_body_direction", (RuleParam("min_body_atr", "float", Span(0.5, 2.0, 0.25)),))
DEFINITION = Definition(
    indicator_id="structure.candle_stats_atr_norm",
    title="ATR-Normalized Candle Stats",
    group="structure",
    inputs=("open", "high", "low", "close"),
    sources=(),
    params=(window("atr_window", 14),),
    axes=_AXES,
    outputs=(
        Output("body_atr", _BODY, _AXES),
        Output("range_atr", delta_rule(), _AXES),
        Output("upper_wick_atr", delta_rule(), _AXES),
        Output("lower_wick_atr", delta_rule(), _AXES),
    ),
    primary="body_atr",
    formula="Parts of the candle (body, range, wicks) / atr(w), the true range smoothed with weight"
    " 1 / w; the atr is rounded to float32 first.",
    reference="Textbook; average true range of J. Welles Wilder, 1978.",
    recursive=True,
)


@kernel
def _divide(parts, out):
    """Replace the units in `out` f4[R, T] by `parts` f8[T] measured in them."""
    for r in range(out.shape[0]):
        row = out[r]
        for t in range(parts.size):
            unit = np.float64(row[t])
            row[t] = parts[t] / unit if unit != 0.0 else np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    weights = rma_weights(params["atr_window"])
    smooth_rows(true_range(series), series.spans("high", "low"), weights, out, carry)
    parts = candle_part(series, output.removesuffix("_atr"))
    _divide(parts[len(series) - out.shape[1] :], out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    w, size = params["atr_window"], series["close"].size
    out = {item.name: np.full(size, np.nan) for item in DEFINITION.outputs}
    atr = before = math.nan
    for t in range(size):
        opened, high, low, close = (series[name][t] for name in DEFINITION.inputs)
        reach = high - low
        if not math.isnan(before):
            reach = max(reach, abs(high - before), abs(low - before))
        before = close
        atr = reach if math.isnan(atr) else reach / w + (1 - 1 / w) * atr
        unit = float(np.float32(atr))
        if unit == 0.0 or math.isnan(opened + close):
            continue
        out["body_atr"][t] = abs(close - opened) / unit
        out["range_atr"][t] = (high - low) / unit
        out["upper_wick_atr"][t] = (high - max(opened, close)) / unit
        out["lower_wick_atr"][t] = (min(opened, close) - low) / unit
    return out


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["atr_window"])


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
