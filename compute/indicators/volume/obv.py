"""On-balance volume."""

from __future__ import annotations

import math
from collections.abc import Callable, Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, delta_rule
from compute.indicators.series import BarSeries
from compute.jit import kernel

_TILE = 1024
_PIECE = 1 << 16  # bars: flows of that many stay in the second-level cache
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
def _chains(values, sums):
    """Fill `sums` f8[_TILE] with the running sum of each eighth of `values` f8[_TILE].

    They run side by side: one chain of additions would wait 3 cycles a bar.
    """
    n = _TILE // 8
    x0, x1, x2, x3 = values[:n], values[n : 2 * n], values[2 * n : 3 * n], values[3 * n : 4 * n]
    x4, x5, x6 = values[4 * n : 5 * n], values[5 * n : 6 * n], values[6 * n : 7 * n]
    y0, y1, y2, y3 = sums[:n], sums[n : 2 * n], sums[2 * n : 3 * n], sums[3 * n : 4 * n]
    y4, y5, y6 = sums[4 * n : 5 * n], sums[5 * n : 6 * n], sums[6 * n : 7 * n]
    x7, y7 = values[7 * n :], sums[7 * n :]
    s0 = s1 = s2 = s3 = s4 = s5 = s6 = s7 = 0.0
    for k in range(n):
        s0 += x0[k]
        s1 += x1[k]
        s2 += x2[k]
        s3 += x3[k]
        s4 += x4[k]
        s5 += x5[k]
        s6 += x6[k]
        s7 += x7[k]
        y0[k], y1[k], y2[k], y3[k] = s0, s1, s2, s3
        y4[k], y5[k], y6[k], y7[k] = s4, s5, s6, s7


@kernel
def _accumulate(flows, total, out):
    """Fill `out` [n] with the sum of `flows` f8[n], begun with `total`, and return the last one.

    It restarts after every NaN: a tile with a NaN is summed in the same order up to there, so that
    no sum depends on what follows it, and bar by bar behind.
    """
    tile, sums = np.zeros(_TILE), np.empty(_TILE)
    for begin in range(0, flows.size, _TILE):
        part, row = flows[begin : begin + _TILE], out[begin : begin + _TILE]
        if part.size == _TILE:
            _chains(part, sums)
        else:
            for k in range(part.size):
                tile[k] = part[k]
            _chains(tile, sums)
        for at in range(0, part.size, _TILE // 8):
            count = min(_TILE // 8, part.size - at)
            chain, values = sums[at : at + count], row[at : at + count]
            for k in range(count):
                values[k] = total + chain[k]
            total += chain[count - 1]
        if total == total:
            continue
        lost = 0
        while lost < part.size and part[lost] == part[lost]:
            lost += 1
        total = 0.0
        for k in range(lost, part.size):
            total = total + part[k] if part[k] == part[k] else 0.0
            row[k] = total if part[k] == part[k] else np.nan
    return total


def running(fill: Callable[[int, NDArray[np.float64]], None], out: NDArray[np.floating]) -> None:
    """Fill `out` [T] with the running sum of flows, which restarts after every NaN among them.

    `fill(begin, flows)` writes the flows of bars begin, begin + 1, ...
    """
    total, flows = 0.0, np.empty(min(_PIECE, out.size))
    for begin in range(0, out.size, _PIECE):
        row = out[begin : begin + _PIECE]
        fill(begin, flows[: row.size])
        total = _accumulate(flows[: row.size], total, row)


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


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    running(lambda begin, flows: _fill_flow(series.close, series.volume, begin, flows), out[0])
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
