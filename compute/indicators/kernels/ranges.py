"""True range."""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.series import BarSeries
from compute.jit import kernel


@kernel
def fill_true_range(high, low, close, out):
    """Fill `out` f8[T] with max(h - l, |h - pc|, |l - pc|), h - l where pc is missing."""
    previous = np.nan
    for t in range(high.size):
        top, bottom = np.float64(high[t]), np.float64(low[t])
        spread = top - bottom
        if spread == spread and previous == previous:
            spread = max(spread, max(abs(top - previous), abs(bottom - previous)))
        out[t] = spread
        previous = np.float64(close[t])


def true_range(series: BarSeries) -> NDArray[np.float64]:
    """True range f8[T]; NaN only where high or low is."""

    def build() -> NDArray[np.float64]:
        out = np.empty(len(series))
        fill_true_range(series.high, series.low, series.close, out)
        return out

    return series.derived("true_range", build)
