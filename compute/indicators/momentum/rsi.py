"""Relative strength index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_6, Definition, Output, Span, band_rule, window
from compute.indicators.kernels.smoothing import LANES, TILE, lanes, rma_weights
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="momentum.rsi",
    title="Relative Strength Index",
    group="momentum",
    inputs=(),
    sources=SOURCES_6,
    params=(window(default=14),),
    axes=("source", "window"),
    outputs=(
        Output("rsi", band_rule("int", Span(15, 45, 5), Span(55, 85, 5)), ("source", "window")),
    ),
    primary="rsi",
    formula="100 - 100 / (1 + G / L), G and L gains and losses smoothed with weight 1 / w.",
    reference="J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.",
    recursive=True,
)


@kernel
def _relative_strength(gain, loss, spans, weights, out):
    """100 G / (G + L) by eight rows and a tile of bars at a time; 0 / 0 is NaN."""
    rows = out.shape[0]
    keeps = 1.0 - weights
    gains, losses = np.empty((LANES, TILE)), np.empty((LANES, TILE))
    up, down = np.empty(LANES), np.empty(LANES)
    for group in range(0, rows, LANES):
        last = min(rows, group + LANES)
        weight, keep = weights[group : group + LANES], keeps[group : group + LANES]
        for r in range(group, last):
            out[r] = np.nan
        for i in range(spans.shape[0]):
            begin, stop = spans[i, 0] + 1, spans[i, 1]
            if begin >= stop:
                continue
            up[:], down[:] = gain[begin], loss[begin]
            for at in range(begin, stop, TILE):
                count = min(TILE, stop - at)
                lanes(gain, at, count, weight, keep, up, gains, 0, 0)
                lanes(loss, at, count, weight, keep, down, losses, 0, 0)
                for r in range(group, last):
                    row = out[r, at : at + count]
                    rise, fall = gains[r - group], losses[r - group]
                    for k in range(count):
                        row[k] = 100.0 * rise[k] / (rise[k] + fall[k])


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    change = series.derived(
        f"change:{source}", lambda: np.diff(series.wide(source), prepend=math.nan)
    )
    gain = series.derived(f"gain:{source}", lambda: np.maximum(change, 0.0))
    loss = series.derived(f"loss:{source}", lambda: np.maximum(-change, 0.0))
    _relative_strength(gain, loss, series.spans(source), rma_weights(params["window"]), out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    rsi = np.full(x.size, np.nan)
    gain = loss = math.nan
    for t in range(1, x.size):
        change = x[t] - x[t - 1]
        if math.isnan(change):
            gain = loss = math.nan
            continue
        if math.isnan(gain):
            gain, loss = max(change, 0.0), max(-change, 0.0)
        else:
            gain = max(change, 0.0) / w + (1 - 1 / w) * gain
            loss = max(-change, 0.0) / w + (1 - 1 / w) * loss
        if loss > 0:
            rsi[t] = 100 - 100 / (1 + gain / loss)
        elif gain > 0:
            rsi[t] = 100
    return {"rsi": rsi}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["window"]) + 1


def first(params: Mapping[str, Any], output: str) -> int:
    return 1
