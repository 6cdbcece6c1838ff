"""Percentage price oscillator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_6, Definition, Output, Rule, window
from compute.indicators.kernels.crosses import HISTOGRAM, LINE, SIGNAL, cross_rows
from compute.indicators.series import BarSeries

_ALL = ("fast_window", "signal_window", "slow_window", "source")
DEFINITION = Definition(
    indicator_id="momentum.ppo",
    title="Percentage Price Oscillator",
    group="momentum",
    inputs=(),
    sources=SOURCES_6,
    params=(
        window("fast_window", 12),
        window("slow_window", 26),
        window("signal_window", 9),
    ),
    axes=_ALL,
    outputs=(
        Output("ppo", Rule("sign"), ("fast_window", "slow_window", "source")),
        Output("signal", Rule("sign"), _ALL),
        Output("hist", Rule("sign"), _ALL),
    ),
    primary="ppo",
    formula="100 (ema(fast) - ema(slow)) / ema(slow); signal is its ema, hist the difference of"
    " the two.",
    reference="Gerald Appel's MACD in percent, 1980s.",
    recursive=True,
)
_FORMS = {"ppo": LINE, "signal": SIGNAL, "hist": HISTOGRAM}


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    x, spans = series.wide(source), series.spans(source)
    cross_rows(x, spans, params, _FORMS[output], out, percent=True, carry=carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    def ema(values: NDArray[np.float64], w: int) -> NDArray[np.float64]:
        smooth = values.copy()
        for t in range(1, values.size):
            if not math.isnan(values[t]) and not math.isnan(smooth[t - 1]):
                smooth[t] = 2 / (w + 1) * values[t] + (1 - 2 / (w + 1)) * smooth[t - 1]
        return smooth

    x = series[params["source"]]
    slow = ema(x, params["slow_window"])
    ppo = 100 * (ema(x, params["fast_window"]) - slow) / np.where(slow == 0, np.nan, slow)
    signal = ema(ppo, params["signal_window"])
    return {"ppo": ppo, "signal": signal, "hist": ppo - signal}


def settle(params: Mapping[str, Any]) -> int:
    slowest = max(params["fast_window"], params["slow_window"])
    return math.ceil(3.5 * (slowest + 1)) + math.ceil(3.5 * (params["signal_window"] + 1))


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
