"""On-balance volume."""

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
    lead=TILE,
)


@kernel
def _fill_flow(close, volume, begin, out):
    """Fill `out` f8[n] with volume signed by the change of close, without a branch: it is a coin
    toss."""
    out[: max(1 - begin, 0)] = np.nan
    first, stop = max(begin, 1), begin + out.size
    befores, prices = close[first - 1 : stop - 1], close[first:stop]
    amounts, flows = volume[first:stop], out[first - begin :]
    for t in range(flows.size):
        gap = np.float64(prices[t]) - np.float64(befores[t])
        amount = np.float64(amounts[t])
        rise = amount if gap > 0.0 else 0.0
        fall = amount if gap < 0.0 else 0.0
        flows[t] = rise - fall if gap + amount == gap + amount else np.nan


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
    obv = np.full(close.size, np.nan)
    for t in range(1, close.size):
        flow = np.sign(close[t] - close[t - 1]) * volume[t]
        obv[t] = flow if math.isnan(obv[t - 1]) else obv[t - 1] + flow
    return {"obv": obv}


def settle(params: Mapping[str, Any]) -> int:
    return 1


def first(params: Mapping[str, Any], output: str) -> int:
    return 1
