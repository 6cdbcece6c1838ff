"""True range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.series import BarSeries
from compute.jit import kernel


@kernel
def fill_true_range(high, low, close, out):
    """Fill `out` f8[T] with max(h - l, |h - pc|, |l - pc|), h - l where pc is missing."""
    if out.size:
        out[0] = np.float64(high[0]) - np.float64(low[0])
    highs, lows, before, ranges = high[1:], low[1:], close[: max(high.size - 1, 0)], out[1:]
    for t in range(ranges.size):
        top, bottom, last = np.float64(highs[t]), np.float64(lows[t]), np.float64(before[t])
        # A comparison with NaN is false: a missing close leaves h - l.
        ranges[t] = (last if last > top else top) - (last if last < bottom else bottom)


def true_range(series: BarSeries) -> NDArray[np.float64]:
    """True range f8[T]; NaN only where high or low is."""

    def build() -> NDArray[np.float64]:
        out = np.empty(len(series))
        fill_true_range(series.high, series.low, series.close, out)
        return out

    return series.derived("true_range", build)
