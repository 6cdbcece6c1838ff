"""Hull moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_7, WINDOW_MAX, Definition, Output, Rule, window
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.sums import BLOCK, block_centre, first_block
from compute.indicators.kernels.weighted import weigh, weighted_means
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="ma.hma",
    title="Hull Moving Average",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(window(),),
    axes=("source", "window"),
    outputs=(
        Output("value", Rule("compare_price_to_output", price="source"), ("source", "window")),
    ),
    primary="value",
    formula="wma(2 wma(x, w // 2) - wma(x, w), s), s = floor(sqrt(w)).",
    reference="Alan Hull, 2005.",
)
_TAIL = math.isqrt(WINDOW_MAX)


@kernel
def _hull(x, first_bar, windows, smooth, out):
    """Row r of `out`; `smooth` i8[R] is the outer window. Not blanked."""
    bars, rows = x.size, windows.size
    values, sums, turned = np.empty(2 * BLOCK), np.empty(2 * BLOCK + 1), np.empty(2 * BLOCK + 1)
    half, full, total = np.empty(BLOCK), np.empty(BLOCK), np.empty(BLOCK)
    raw, tails = np.zeros(_TAIL + BLOCK), np.zeros((rows, _TAIL))
    for start in range(first_block(first_bar, BLOCK), bars, BLOCK):
        begin, stop = max(start, 0), min(start + BLOCK, bars)
        count, at = stop - begin, BLOCK + begin - start
        centre = block_centre(x, begin, stop)
        weigh(x, start, BLOCK, centre, values, sums, turned)
        for r in range(rows):
            w, s = windows[r], smooth[r]
            weighted_means(sums, turned, at, max(w // 2, 1), centre, half[:count])
            weighted_means(sums, turned, at, w, centre, full[:count])
            raw[:_TAIL] = tails[r]
            for k in range(count):
                raw[_TAIL + k] = 2.0 * half[k] - full[k]
            total[:] = 0.0
            for j in range(s):
                weight = 2.0 * (j + 1) / (s * (s + 1.0))
                shifted = raw[_TAIL + 1 + j - s :]
                for k in range(count):
                    total[k] += weight * shifted[k]
            out[r, begin:stop] = total[:count]
            tails[r] = raw[count : count + _TAIL]


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    smooth = np.sqrt(windows).astype(np.int64)
    _hull(series.price(source), series.first_bar, windows, smooth, out)
    reach = windows + smooth - 1
    blank(out, series.holes(source), reach - 1, reach)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    def wma(values: NDArray[np.float64], w: int) -> NDArray[np.float64]:
        weights = np.arange(1, w + 1)
        means = np.full(values.size, np.nan)
        for t in range(w - 1, values.size):
            means[t] = np.sum(weights * values[t - w + 1 : t + 1]) / np.sum(weights)
        return means

    x, w = series[params["source"]], params["window"]
    return {"value": wma(2 * wma(x, max(w // 2, 1)) - wma(x, w), math.isqrt(w))}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] + math.isqrt(params["window"]) - 2


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] + math.isqrt(params["window"]) - 2
