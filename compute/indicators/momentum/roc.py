"""Rate of change."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_6, Definition, Output, Rule, window
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="momentum.roc",
    title="Rate of Change",
    group="momentum",
    inputs=(),
    sources=SOURCES_6,
    params=(window(default=14),),
    axes=("source", "window"),
    outputs=(Output("roc", Rule("sign"), ("source", "window")),),
    primary="roc",
    formula="100 (x / x[w bars ago] - 1).",
    reference="Textbook.",
)


@kernel
def _change(x, scale, windows, out):
    """Row r of `out` f4[R, T]; `scale` f8[T] is 100 / x, so that no row divides."""
    for r in range(out.shape[0]):
        w = min(windows[r], x.size)
        out[r, :w] = np.nan
        now, then, unit, row = x[w:], x[: x.size - w], scale[: x.size - w], out[r, w:]
        for t in range(row.size):
            # A difference first: no movement is exactly 0.
            row[t] = (now[t] - then[t]) * unit[t]


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    x = series.wide(source)
    scale = series.derived(f"percent:{source}", lambda: 100.0 / np.where(x == 0.0, np.nan, x))
    _change(x, scale, params["window"], out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    value = np.full(x.size, np.nan)
    for t in range(w, x.size):
        if x[t - w] != 0:
            value[t] = 100 * (x[t] / x[t - w] - 1)
    return {"roc": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"]
