"""Ultimate oscillator."""

from __future__ import annotations

import math
from collections.abc import Mapping
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.indicators.definition import Definition, Output, Span, band_rule, window
from compute.indicators.kernels.holes import blank
from compute.indicators.kernels.sums import BLOCK, advance, first_block
from compute.indicators.series import BarSeries
from compute.jit import kernel

_AXES = ("short_window", "medium_window", "long_window")
DEFINITION = Definition(
    indicator_id="momentum.ultimate",
    title="Ultimate Oscillator",
    group="momentum",
    inputs=("high", "low", "close"),
    sources=(),
    params=(window("short_window", 7), window("medium_window", 14), window("long_window", 28)),
    axes=_AXES,
    outputs=(Output("ultimate", band_rule("int", Span(20, 40, 5), Span(60, 80, 5)), _AXES),),
    primary="ultimate",
    formula="100 (4 A(short) + 2 A(medium) + A(long)) / 7, A(w) = sum(c - min(l, c1), w) /"
    " sum(max(h, c1) - min(l, c1), w); nothing where a window has no range.",
    reference="Larry Williams, Stocks & Commodities, 1985.",
)


@kernel
def _pressures(close, low, high, before, buying, ranges):
    """Fill `buying` and `ranges` f8[T]; NaN where the previous close `before` is missing."""
    for t in range(close.size):
        last = before[t]
        bottom = last if last < low[t] else low[t]
        top = last if last > high[t] else high[t]
        known = last - last
        buying[t] = close[t] - bottom + known
        ranges[t] = top - bottom + known


@kernel
def _blend(buying, ranges, first_bar, windows, at, out):
    """Row r of `out` f4[R, T] from the distinct `windows`, of which it reads `at[:, r]`. Sums of
    float32 prices are exact, so a window without range is exactly 0."""
    bars = buying.size
    over, under, buffer = np.zeros(2 * BLOCK + 1), np.zeros(2 * BLOCK + 1), np.empty(BLOCK)
    shares = np.empty((windows.size, BLOCK))
    for start in range(first_block(first_bar, BLOCK), bars, BLOCK):
        advance(over, BLOCK, buying, start, buffer)
        advance(under, BLOCK, ranges, start, buffer)
        begin, stop = max(start, 0), min(start + BLOCK, bars)
        newest = BLOCK + 1 + begin - start
        for i in range(windows.size):
            w, share = windows[i], shares[i]
            a, b, c, d = over[newest:], over[newest - w :], under[newest:], under[newest - w :]
            for k in range(stop - begin):
                reach = c[k] - d[k]
                share[k] = (a[k] - b[k]) / reach if reach != 0.0 else np.nan
        for r in range(out.shape[0]):
            x, y, z = shares[at[0, r]], shares[at[1, r]], shares[at[2, r]]
            row = out[r, begin:stop]
            for k in range(stop - begin):
                row[k] = (100.0 / 7.0) * (4.0 * x[k] + 2.0 * y[k] + z[k])


def _build(series: BarSeries) -> NDArray[np.float64]:
    close = series.wide("close")
    before = np.concatenate(([np.nan], close))[: close.size]
    both = np.empty((2, close.size))
    _pressures(close, series.wide("low"), series.wide("high"), before, both[0], both[1])
    return both


def rows(
    series: BarSeries,
    params: Mapping[str, NDArray[Any]],
    source: str,
    output: str,
    out: NDArray[np.float32],
) -> None:
    buying, ranges = series.derived("ultimate", lambda: _build(series))
    holes = series.derived("holes:ultimate", lambda: np.flatnonzero(np.isnan(buying + ranges)))
    sets = np.stack([params[name] for name in _AXES])
    windows, at = np.unique(sets, return_inverse=True)
    _blend(buying, ranges, series.first_bar, windows, at.reshape(sets.shape), out)
    longest = sets.max(axis=0)
    blank(out, holes, longest, longest)


def oracle(
    series: Mapping[str, NDArray[np.float64]], params: Mapping[str, Any]
) -> dict[str, NDArray[np.float64]]:
    high, low, close = series["high"], series["low"], series["close"]
    value = np.full(close.size, np.nan)
    before = np.concatenate(([np.nan], close))[: close.size]
    bottom, top = np.minimum(low, before), np.maximum(high, before)
    for t in range(max(params[name] for name in _AXES), close.size):
        total = 0.0
        for name, weight in zip(_AXES, (4, 2, 1), strict=True):
            inside = slice(t - params[name] + 1, t + 1)
            reach = np.sum(top[inside] - bottom[inside])
            total += weight * np.sum(close[inside] - bottom[inside]) / (reach or math.nan)
        value[t] = 100 * total / 7
    return {"ultimate": value}


def settle(params: Mapping[str, Any]) -> int:
    return max(params["short_window"], params["medium_window"], params["long_window"])


def first(params: Mapping[str, Any], output: str) -> int:
    return max(params["short_window"], params["medium_window"], params["long_window"])
