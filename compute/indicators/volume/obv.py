"""On-balance volume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, delta_rule
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="volume.obv",
    title="On-Balance Volume",
    group="volume",
    inputs=("close", "volume"),
    sources=(),
    params=(),
    axes=(),
    outputs=(Output("obv", delta_rule(), ()),),
    primary="obv",
    formula="Running sum of volume signed by the change of close; nothing before the second bar.",
    reference="Joseph Granville, New Key to Stock Market Profits, 1963.",
    recursive=True,
)


@kernel
def _accumulate(close, volume, out):
    previous, total = np.nan, 0.0
    for t in range(close.size):
        price, amount = np.float64(close[t]), np.float64(volume[t])
        if price != price or previous != previous or amount != amount:
            total = 0.0
            out[t] = np.nan
        else:
            total += amount if price > previous else (-amount if price < previous else 0.0)
            out[t] = total
        previous = price


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    _accumulate(series.close, series.volume, out[0])
    out[1:] = out[0]


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    close, volume = series["close"], series["volume"]
    obv = np.full(close.size, np.nan)
    for t in range(1, close.size):
        flow = np.sign(close[t] - close[t - 1]) * volume[t]
        obv[t] = flow if math.isnan(obv[t - 1]) else obv[t - 1] + flow
    return {"obv": obv}


def settle(params: Mapping[str, Any]) -> int:
    return 1


def first(params: Mapping[str, Any], output: str) -> int:
    return 1
