"""On-balance volume."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, delta_rule
from compute.indicators.kernels.sums import load, prefix
from compute.indicators.series import BarSeries
from compute.jit import kernel

_TILE = 512
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
def accumulate(values):
    """Replace `values` f8[T] by their running sum, which restarts after every NaN.

    Up to its first NaN a tile is summed in four quarters (see `prefix`), behind it bar by bar; so
    a sum never depends on what follows it.
    """
    buffer, sums = np.empty(_TILE), np.empty(_TILE + 1)
    total = 0.0
    for begin in range(0, values.size, _TILE):
        load(values, begin, 0.0, buffer)
        prefix(buffer, sums)
        part = values[begin : begin + _TILE]
        missing = 0
        for k in range(part.size):
            missing += part[k] != part[k]
        if missing == 0:
            for k in range(part.size):
                part[k] = total + sums[k + 1]
            total += sums[_TILE]
            continue
        clean = True
        for k in range(part.size):
            if part[k] != part[k]:
                total, clean = 0.0, False
            elif clean:
                part[k] = total + sums[k + 1]
            else:
                total += part[k]
                part[k] = total


@kernel
def _signed(close, volume, out):
    """Fill `out` f8[T] with volume signed by the change of close, without a branch: it is a coin
    toss."""
    out[:1] = np.nan
    prices, befores = close[1:], close[: max(close.size - 1, 0)]
    amounts, flows = volume[1:], out[1:]
    for t in range(flows.size):
        gap = np.float64(prices[t]) - np.float64(befores[t])
        amount = np.float64(amounts[t])
        rise = amount if gap > 0.0 else 0.0
        fall = amount if gap < 0.0 else 0.0
        flows[t] = rise - fall if gap + amount == gap + amount else np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    flow = np.empty(len(series))
    _signed(series.close, series.volume, flow)
    accumulate(flow)
    out[:] = flow


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
