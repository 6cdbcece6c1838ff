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
from compute.jit import kernel

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


@kernel
def _fill_part(opened, high, low, closed, part, share, out):
    """Fill `out` [T] with `part` (index of `_PARTS`), as a fraction of the range for `share`."""
    for t in range(out.size):
        start, end = np.float64(opened[t]), np.float64(closed[t])
        top, bottom = np.float64(high[t]), np.float64(low[t])
        upper = end if end > start else start
        lower = start if end > start else end
        reach = top - bottom
        if part == 0:
            value = upper - lower
        elif part == 1:
            value = reach
        elif part == 2:
            value = top - upper
        else:
            value = lower - bottom
        if share:
            value = value / reach if reach != 0.0 else np.nan
        known = start + end + reach
        out[t] = value if known == known else np.nan


def candle_part(series: BarSeries, name: str) -> NDArray[np.float64]:
    """Body, range or a wick of each candle f8[T]."""

    def build() -> NDArray[np.float64]:
        out = np.empty(len(series))
        columns = series.open, series.high, series.low, series.close
        _fill_part(*columns, _PARTS.index(name), False, out)
        return out

    return series.derived(f"part:{name}", build)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    name = output.removesuffix("_pct")
    columns = series.open, series.high, series.low, series.close
    for row in out:
        _fill_part(*columns, _PARTS.index(name), name != output, row)


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
