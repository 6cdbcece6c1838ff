"""Exponentially weighted volatility."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_6, Definition, Output, delta_rule, real
from compute.indicators.kernels.ranges import log_returns
from compute.indicators.kernels.smoothing import padded, smooth_rows
from compute.indicators.series import BarSeries, valid_spans

_AXES = ("source", "decay")
DEFINITION = Definition(
    indicator_id="volatility.ewma",
    title="EWMA Volatility",
    group="volatility",
    inputs=(),
    sources=SOURCES_6,
    params=(real("decay", 0.5, 0.999, 0.001, 0.94),),
    axes=_AXES,
    outputs=(Output("ewma", delta_rule(), _AXES),),
    primary="ewma",
    formula="100 sqrt(s), s = decay · s + (1 - decay) ln(x / x1)^2, seeded with the first squared"
    " return, in percent a bar.",
    reference="RiskMetrics technical document, J.P. Morgan, 1996.",
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
    squares = series.derived(f"squares:{source}", lambda: log_returns(series, source) ** 2)
    spans = series.derived(f"spans:squares:{source}", lambda: valid_spans(np.isnan(squares)))
    smooth_rows(squares, spans, padded(1.0 - params["decay"]), out, carry)
    np.sqrt(out, out=out)
    out *= np.float32(100)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, decay = series[params["source"]], params["decay"]
    value, last = np.full(x.size, np.nan), math.nan
    for t in range(1, x.size):
        if not (x[t] > 0 and x[t - 1] > 0):
            last = math.nan
            continue
        square = math.log(x[t] / x[t - 1]) ** 2
        last = square if math.isnan(last) else decay * last + (1 - decay) * square
        value[t] = 100 * math.sqrt(last)
    return {"ewma": value}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(6.91 / (1.0 - params["decay"])) + 1


def first(params: Mapping[str, Any], output: str) -> int:
    return 1
