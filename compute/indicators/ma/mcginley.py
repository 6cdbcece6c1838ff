"""McGinley Dynamic."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_7, Definition, Output, Rule, window
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="ma.mcginley",
    title="McGinley Dynamic",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(window(default=14),),
    axes=("source", "window"),
    outputs=(
        Output("value", Rule("compare_price_to_output", price="source"), ("source", "window")),
    ),
    primary="value",
    formula="y = y + (x - y) / max(1, w (x / y)^4), seeded with the first value after a hole; the"
    " bound keeps a crash from throwing the line past the price.",
    reference="John McGinley, Market Technicians Association Journal, 1990.",
    recursive=True,
    slow=True,
)


@kernel
def _follow(x, windows, state, out):
    """Row r of `out` f4[R, T] from its value before, `state[r]`. NaN restarts."""
    for r in range(out.shape[0]):
        y, w, row = state[r], np.float64(windows[r]), out[r]
        for t in range(x.size):
            value = x[t]
            ratio = value / y
            square = ratio * ratio
            y = y + (value - y) / max(1.0, w * (square * square)) if y == y else value
            row[t] = y
        state[r] = y


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    x, state = series.wide(source), (carry or Carry()).state("lines", len(out))
    _follow(x[len(series) - out.shape[1] :], params["window"], state, out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    value, last = np.full(x.size, np.nan), math.nan
    for t in range(x.size):
        if math.isnan(last):
            last = x[t]
        else:
            last = last + (x[t] - last) / np.maximum(1.0, w * (x[t] / last) ** 4)
        value[t] = last
    return {"value": value}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["window"])


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
