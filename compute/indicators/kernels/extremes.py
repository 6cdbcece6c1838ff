"""Rolling extremes of many windows by doubling: the maximum over w is that of two overlapping
power-of-two windows, so each row costs one comparison a bar."""

from __future__ import annotations

import numpy as np

from compute.jit import kernel

TILE = 2048
MIDDLE, UPPER, LOWER, PLACE, FALL = 0, 1, 2, 3, 4


@kernel
def _load(series, begin, count, buffer, outside):
    for k in range(count):
        t = begin + k
        buffer[k] = series[t] if t >= 0 else outside


@kernel
def _double(high, low, next_high, next_low, count, step):
    """Extremes over 2·step bars from those over `step`."""
    a, b, to = high[step:count], high[: count - step], next_high[step:count]
    for k in range(count - step):
        to[k] = a[k] if a[k] > b[k] else b[k]
    a, b, to = low[step:count], low[: count - step], next_low[step:count]
    for k in range(count - step):
        to[k] = a[k] if a[k] < b[k] else b[k]


@kernel
def channel_rows(high, low, price, windows, order, form, out):
    """Rows of `out` [R, T]: highest `high`, lowest `low` or their mean over each window; PLACE is
    100 (price - lowest) / (highest - lowest), FALL 100 (price - highest) / (highest - lowest), NaN
    where the two are equal.

    `order` sorts `windows` i8[R]. Not blanked: bars before a full window see fewer bars, and a NaN
    leaves garbage where the window holds it.
    """
    bars = high.size
    reach = windows[order[-1]]
    tops, lows = np.empty(TILE + reach, np.float32), np.empty(TILE + reach, np.float32)
    next_tops, next_lows = np.empty_like(tops), np.empty_like(lows)
    for begin in range(0, bars, TILE):
        n = min(TILE, bars - begin)
        count = n + reach
        _load(high, begin - reach, count, tops, np.float32(-np.inf))
        _load(low, begin - reach, count, lows, np.float32(np.inf))
        step = 1
        for r in order:
            while 2 * step <= windows[r]:
                _double(tops, lows, next_tops, next_lows, count, step)
                tops, next_tops = next_tops, tops
                lows, next_lows = next_lows, lows
                step *= 2
            back = windows[r] - step
            row = out[r, begin : begin + n]
            a, b = tops[reach:count], tops[reach - back : count - back]
            c, d = lows[reach:count], lows[reach - back : count - back]
            if form == MIDDLE:
                for k in range(n):
                    top = a[k] if a[k] > b[k] else b[k]
                    bottom = c[k] if c[k] < d[k] else d[k]
                    row[k] = 0.5 * (np.float64(top) + np.float64(bottom))
            elif form == UPPER:
                for k in range(n):
                    row[k] = a[k] if a[k] > b[k] else b[k]
            elif form >= PLACE:
                now = price[begin : begin + n]
                for k in range(n):
                    top = np.float64(a[k] if a[k] > b[k] else b[k])
                    bottom = np.float64(c[k] if c[k] < d[k] else d[k])
                    origin = bottom if form == PLACE else top
                    width = top - bottom if top != bottom else np.nan
                    row[k] = 100.0 * (np.float64(now[k]) - origin) / width
            else:
                for k in range(n):
                    row[k] = c[k] if c[k] < d[k] else d[k]


@kernel
def reach_back(values, sign, out):
    """Fill `out` i8[T]: distance to the nearest earlier value that is not below (`sign` 1) or not
    above (-1) this one; NaN and the start of the array count as such a value."""
    stack = np.empty(values.size + 1, np.int64)
    depth = 1
    stack[0] = -1
    for t in range(values.size):
        v = sign * values[t]
        if v != v:
            depth = 1
            stack[0] = t
            out[t] = 0
            continue
        while depth > 1 and sign * values[stack[depth - 1]] < v:
            depth -= 1
        out[t] = t - stack[depth - 1]
        stack[depth] = t
        depth += 1
