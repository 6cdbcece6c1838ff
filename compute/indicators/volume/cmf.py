"""Chaikin money flow."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Span, band_rule, window
from compute.indicators.kernels.holes import blank, flat_runs, pin
from compute.indicators.kernels.sums import ratio_rows
from compute.indicators.series import BarSeries
from compute.indicators.volume.ad_line import fill_flow

DEFINITION = Definition(
    indicator_id="volume.cmf",
    title="Chaikin Money Flow",
    group="volume",
    inputs=("high", "low", "close", "volume"),
    sources=(),
    params=(window(),),
    axes=("window",),
    outputs=(
        Output(
            "cmf", band_rule("float", Span(0.05, 0.25, 0.05), Span(-0.25, -0.05, 0.05)), ("window",)
        ),
    ),
    primary="cmf",
    formula="sum(f) / sum(v) over w bars, f the change of the accumulation/distribution line:"
    " ((c - l) - (h - c)) / (h - l) · v, missing on a bar without range and on the bar after it.",
    reference="Marc Chaikin, 1980s.",
)


def _changes(series: BarSeries) -> NDArray[np.float64]:
    """Flow f8[T] where the bar before has one too: the line it is the change of restarts."""
    changes = np.empty(len(series))
    fill_flow(series.high, series.low, series.close, series.volume, np.nan, 0, changes)
    lost = np.isnan(changes)
    changes[1:][lost[:-1]] = np.nan
    changes[:1] = np.nan
    return changes


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows, volume = params["window"], series.wide("volume")
    changes = series.derived("line_changes", lambda: _changes(series))
    ratio_rows(changes, volume, series.first_bar, windows, out)
    silent = flat_runs(volume, int(windows.min()), 0.0)
    pin(out, silent, np.full(len(silent), np.nan, np.float32), windows)
    blank(out, np.flatnonzero(np.isnan(changes)), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close, volume = (series[name] for name in DEFINITION.inputs)
    w = params["window"]
    flows = [
        ((c - lo) - (h - c)) / (h - lo) * v if h != lo else math.nan
        for h, lo, c, v in zip(high, low, close, volume, strict=True)
    ]
    value = np.full(close.size, np.nan)
    for t in range(w, close.size):
        total = np.sum(volume[t - w + 1 : t + 1])
        if not math.isnan(flows[t - w]) and total != 0.0:
            value[t] = np.sum(flows[t - w + 1 : t + 1]) / total
    return {"cmf": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"]


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"]
