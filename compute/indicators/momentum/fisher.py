"""Fisher transform of the price's place in its channel."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.elementary import logarithm
from compute.indicators.kernels.extremes import PLACE, channel_rows
from compute.indicators.kernels.holes import blank
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="momentum.fisher",
    title="Fisher Transform",
    group="momentum",
    inputs=("high", "low"),
    sources=(),
    params=(window(default=14),),
    axes=("window",),
    outputs=(
        Output("fisher", Rule("sign"), ("window",)),
        Output("trigger", Rule("sign"), ("window",)),
    ),
    primary="fisher",
    formula="ln((1 + v) / (1 - v)) / 2, v = 2 ((h + l) / 2 - lowest low) / (highest high - lowest"
    " low) - 1 over w bars, within ±0.999; trigger is the fisher of the bar before.",
    reference="John Ehlers, Stocks & Commodities, 2002; without its smoothing.",
)


@kernel
def _transform(place, delay, out):
    """Fill `out` f4[T] from `place` f8[T] in percent, `delay` bars late."""
    out[:delay] = np.nan
    row = out[delay:]
    for t in range(row.size):
        v = 0.02 * place[t] - 1.0
        v = 0.999 if v > 0.999 else (-0.999 if v < -0.999 else v)
        row[t] = 0.5 * logarithm((1.0 + v) / (1.0 - v)) if v == v else np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows, bars = params["window"], len(series)
    middle = series.derived("middle", lambda: 0.5 * (series.wide("high") + series.wide("low")))
    delay = min(1 if output == "trigger" else 0, bars)
    place, only = np.empty((1, bars)), np.array([0])
    for r in range(windows.size):
        channel_rows(series.high, series.low, middle, windows[r : r + 1], only, PLACE, place)
        _transform(place[0], delay, out[r])
    lead = windows - 1 + delay
    blank(out, series.holes("high", "low") + delay, lead, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, w = series["high"], series["low"], params["window"]
    fisher = np.full(high.size, np.nan)
    for t in range(w - 1, high.size):
        top, bottom = np.max(high[t - w + 1 : t + 1]), np.min(low[t - w + 1 : t + 1])
        if top != bottom:
            v = 2 * ((high[t] + low[t]) / 2 - bottom) / (top - bottom) - 1
            v = np.clip(v, -0.999, 0.999)
            fisher[t] = 0.5 * np.log((1 + v) / (1 - v))
    return {"fisher": fisher, "trigger": np.concatenate(([np.nan], fisher))[: high.size]}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1 + (output == "trigger")
