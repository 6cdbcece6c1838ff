"""Accumulation/distribution line."""

from __future__ import annotations

import math
from collections.abc import Mapping
from functools import partial
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.carry import Carry
from compute.indicators.definition import Definition, Output, delta_rule
from compute.indicators.kernels.running import TILE, add_tile, running_rows
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="volume.ad_line",
    title="Accumulation/Distribution Line",
    group="volume",
    inputs=("high", "low", "close", "volume"),
    sources=(),
    params=(),
    axes=(),
    outputs=(Output("ad_line", delta_rule(), ()),),
    primary="ad_line",
    formula="Running sum of ((c - l) - (h - c)) / (h - l) · v; a bar without range has no value and"
    " the sum restarts from zero behind it.",
    reference="Marc Chaikin, 1970s.",
    recursive=True,
    lead=TILE,
)


@kernel
def fill_flow(high, low, close, volume, still, begin, out):
    """Fill `out` f8[n] from bar `begin` on with money flow volume: volume weighted by where in the
    bar the close is, from -1 (low) to 1 (high); `still` where the bar has no range, NaN where
    something is missing."""
    stop = begin + out.size
    highs, lows, prices = high[begin:stop], low[begin:stop], close[begin:stop]
    amounts = volume[begin:stop]
    for t in range(out.size):
        top, bottom = np.float64(highs[t]), np.float64(lows[t])
        price, amount = np.float64(prices[t]), np.float64(amounts[t])
        reach = top - bottom
        flow = ((price - bottom) - (top - price)) / reach * amount
        none = still if price + amount == price + amount else np.nan
        out[t] = flow if reach != 0.0 else none


@kernel
def distribution(high, low, close, volume, still, first, since, total, out):
    """As `running_rows` asks."""
    flows = np.empty(TILE)
    for begin in range(first - since, close.size, TILE):
        part = flows[: min(TILE, close.size - begin)]
        fill_flow(high, low, close, volume, still, begin, part)
        total = add_tile(part, begin, total, first, out)
    return total


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
    carry: Carry | None = None,
) -> None:
    columns = series.high, series.low, series.close, series.volume
    running_rows(partial(distribution, *columns, np.nan), out, len(series), carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    line = np.full(series["close"].size, np.nan)
    total = 0.0
    for t in range(line.size):
        high, low, close, volume = (series[name][t] for name in DEFINITION.inputs)
        if math.isnan(high + low + close + volume) or high == low:
            total = 0.0
            continue
        total += ((close - low) - (high - close)) / (high - low) * volume
        line[t] = total
    return {"ad_line": line}


def settle(params: Mapping[str, Any]) -> int:
    return 0


def first(params: Mapping[str, Any], output: str) -> int:
    return 0
