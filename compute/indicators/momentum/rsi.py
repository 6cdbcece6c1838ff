"""Relative strength index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_6, Definition, Output, Span, band_rule, window
from compute.indicators.kernels.smoothing import rma_weights
from compute.indicators.kernels.strength import moves, strength_rows
from compute.indicators.series import BarSeries

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


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    gain, loss, spans = moves(series, source, 1)
    strength_rows(gain, loss, spans, rma_weights(params["window"]), out, carry)


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
