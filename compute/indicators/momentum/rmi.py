"""Relative momentum index."""

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

_AXES = ("source", "window", "momentum")
DEFINITION = Definition(
    indicator_id="momentum.rmi",
    title="Relative Momentum Index",
    group="momentum",
    inputs=(),
    sources=SOURCES_6,
    params=(window(default=14), window("momentum", 5)),
    axes=_AXES,
    outputs=(Output("rmi", band_rule("int", Span(15, 45, 5), Span(55, 85, 5)), _AXES),),
    primary="rmi",
    formula="100 - 100 / (1 + G / L), G and L gains and losses over momentum bars, smoothed with"
    " weight 1 / w.",
    reference="Roger Altman, Stocks & Commodities, 1993.",
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
    carry = carry or Carry()
    for lag in np.unique(params["momentum"]):
        chosen = np.flatnonzero(params["momentum"] == lag)
        gain, loss, spans = moves(series, source, int(lag))
        block = np.empty((chosen.size, out.shape[1]), np.float32)
        weights = rma_weights(params["window"][chosen])
        strength_rows(gain, loss, spans, weights, block, carry, f"moves:{lag}")
        out[chosen] = block


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w, lag = series[params["source"]], params["window"], params["momentum"]
    rmi = np.full(x.size, np.nan)
    gain = loss = math.nan
    for t in range(lag, x.size):
        change = x[t] - x[t - lag]
        rise, fall = np.maximum(change, 0), np.maximum(-change, 0)
        gain = rise if math.isnan(gain) else rise / w + (1 - 1 / w) * gain
        loss = fall if math.isnan(loss) else fall / w + (1 - 1 / w) * loss
        if loss > 0:
            rmi[t] = 100 - 100 / (1 + gain / loss)
        elif gain > 0:
            rmi[t] = 100
    return {"rmi": rmi}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.9 * params["window"]) + params["momentum"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["momentum"]
