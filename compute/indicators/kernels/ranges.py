"""Movement within and between bars: true range, log returns, root means of range terms."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.kernels.sums import valid_counts, window_sums
from compute.indicators.series import BarSeries
from compute.jit import kernel


@kernel
def fill_true_range(high, low, close, out):
    """Fill `out` [T] with max(h - l, |h - pc|, |l - pc|), h - l where pc is missing."""
    if out.size:
        out[0] = np.float64(high[0]) - np.float64(low[0])
    highs, lows, before, ranges = high[1:], low[1:], close[: max(high.size - 1, 0)], out[1:]
    for t in range(ranges.size):
        top, bottom, last = highs[t], lows[t], before[t]
        # A comparison with NaN is false: a missing close leaves h - l.
        upper, lower = last if last > top else top, last if last < bottom else bottom
        ranges[t] = np.float64(upper) - np.float64(lower)


def true_range(series: BarSeries) -> NDArray[np.float64]:
    """True range f8[T]; NaN only where high or low is."""

    def build() -> NDArray[np.float64]:
        out = np.empty(len(series))
        fill_true_range(series.high, series.low, series.close, out)
        return out

    return series.derived("true_range", build)


def log_returns(series: BarSeries, source: str) -> NDArray[np.float64]:
    """ln(x / x1) f8[T]; NaN where a price is missing or not positive."""

    def build() -> NDArray[np.float64]:
        x = series.wide(source)
        x = np.where(x > 0.0, x, np.nan)
        return np.log(x / np.concatenate(([np.nan], x))[: x.size])

    return series.derived(f"returns:{source}", build)


@kernel
def root_mean_rows(terms, first_bar, windows, factor, out):
    """Row r of `out` f4[R, T]: `factor` · sqrt(mean of the last `windows[r]` terms f8[T]); a
    negative mean counts as 0."""
    sums, counts = np.empty(terms.size), np.empty(terms.size, np.int64)
    valid_counts(terms, counts)
    for r in range(windows.size):
        w = windows[r]
        window_sums(terms, first_bar, w, sums)
        row, scale = out[r], factor / np.sqrt(np.float64(w))
        for t in range(terms.size):
            total = sums[t] if sums[t] > 0.0 else 0.0
            row[t] = scale * np.sqrt(total) if counts[t] >= w else np.nan


@kernel
def apart_row(base, reach, factor, out):
    """Fill `out` f4[T] with `base` + `factor` · `reach`."""
    for t in range(out.size):
        out[t] = np.float64(base[t]) + factor * reach[t]
