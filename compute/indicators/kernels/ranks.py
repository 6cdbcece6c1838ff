"""Percentile ranks: each lag is compared once for all windows that hold it."""

from __future__ import annotations

import numpy as np

from compute.jit import kernel

_TILE = 2048


@kernel
def rank_rows(x, lags, order, own, widths, out):
    """Row r of `out` f4[R, T]: 100 (`own` + how many of the values 1..lags[r] bars ago are not
    above this one) / `widths[r]`. `order` sorts `lags` i8[R]. Not blanked."""
    counts = np.empty(_TILE, np.int32)
    one, none = np.int32(1), np.int32(0)
    for begin in range(0, x.size, _TILE):
        n = min(_TILE, x.size - begin)
        counts[:n] = own
        lag = 1
        for r in order:
            while lag <= lags[r]:
                skip = min(max(0, lag - begin), n)
                now, then = x[begin + skip : begin + n], x[begin + skip - lag : begin + n - lag]
                inside = counts[skip:n]
                for k in range(n - skip):
                    inside[k] += one if then[k] <= now[k] else none
                lag += 1
            row, scale = out[r, begin : begin + n], 100.0 / widths[r]
            for k in range(n):
                row[k] = counts[k] * scale
