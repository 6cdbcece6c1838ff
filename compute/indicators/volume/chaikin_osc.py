"""Chaikin oscillator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.crosses import LINE, cross_rows
from compute.indicators.kernels.running import TILE, kept, running_rows
from compute.indicators.series import BarSeries
from compute.indicators.volume.ad_line import distribution

_AXES = ("fast_window", "slow_window")
DEFINITION = Definition(
    indicator_id="volume.chaikin_osc",
    title="Chaikin Oscillator",
    group="volume",
    inputs=("high", "low", "close", "volume"),
    sources=(),
    params=(window("fast_window", 3), window("slow_window", 10)),
    axes=_AXES,
    outputs=(Output("chaikin_osc", Rule("sign"), _AXES),),
    primary="chaikin_osc",
    formula="ema(A, fast) - ema(A, slow), A the running sum of ((c - l) - (h - c)) / (h - l) · v."
    " Unlike in volume.ad_line a bar without range adds nothing and the sum goes on.",
    reference="Marc Chaikin, 1980s.",
    recursive=True,
    lead=TILE,
)


def _line(series: BarSeries, first: int, carry: Carry) -> NDArray[np.float64]:
    """The running sum f8[T] from bar `first` on."""
    columns = series.high, series.low, series.close, series.volume

    def fill(out: NDArray[np.float64]) -> None:
        line = partial(distribution, *columns, 0.0)
        running_rows(line, out[first:].reshape(1, -1), len(series), carry)

    state = carry.state("sum", 2, start=0.0)
    return kept(series, "distribution", len(series), state, fill)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    carry = carry or Carry()
    line = _line(series, len(series) - out.shape[1], carry)
    cross_rows(line, series.spans(*DEFINITION.inputs), params, LINE, out, carry=carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    size = series["close"].size
    value = np.full(size, np.nan)
    fast_weight, slow_weight = 2 / (params["fast_window"] + 1), 2 / (params["slow_window"] + 1)
    line = fast = slow = math.nan
    for t in range(size):
        high, low, close, volume = (series[name][t] for name in DEFINITION.inputs)
        if math.isnan(high + low + close + volume):
            line = math.nan
            continue
        push = ((close - low) - (high - close)) / (high - low) * volume if high != low else 0.0
        if math.isnan(line):
            line = fast = slow = push
        else:
            line += push
            fast = fast_weight * line + (1 - fast_weight) * fast
            slow = slow_weight * line + (1 - slow_weight) * slow
        value[t] = fast - slow
    return {"chaikin_osc": value}


def settle(params: Mapping[str, Any]) -> int:
    return math.ceil(3.5 * (max(params["fast_window"], params["slow_window"]) + 1))


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
