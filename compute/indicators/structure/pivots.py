"""Confirmed pivot highs and lows."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.extremes import reach_back
from compute.indicators.series import BarSeries, frozen
from compute.jit import kernel

_AXES = ("left", "right")
DEFINITION = Definition(
    indicator_id="structure.pivots",
    title="Pivot High/Low",
    group="structure",
    inputs=("high", "low"),
    sources=(),
    params=(window("left", 5), window("right", 5)),
    axes=_AXES,
    outputs=(
        Output("pivot_high", Rule("pivot_events", long_output="pivot_low"), _AXES),
        Output("pivot_low", None, _AXES),
    ),
    primary="pivot_high",
    formula="A high strictly above all of `left` bars before and `right` after it, emitted at its"
    " confirmation; lows mirrored.",
    reference="Williams' fractals with free arms: Bill Williams, Trading Chaos, 1995.",
)


@kernel
def _confirmed(values, before, after, lefts, rights, out):
    bars = values.size
    for r in range(out.shape[0]):
        left, right = lefts[r], rights[r]
        row = out[r]
        row[: min(right, bars)] = np.nan
        for c in range(max(bars - right, 0)):
            clear = before[c] > left and after[c] > right
            row[c + right] = values[c] if clear else np.float32(np.nan)


def _reach(values: NDArray[np.float32], sign: int) -> NDArray[np.int64]:
    out = np.empty(values.size, np.int64)
    reach_back(values, sign, out)
    return out


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    name, sign = ("high", 1) if output == "pivot_high" else ("low", -1)
    values = series.column(name)
    before = series.derived(f"before:{name}", lambda: _reach(values, sign))
    after = series.derived(f"after:{name}", lambda: _reach(frozen(values[::-1]), sign)[::-1])
    _confirmed(values, before, after, params["left"], params["right"], out)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    left, right = params["left"], params["right"]
    size = series["high"].size
    out = {"pivot_high": np.full(size, np.nan), "pivot_low": np.full(size, np.nan)}
    for t in range(left + right, size):
        centre = t - right
        others = [i for i in range(centre - left, t + 1) if i != centre]
        if all(series["high"][i] < series["high"][centre] for i in others):
            out["pivot_high"][t] = series["high"][centre]
        if all(series["low"][i] > series["low"][centre] for i in others):
            out["pivot_low"][t] = series["low"][centre]
    return out


def settle(params: Mapping[str, Any]) -> int:
    return params["left"] + params["right"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["left"] + params["right"]
