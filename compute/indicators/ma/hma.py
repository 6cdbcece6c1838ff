"""Hull moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_7, WINDOW_MAX, Definition, Output, Rule, window
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.sums import block_centre, block_groups, copy, first_block
from compute.indicators.kernels.weighted import weigh
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
def _lagless(sums, turned, at, w, centre, out):
    """Fill `out` [n] with 2 wma(w // 2) - wma(w) at the frame's indices from `at` on."""
    short = max(w // 2, 1)
    near, far = 2.0 / (short * (short + 1.0)), 2.0 / (w * (w + 1.0))
    half, full = np.float64(short), np.float64(w)
    newest, total = turned[at + 1 :], sums[at + 1 :]
    near_old, far_old = turned[at + 1 - short :], turned[at + 1 - w :]
    for k in range(out.size):
        recent = (newest[k] - near_old[k] + half * total[k]) * near + centre
        whole = (newest[k] - far_old[k] + full * total[k]) * far + centre
        out[k] = 2.0 * recent - whole


@kernel
def _weighted(raw, s, total):
    """Fill `total` [n] with the weighted means of the `s` values up to raw[_TAIL + k]."""
    total[:] = 0.0
    scale, j = 2.0 / (s * (s + 1.0)), 0
    while j + 4 <= s:  # four terms a pass: it is the passes that cost
        first = _TAIL + 1 + j - s
        a, b, c, d = raw[first:], raw[first + 1 :], raw[first + 2 :], raw[first + 3 :]
        p, q, u, v = scale * (j + 1), scale * (j + 2), scale * (j + 3), scale * (j + 4)
        for k in range(total.size):
            total[k] = (((total[k] + p * a[k]) + q * b[k]) + u * c[k]) + v * d[k]
        j += 4
    while j < s:
        values, weight = raw[_TAIL + 1 + j - s :], scale * (j + 1)
        for k in range(total.size):
            total[k] += weight * values[k]
        j += 1


@kernel
def _hull(x, first_bar, block, order, windows, smooth, out):
    """Rows `order` of `out`; `smooth` i8[R] is the outer window. Not blanked."""
    bars = x.size
    values, sums, turned = np.empty(2 * block), np.empty(2 * block + 1), np.empty(2 * block + 1)
    total, raw, tails = np.empty(block), np.zeros(_TAIL + block), np.zeros((order.size, _TAIL))
    for start in range(first_block(first_bar, block), bars, block):
        begin, stop = max(start, 0), min(start + block, bars)
        count, at = stop - begin, block + begin - start
        centre = block_centre(x, begin, stop)
        weigh(x, start, block, centre, values, sums, turned)
        for i in range(order.size):
            r = order[i]
            copy(tails[i], raw)
            _lagless(sums, turned, at, windows[r], centre, raw[_TAIL : _TAIL + count])
            _weighted(raw, smooth[r], total[:count])
            copy(total[:count], out[r, begin:])
            copy(raw[count : count + _TAIL], tails[i])


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    smooth = np.sqrt(windows).astype(np.int64)
    for block, order in block_groups(windows):
        _hull(series.price(source), series.first_bar, block, order, windows, smooth, out)
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
