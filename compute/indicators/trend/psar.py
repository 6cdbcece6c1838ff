"""Parabolic stop and reverse."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Rule, real
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("accel_max", "accel_start", "accel_step")
DEFINITION = Definition(
    indicator_id="trend.psar",
    title="Parabolic SAR",
    group="trend",
    inputs=("high", "low"),
    sources=(),
    params=(
        real("accel_start", 0.001, 1.0, 0.001, 0.02),
        real("accel_step", 0.001, 1.0, 0.001, 0.02),
        real("accel_max", 0.01, 5.0, 0.01, 0.2),
    ),
    axes=_AXES,
    outputs=(
        Output("psar", Rule("compare_price_to_output"), _AXES),
        Output("psar_dir", Rule("sign"), _AXES),
    ),
    primary="psar",
    formula="sar = sar + a (ep - sar), kept beyond the previous bar's low while rising; ep is the"
    " extreme since the turn, a grows by accel_step up to accel_max with each new one; a price"
    " through the line turns it and starts again at ep with accel_start. Rises from the low of the"
    " first bar; psar_dir is 1 or -1.",
    reference="J. Welles Wilder, New Concepts in Technical Trading Systems, 1978.",
    recursive=True,
    ordered=(("accel_start", "accel_max"),),
)


@kernel
def _stop_and_reverse(high, low, starts, steps, tops, direction, out):
    """One row a setting. A falling line is a rising one of the mirrored prices: `ahead` and
    `behind` are high and low, or -low and -high."""
    for r in range(out.shape[0]):
        start, step, top, row = starts[r], steps[r], tops[r], out[r]
        side, sar, extreme, rate = 1.0, np.nan, 0.0, 0.0
        before_high = before_low = 0.0
        for t in range(high.size):
            upper, lower = np.float64(high[t]), np.float64(low[t])
            if upper != upper or lower != lower:
                sar = np.nan
                row[t] = np.nan
                continue
            if sar != sar:
                side, sar, extreme, rate = 1.0, lower, upper, start
            else:
                up = side > 0.0
                ahead, behind = (upper, lower) if up else (-lower, -upper)
                limit = before_low if up else -before_high
                sar += rate * (extreme - sar)
                sar = limit if limit < sar else sar
                if behind < sar:
                    side, sar, extreme, rate = -side, -extreme, -behind, start
                elif ahead > extreme:
                    extreme = ahead
                    rate = rate + step if rate + step < top else top
            before_high, before_low = upper, lower
            row[t] = side if direction else side * sar


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    starts, steps, tops = params["accel_start"], params["accel_step"], params["accel_max"]
    _stop_and_reverse(series.high, series.low, starts, steps, tops, output == "psar_dir", out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low = series["high"], series["low"]
    start, step, top = params["accel_start"], params["accel_step"], params["accel_max"]
    line, way = np.full(high.size, np.nan), np.full(high.size, np.nan)
    sar = ep = af = math.nan
    up = True
    for t in range(high.size):
        if math.isnan(high[t]) or math.isnan(low[t]):
            sar = math.nan
            continue
        if math.isnan(sar):
            up, sar, ep, af = True, low[t], high[t], start
        else:
            sar = sar + af * (ep - sar)
            if up:
                sar = min(sar, low[t - 1])
                if low[t] < sar:
                    up, sar, ep, af = False, ep, low[t], start
                elif high[t] > ep:
                    ep, af = high[t], min(top, af + step)
            else:
                sar = max(sar, high[t - 1])
                if high[t] > sar:
                    up, sar, ep, af = True, ep, high[t], start
                elif low[t] < ep:
                    ep, af = low[t], min(top, af + step)
        line[t], way[t] = sar, 1 if up else -1
    return {"psar": line, "psar_dir": way}


def settle(params: Mapping[str, Any]) -> int:
    return 200


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
