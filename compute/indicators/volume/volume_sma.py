"""Moving average of volume."""

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
    indicator_id="volume.volume_sma",
    title="Volume Moving Average",
    group="volume",
    inputs=("volume",),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(Output("volume_sma", Rule("compare_volume_to_output", price="volume"), ("window",)),),
    primary="volume_sma",
    formula="Arithmetic mean of the last w volumes.",
    reference="Textbook.",
)


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    mean_rows(series.volume, series.first_bar, windows, out)
    # Volumes spread over more digits than a float64 sum holds: after a burst the mean of a silent
    # stretch would keep a residue, and silence would vote.
    runs = flat_runs(series.volume, int(windows.min()))
    pin(out, runs, series.volume[runs[:, 0]], windows)
    blank(out, series.holes("volume"), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    volume, w = series["volume"], params["window"]
    value = np.full(volume.size, np.nan)
    for t in range(w - 1, volume.size):
        value[t] = np.mean(volume[t - w + 1 : t + 1])
    return {"volume_sma": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
