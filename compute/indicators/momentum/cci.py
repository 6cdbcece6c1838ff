"""Commodity channel index."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Span, band_rule, window
from compute.indicators.kernels.holes import blank, flat_runs, pin
from compute.indicators.kernels.sums import BLOCK, block_centre, first_block, load, prefix
from compute.indicators.series import BarSeries
from compute.jit import kernel

DEFINITION = Definition(
    indicator_id="momentum.cci",
    title="Commodity Channel Index",
    group="momentum",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window(default=14),),
    axes=("window",),
    outputs=(Output("cci", band_rule("int", Span(-200, -50, 25), Span(50, 200, 25)), ("window",)),),
    primary="cci",
    formula="(TP - m) / (0.015 D), TP = (h + l + c) / 3, m its mean over w bars and D the mean of"
    " |TP - m| over the same bars, all from the current m; nothing where D is 0.",
    reference="Donald Lambert, Commodities magazine, 1980.",
    slow=True,
)
_TILE = 256


@kernel
def _upper_sums(values, means, at, w, total):
    """Fill `total` f8[n] with the sum over the last `w` values of max(value, mean).

    Frame index `at` + k is the newest bar of window k. Eight lags a pass: the running total is
    read and written an eighth as often.
    """
    total[:] = 0.0
    back = 0
    while back + 8 <= w:
        a, b = values[at - back :], values[at - back - 1 :]
        c, d = values[at - back - 2 :], values[at - back - 3 :]
        e, f = values[at - back - 4 :], values[at - back - 5 :]
        g, h = values[at - back - 6 :], values[at - back - 7 :]
        for k in range(total.size):
            m = means[k]
            first = (a[k] if a[k] > m else m) + (b[k] if b[k] > m else m)
            second = (c[k] if c[k] > m else m) + (d[k] if d[k] > m else m)
            third = (e[k] if e[k] > m else m) + (f[k] if f[k] > m else m)
            fourth = (g[k] if g[k] > m else m) + (h[k] if h[k] > m else m)
            total[k] += (first + second) + (third + fourth)
        back += 8
    while back < w:
        a = values[at - back :]
        for k in range(total.size):
            m = means[k]
            total[k] += a[k] if a[k] > m else m
        back += 1


@kernel
def _channel(x, first_bar, windows, out):
    """Row r of `out` f4[R, T]. Not blanked.

    `x` f8[T] is three times the typical price, whose sums are exact. As the deviations from the
    mean cancel, w · D is twice the sum of max(x, m) - m. That sum over the window's bars (0.09 ns a
    bar) beats trees of order statistics (some 50 ns a value) up to windows of 500 bars.
    """
    bars = x.size
    values, sums = np.empty(2 * BLOCK), np.empty(2 * BLOCK + 1)
    means, total = np.empty(_TILE), np.empty(_TILE)
    for start in range(first_block(first_bar, BLOCK), bars, BLOCK):
        begin, stop = max(start, 0), min(start + BLOCK, bars)
        load(x, start - BLOCK, block_centre(x, begin, stop), values)
        prefix(values, sums)
        for tile in range(begin, stop, _TILE):
            count, at = min(_TILE, stop - tile), BLOCK + tile - start
            for r in range(windows.size):
                w = windows[r]
                newest, oldest = sums[at + 1 :], sums[at + 1 - w :]
                for k in range(count):
                    means[k] = (newest[k] - oldest[k]) / w
                _upper_sums(values, means, at, w, total[:count])
                row, now = out[r, tile : tile + count], values[at:]
                for k in range(count):
                    summed = newest[k] - oldest[k]
                    apart = 0.03 * (total[k] - summed)
                    row[k] = (now[k] * w - summed) / apart if apart > 0.0 else np.nan


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    windows = params["window"]
    typical = series.derived("typical sum", lambda: _typical(series))
    _channel(typical, series.first_bar, windows, out)
    still = flat_runs(typical, int(windows.min()))
    pin(out, still, np.full(len(still), np.nan, np.float32), windows)
    blank(out, series.holes("high", "low", "close"), windows - 1, windows)


def _typical(series: BarSeries) -> NDArray[np.float64]:
    return series.wide("high") + series.wide("low") + series.wide("close")


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    typical = (series["high"] + series["low"] + series["close"]) / 3
    w, value = params["window"], np.full(typical.size, np.nan)
    for t in range(w - 1, typical.size):
        inside = typical[t - w + 1 : t + 1]
        mean = np.mean(inside)
        deviation = np.mean(np.abs(inside - mean))
        if np.max(inside) != np.min(inside):
            value[t] = (typical[t] - mean) / (0.015 * deviation)
    return {"cci": value}


def settle(params: Mapping[str, Any]) -> int:
    return params["window"] - 1


def first(params: Mapping[str, Any], output: str) -> int:
    return params["window"] - 1
