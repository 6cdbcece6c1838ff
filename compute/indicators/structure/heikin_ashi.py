"""Averaged candles."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, Rule
from compute.indicators.series import BarSeries
from compute.jit import kernel

_LINE = Rule("compare_price_to_output")
_NAMES = ("ha_close", "ha_open", "ha_high", "ha_low", "ha_dir")
DEFINITION = Definition(
    indicator_id="structure.heikin_ashi",
    title="Heikin-Ashi Candles",
    group="structure",
    inputs=("open", "high", "low", "close"),
    sources=(),
    params=(),
    axes=(),
    outputs=(
        *(Output(name, _LINE, ()) for name in _NAMES[:4]),
        Output("ha_dir", Rule("sign"), ()),
    ),
    primary="ha_close",
    formula="ha_close = (o + h + l + c) / 4; ha_open = mean of the previous ha_open and ha_close,"
    " (o + c) / 2 on the first bar; ha_high and ha_low = extremes of h or l, ha_open and ha_close;"
    " ha_dir = sign of ha_close - ha_open.",
    reference="Munehisa Homma, 18th century; Dan Valcu, Using the Heikin-Ashi Technique, 2004.",
    recursive=True,
)


@kernel
def _means(opened, high, low, closed, out):
    """Fill `out` f4[T] with the closes, which need no earlier bar."""
    for t in range(out.size):
        start, end = np.float64(opened[t]), np.float64(closed[t])
        out[t] = (start + np.float64(high[t]) + np.float64(low[t]) + end) / 4.0


@kernel
def _candles(opened, high, low, closed, name, middle, out):
    """Fill `out` f4[T] with the series at place `name` of `_NAMES`, from the first ha_open
    `middle` (NaN: a fresh start) on, and return the next one."""
    for t in range(out.size):
        start, end = np.float64(opened[t]), np.float64(closed[t])
        top, bottom = np.float64(high[t]), np.float64(low[t])
        mean = (start + top + bottom + end) / 4.0
        begin = middle if middle == middle else (start + end) / 2.0
        middle = (begin + mean) / 2.0
        if name == 1:
            value = begin
        elif name == 2:
            value = max(top, max(begin, mean))
        elif name == 3:
            value = min(bottom, min(begin, mean))
        else:
            value = (1.0 if mean > begin else 0.0) - (1.0 if mean < begin else 0.0)
        out[t] = value if mean == mean else np.nan
    return middle


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    first, last = len(series) - out.shape[1], (carry or Carry()).state("middle", 1)
    opened, high, low, close = (series.column(name)[first:] for name in DEFINITION.inputs)
    middle = last[0]
    for row in out:
        if output == _NAMES[0]:
            _means(opened, high, low, close, row)
        else:
            last[0] = _candles(opened, high, low, close, _NAMES.index(output), middle, row)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    size = series["close"].size
    out = {name: np.full(size, np.nan) for name in _NAMES}
    for t in range(size):
        opened, high, low, close = (series[name][t] for name in DEFINITION.inputs)
        if math.isnan(opened + high + low + close):
            continue
        mean = (opened + high + low + close) / 4
        begin = (opened + close) / 2
        if t > 0 and not math.isnan(out["ha_open"][t - 1]):
            begin = (out["ha_open"][t - 1] + out["ha_close"][t - 1]) / 2
        out["ha_close"][t], out["ha_open"][t] = mean, begin
        out["ha_high"][t] = max(high, begin, mean)
        out["ha_low"][t] = min(low, begin, mean)
        out["ha_dir"][t] = np.sign(mean - begin)
    return out


def settle(params: Mapping[str, Any]) -> int:
    return 10


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
