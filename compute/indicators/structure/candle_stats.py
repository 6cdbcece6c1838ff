"""Body and wicks of each candle."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import (
    Definition,
    Output,
    Rule,
    RuleParam,
    Span,
    delta_rule,
)
from compute.indicators.series import BarSeries

_PARTS = ("body", "range", "upper_wick", "lower_wick")
_BODY = Rule("candle_body_direction", (RuleParam("min_body_pct", "float", Span(0.3, 0.9, 0.1)),))
DEFINITION = Definition(
    indicator_id="structure.candle_stats",
    title="Candle Body and Wicks",
    group="structure",
    inputs=("open", "high", "low", "close"),
    sources=(),
    params=(),
    axes=(),
    outputs=(
        *(Output(name, delta_rule(), ()) for name in _PARTS),
        Output("body_pct", _BODY, ()),
        Output("upper_wick_pct", delta_rule(), ()),
        Output("lower_wick_pct", delta_rule(), ()),
    ),
    primary="body_pct",
    formula="Parts of the candle in price, and as fractions of its range (0 to 1).",
    reference="Textbook.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    opened, closed = series.wide("open"), series.wide("close")
    high, low = series.wide("high"), series.wide("low")
    reach = high - low
    part = output.removesuffix("_pct")
    if part == "body":
        value = np.abs(closed - opened)
    elif part == "upper_wick":
        value = high - np.maximum(opened, closed)
    elif part == "lower_wick":
        value = np.minimum(opened, closed) - low
    else:
        value = reach
    if part != output:
        with np.errstate(divide="ignore", invalid="ignore"):
            value = np.where(reach == 0.0, np.nan, value / reach)
    out[:] = value
    out[:, series.holes("open", "high", "low", "close")] = np.nan


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    size = series["close"].size
    out = {item.name: np.full(size, np.nan) for item in DEFINITION.outputs}
    for t in range(size):
        opened, high, low, closed = (series[name][t] for name in DEFINITION.inputs)
        if np.isnan(opened + high + low + closed):
            continue
        parts = {
            "body": abs(closed - opened),
            "range": high - low,
            "upper_wick": high - max(opened, closed),
            "lower_wick": min(opened, closed) - low,
        }
        for name, part in parts.items():
            out[name][t] = part
            if name != "range" and high != low:
                out[f"{name}_pct"][t] = part / (high - low)
    return out


def settle(params: Mapping[str, Any]) -> int:
    return 0


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
