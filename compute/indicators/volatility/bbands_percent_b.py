"""Position of the price inside its Bollinger bands."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import (
    SOURCES_6,
    Definition,
    Output,
    Span,
    band_rule,
    multiplier,
    window,
)
from compute.indicators.kernels.holes import blank, flat_runs, pin
from compute.indicators.kernels.sums import block_centre, first_block, load, prefix
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("mult", "source", "window")
DEFINITION = Definition(
    indicator_id="volatility.bbands_percent_b",
    title="Bollinger Percent B",
    group="volatility",
    inputs=(),
    sources=SOURCES_6,
    params=(window(), multiplier()),
    axes=_AXES,
    outputs=(
        Output("percent_b", band_rule("float", Span(-0.2, 0.2, 0.05), Span(0.8, 1.2, 0.05)), _AXES),
    ),
    primary="percent_b",
    formula="(x - lower) / (upper - lower), bands at mean ± mult · std (ddof 0).",
    reference="John Bollinger, Bollinger on Bollinger Bands, 2001.",
)
_SHORTEST_BLOCK = 256


@kernel
def _scores(values, sums, squares, at, w, out):
    """Fill `out` with deviations from the window mean in standard deviations; NaN without spread.

    Frame index `at` + k is the newest bar of window k.
    """
    scale = 1.0 / w
    x = values[at:]
    s_new, s_old = sums[at + 1 :], sums[at + 1 - w :]
    q_new, q_old = squares[at + 1 :], squares[at + 1 - w :]
    for k in range(out.size):
        mean = (s_new[k] - s_old[k]) * scale
        spread = (q_new[k] - q_old[k]) * scale - mean * mean
        out[k] = (x[k] - mean) / np.sqrt(spread) if spread > 0.0 else np.nan


@kernel
def _percent_b(x, first_bar, block, order, windows, mults, out):
    """Rows `order` of `out` f4[R, T], windows ascending and up to `block`. Not blanked.

    Sums are of deviations from the price at the block's start, two blocks a frame: squares of
    prices themselves would lose the variance of a quiet market.
    """
    bars = x.size
    values, squared = np.empty(2 * block), np.empty(2 * block)
    sums, squares = np.empty(2 * block + 1), np.empty(2 * block + 1)
    score = np.empty(block)
    for start in range(first_block(first_bar, block), bars, block):
        begin, stop = max(start, 0), min(start + block, bars)
        load(x, start - block, block_centre(x, begin, stop), values)
        for k in range(2 * block):
            squared[k] = values[k] * values[k]
        prefix(values, sums)
        prefix(squared, squares)
        known = np.int64(0)
        for r in order:
            if windows[r] != known:
                known = windows[r]
                _scores(values, sums, squares, block + begin - start, known, score[: stop - begin])
            row, half = out[r, begin:stop], 0.5 / mults[r]
            for k in range(stop - begin):
                row[k] = 0.5 + half * score[k]


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    x, windows, mults = series.price(source), params["window"], params["mult"]
    order = np.argsort(windows, kind="stable")
    blocks = np.maximum(_SHORTEST_BLOCK, 1 << np.ceil(np.log2(windows[order])).astype(np.int64))
    for block in np.unique(blocks):
        # The shorter the block, the smaller the sums that a difference must survive.
        part = order[blocks == block]
        _percent_b(x, series.first_bar, int(block), part, windows, mults, out)
    runs = flat_runs(x, int(windows.min()))
    pin(out, runs, np.full(len(runs), np.float32(np.nan)), windows)
    blank(out, series.holes(source), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w, mult = series[params["source"]], params["window"], params["mult"]
    value = np.full(x.size, np.nan)
    for t in range(w - 1, x.size):
        inside = x[t - w + 1 : t + 1]
        mean, std = np.mean(inside), np.std(inside)
        upper, lower = mean + mult * std, mean - mult * std
        if np.max(inside) != np.min(inside):
            value[t] = (x[t] - lower) / (upper - lower)
    return {"percent_b": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
