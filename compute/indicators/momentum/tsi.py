"""True strength index."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import SOURCES_6, Definition, Output, Rule, window
from compute.indicators.kernels.chains import twice_smoothed
from compute.indicators.series import BarSeries

_AXES = ("source", "long_window", "short_window")
_ALL = (*_AXES, "signal_window")
DEFINITION = Definition(
    indicator_id="momentum.tsi",
    title="True Strength Index",
    group="momentum",
    inputs=(),
    sources=SOURCES_6,
    params=(window("long_window", 25), window("short_window", 13), window("signal_window", 13)),
    axes=_ALL,
    outputs=(
        Output("tsi", Rule("sign"), _AXES),
        Output("signal", Rule("sign"), _ALL),
        Output("hist", Rule("sign"), _ALL),
    ),
    primary="tsi",
    formula="100 ema(ema(x - x1, long), short) / ema(ema(|x - x1|, long), short); signal is its"
    " ema, hist the difference of the two.",
    reference="William Blau, Momentum, Direction, and Divergence, 1995.",
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
    x = series.wide(source)
    change = series.derived(f"change:{source}", lambda: np.diff(x, prepend=np.nan)[: x.size])
    size = series.derived(f"steps:{source}", lambda: np.abs(change))
    pairs = np.stack((params["long_window"], params["short_window"]), axis=1)
    form = {"tsi": 0, "signal": 1, "hist": 2}[output]
    chosen = np.arange(len(out))
    twice_smoothed(change, size, pairs, params["signal_window"], form, chosen, out, carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    def ema(values: NDArray[np.float64], w: int) -> NDArray[np.float64]:
        smooth, last = np.full(values.size, np.nan), math.nan
        for t, x in enumerate(values):
            last = x if math.isnan(last) else 2 / (w + 1) * x + (1 - 2 / (w + 1)) * last
            smooth[t] = last
        return smooth

    change = np.diff(series[params["source"]], prepend=math.nan)
    over = ema(ema(change, params["long_window"]), params["short_window"])
    under = ema(ema(np.abs(change), params["long_window"]), params["short_window"])
    tsi = 100 * over / np.where(under == 0, np.nan, under)
    signal = ema(tsi, params["signal_window"])
    return {"tsi": tsi, "signal": signal, "hist": tsi - signal}


def settle(params: Mapping[str, Any]) -> int:
    windows = (params["long_window"], params["short_window"], params["signal_window"])
    return sum(math.ceil(3.5 * (w + 1)) for w in windows) + 1


def first(params: Mapping[str, Any], output: str) -> int:
    return 1
