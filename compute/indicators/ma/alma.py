"""Arnaud Legoux moving average."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_7, Definition, Output, Rule, real, window
from compute.indicators.kernels.holes import blank
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("source", "window", "offset", "sigma")
DEFINITION = Definition(
    indicator_id="ma.alma",
    title="Arnaud Legoux Moving Average",
    group="ma",
    inputs=(),
    sources=SOURCES_7,
    params=(
        window(default=9),
        real("offset", 0.0, 1.0, 0.01, 0.85),
        real("sigma", 0.5, 20.0, 0.1, 6.0),
    ),
    axes=_AXES,
    outputs=(Output("value", Rule("compare_price_to_output", price="source"), _AXES),),
    primary="value",
    formula="Mean of the last w values with Gaussian weights exp(-(i - m)^2 / (2 s^2)), i = 0 the"
    " oldest, m = offset (w - 1), s = w / sigma.",
    reference="Arnaud Legoux and Dimitris Kouzis-Loukas, 2009.",
)
_TILE = 512


@kernel
def _filter(x, weights, out):
    """Fill `out` f4[T] with the sums of `weights` f8[w] over the last w values; not blanked."""
    w = weights.size
    total = np.empty(_TILE)
    for begin in range(w - 1, x.size, _TILE):
        count = min(_TILE, x.size - begin)
        total[:count] = 0.0
        for i in range(w):
            weight, values = weights[i], x[begin - w + 1 + i :]
            for k in range(count):
                total[k] += weight * values[k]
        out[begin : begin + count] = total[:count]


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    x, windows = series.wide(source), params["window"]
    shapes = zip(windows, params["offset"], params["sigma"], strict=True)
    for r, (w, offset, sigma) in enumerate(shapes):
        weights = np.exp(-((np.arange(w) - offset * (w - 1)) ** 2) / (2 * (w / sigma) ** 2))
        _filter(x, weights / weights.sum(), out[r])
    blank(out, series.holes(source), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    centre, width = params["offset"] * (w - 1), w / params["sigma"]
    weights = [math.exp(-((i - centre) ** 2) / (2 * width * width)) for i in range(w)]
    value = np.full(x.size, np.nan)
    for t in range(w - 1, x.size):
        value[t] = np.dot(weights, x[t - w + 1 : t + 1]) / math.fsum(weights)
    return {"value": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
