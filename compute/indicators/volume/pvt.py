"""Price volume trend."""

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
    indicator_id="volume.pvt",
    title="Price Volume Trend",
    group="volume",
    inputs=("close", "volume"),
    sources=(),
    params=(),
    axes=(),
    outputs=(Output("pvt", delta_rule(), ()),),
    primary="pvt",
    formula="Running sum of v (c - previous c) / previous c; nothing before the second bar.",
    reference="Textbook; a refinement of Joseph Granville's on-balance volume, 1963.",
    recursive=True,
    lead=TILE,
)


@kernel
def _fill_flow(close, volume, begin, out):
    out[: max(1 - begin, 0)] = np.nan
    first, stop = max(begin, 1), begin + out.size
    befores, prices = close[first - 1 : stop - 1], close[first:stop]
    amounts, flows = volume[first:stop], out[first - begin :]
    for t in range(flows.size):
        last = np.float64(befores[t])
        flow = (np.float64(prices[t]) - last) / last * np.float64(amounts[t])
        flows[t] = flow if last != 0.0 else np.nan


@kernel
def _line(close, volume, first, since, total, out):
    """As `running_rows` asks."""
    flows = np.empty(TILE)
    for begin in range(first - since, close.size, TILE):
        part = flows[: min(TILE, close.size - begin)]
        _fill_flow(close, volume, begin, part)
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
    line = partial(_line, series.close, series.volume)
    running_rows(line, out, len(series), carry)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    close, volume = series["close"], series["volume"]
    pvt = np.full(close.size, np.nan)
    total = 0.0
    for t in range(1, close.size):
        if math.isnan(close[t] + close[t - 1] + volume[t]) or close[t - 1] == 0.0:
            total = 0.0
            continue
        total += volume[t] * (close[t] - close[t - 1]) / close[t - 1]
        pvt[t] = total
    return {"pvt": pvt}


def settle(params: Mapping[str, Any]) -> int:
    return 1


def first(params: Mapping[str, Any], output: str) -> int:
    return 1
