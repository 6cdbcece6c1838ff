"""Rank of the price among the last ones."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import SOURCES_6, Definition, Output, Span, band_rule, window
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.ranks import rank_rows
from compute.indicators.series import BarSeries

_AXES = ("source", "window")
DEFINITION = Definition(
    indicator_id="structure.percent_rank",
    title="Rolling Percentile Rank",
    group="structure",
    inputs=(),
    sources=SOURCES_6,
    params=(window(),),
    axes=_AXES,
    outputs=(Output("percent_rank", band_rule("int", Span(5, 30, 5), Span(70, 95, 5)), _AXES),),
    primary="percent_rank",
    formula="100 · (how many of the last w prices, this one included, are not above this one) / w.",
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
    order = np.argsort(windows, kind="stable")
    rank_rows(series.price(source), windows - 1, order, 1, windows, out)
    blank(out, series.holes(source), windows - 1, windows)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    x, w = series[params["source"]], params["window"]
    value = np.full(x.size, np.nan)
    for t in range(w - 1, x.size):
        inside = x[t - w + 1 : t + 1]
        if not np.isnan(inside).any():
            value[t] = 100 * np.count_nonzero(inside <= x[t]) / w
    return {"percent_rank": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
