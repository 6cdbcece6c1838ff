"""Ease of movement."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Rule, window
from compute.indicators.kernels.holes import blank, flat_runs, pin
from compute.indicators.kernels.sums import mean_rows
from compute.indicators.series import BarSeries

DEFINITION = Definition(
    indicator_id="volume.eom",
    title="Ease of Movement",
    group="volume",
    inputs=("high", "low", "volume"),
    sources=(),
    params=(window(default=14),),
    axes=("window",),
    outputs=(Output("eom", Rule("sign"), ("window",)),),
    primary="eom",
    formula="Mean over w bars of (m - previous m) (h - l) / v, m = (h + l) / 2; a bar without"
    " volume has no value.",
    reference="Richard W. Arms, Volume Cycles in the Stock Market, 1983.",
)


def _eases(series: BarSeries) -> NDArray[np.float64]:
    high, low, volume = (series.wide(name) for name in DEFINITION.inputs)
    traded = np.where(volume == 0.0, np.nan, volume)
    return np.diff((high + low) / 2.0, prepend=np.nan) * (high - low) / traded


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    eases = series.derived("eases", lambda: _eases(series))
    mean_rows(eases, series.first_bar, windows, out)
    still = flat_runs(eases, int(windows.min()), 0.0)
    pin(out, still, np.zeros(len(still), np.float32), windows)
    blank(out, np.flatnonzero(np.isnan(eases)), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, volume = (series[name] for name in DEFINITION.inputs)
    w = params["window"]
    eom = np.full(high.size, np.nan)
    for t in range(w, high.size):
        terms = []
        for i in range(t - w + 1, t + 1):
            gain = (high[i] + low[i]) / 2 - (high[i - 1] + low[i - 1]) / 2
            terms.append(gain * (high[i] - low[i]) / volume[i] if volume[i] != 0 else np.nan)
        eom[t] = np.mean(terms)
    return {"eom": eom}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"]
