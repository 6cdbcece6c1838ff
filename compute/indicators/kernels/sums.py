"""Rolling sums and means that neither drift nor depend on where the array begins.

Prefix sums restart at every absolute multiple of `BLOCK` bars; a frame holds the sums of one block
and of the block before it, relative to the boundary between them, so one subtraction gives any
window of up to `BLOCK` bars. Float32 prices sum exactly in float64 over a frame (24 bits of
mantissa, 12 of count). Where a sum must be free of cancellation, `window_sums` adds a suffix and a
prefix that meet at a multiple of the window and never subtracts.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.indicators.kernels.differences import ROWS, mean_4
from compute.jit import kernel

BLOCK = 2048
_SHORTEST_BLOCK = 1024  # its frame stays in L1, and a row is written by the page
_SHORT = 16  # bars: up to here adding every value beats two running sums
_TILE = 512


@kernel
def copy(values, out):
    """Copy `values` to the start of `out`; an assignment of slices is four times slower."""
    for k in range(values.size):
        out[k] = values[k]


@kernel
def load(x, begin, centre, buffer):
    """Fill `buffer` f8[n] with `x[begin + k] - centre`; NaN and bars outside the array are 0."""
    if begin >= 0 and begin + buffer.size <= x.size:
        values = x[begin : begin + buffer.size]
        for k in range(buffer.size):
            v = np.float64(values[k])
            buffer[k] = v - centre if v == v else 0.0
    else:
        for k in range(buffer.size):
            t = begin + k
            buffer[k] = x[t] - centre if 0 <= t < x.size and x[t] == x[t] else 0.0


@kernel
def prefix(values, sums):
    """Fill `sums` f8[n + 1] with the sums of the first 0..n values; n is a multiple of 4.

    Four quarters are summed side by side: one chain of additions would wait 3 cycles a bar.
    """
    quarter = values.size // 4
    x0, x1 = values[:quarter], values[quarter : 2 * quarter]
    x2, x3 = values[2 * quarter : 3 * quarter], values[3 * quarter :]
    y0, y1 = sums[1 : quarter + 1], sums[quarter + 1 : 2 * quarter + 1]
    y2, y3 = sums[2 * quarter + 1 : 3 * quarter + 1], sums[3 * quarter + 1 :]
    s0 = s1 = s2 = s3 = 0.0
    for k in range(quarter):
        s0 += x0[k]
        s1 += x1[k]
        s2 += x2[k]
        s3 += x3[k]
        y0[k] = s0
        y1[k] = s1
        y2[k] = s2
        y3[k] = s3
    sums[0] = 0.0
    s1 = s0 + s1
    s2 = s1 + s2
    for k in range(quarter):
        y1[k] += s0
        y2[k] += s1
        y3[k] += s2


@kernel
def advance(frame, block, x, start, buffer):
    """Slide `frame` f8[2·block + 1] to the block that begins at array index `start`.

    frame[block + 1 + k] is the sum of bars start .. start + k; the left half counts down from the
    boundary, so frame[i] - frame[i - w] is a window sum for every w up to `block`.
    """
    total = frame[2 * block]
    left, right = frame[:block], frame[block : 2 * block]
    for k in range(block):
        left[k] = right[k] - total
    load(x, start, 0.0, buffer)
    prefix(buffer, frame[block:])


@kernel
def first_block(first_bar, block):
    """Array index (zero or negative) at which the block that holds bar 0 begins."""
    return -(first_bar % block)


@kernel
def block_centre(x, begin, stop):
    """First value that is not NaN in bars [begin, stop), else 0: what deviations are taken from."""
    for t in range(begin, stop):
        if x[t] == x[t]:
            return np.float64(x[t])
    return 0.0


_ONE_ROW = np.zeros(1, np.int64)


def block_groups(
    windows: NDArray[np.int64], shortest: int = _SHORTEST_BLOCK
) -> list[tuple[int, NDArray[np.int64]]]:
    """Blocks (powers of two) and the rows, by ascending window, that each serves: the shortest of
    at least `shortest` bars that holds the window. It depends on no other row."""
    if windows.size == 1:  # as for each bar of a live run
        return [(max(shortest, 1 << (int(windows[0]) - 1).bit_length()), _ONE_ROW)]
    order = np.argsort(windows, kind="stable")
    blocks = np.maximum(shortest, 1 << np.ceil(np.log2(windows[order])).astype(np.int64))
    return [(int(block), order[blocks == block]) for block in np.unique(blocks)]


@kernel
def _means(x, first_bar, block, order, windows, out):
    bars = x.size
    frame, buffer, scales = np.zeros(2 * block + 1), np.empty(block), 1.0 / windows
    for start in range(first_block(first_bar, block), bars, block):
        advance(frame, block, x, start, buffer)
        begin, stop = max(start, 0), min(start + block, bars)
        at = block + 1 + begin - start
        done, count = 0, stop - begin
        while done + ROWS <= order.size:
            mean_4(frame, frame, at, order, done, windows, scales, 0.0, out, begin, count)
            done += ROWS
        for r in order[done:]:
            scale, row = scales[r], out[r, begin:stop]
            newest, oldest = frame[at:], frame[at - windows[r] :]
            for k in range(count):
                row[k] = (newest[k] - oldest[k]) * scale


def mean_rows(
    x: NDArray[np.floating],
    first_bar: int,
    windows: NDArray[np.int64],
    out: NDArray[np.floating],
) -> None:
    """Row r of `out` [R, T]: mean of the last `windows[r]` values; not blanked."""
    for block, order in block_groups(windows):
        _means(x, first_bar, block, order, windows, out)


@kernel
def _ratios(over, under, first_bar, block, order, windows, out):
    bars = over.size
    top, bottom = np.zeros(2 * block + 1), np.zeros(2 * block + 1)
    buffer = np.empty(block)
    for start in range(first_block(first_bar, block), bars, block):
        advance(top, block, over, start, buffer)
        advance(bottom, block, under, start, buffer)
        begin, stop = max(start, 0), min(start + block, bars)
        at = block + 1 + begin - start
        for r in order:
            w = windows[r]
            row = out[r, begin:stop]
            top_new, top_old = top[at:], top[at - w :]
            bottom_new, bottom_old = bottom[at:], bottom[at - w :]
            for k in range(stop - begin):
                share = bottom_new[k] - bottom_old[k]
                row[k] = (top_new[k] - top_old[k]) / share if share != 0.0 else np.nan


def ratio_rows(
    over: NDArray[np.float64],
    under: NDArray[np.float64],
    first_bar: int,
    windows: NDArray[np.int64],
    out: NDArray[np.floating],
) -> None:
    """Row r of `out` [R, T]: sum of `over` / sum of `under` in the window; not blanked."""
    for block, order in block_groups(windows):
        _ratios(over, under, first_bar, block, order, windows, out)


@kernel
def _short_sums(x, w, out):
    """Fill `out` f8[T] with sums of the last `w` values, added oldest first."""
    bars = x.size
    for begin in range(0, bars, _TILE):
        count = min(_TILE, bars - begin)
        sums = out[begin : begin + count]
        sums[:] = 0.0
        for back in range(w - 1, -1, -1):
            skip = max(0, back - begin)
            values, part = x[begin + skip - back : begin + count - back], sums[skip:]
            for k in range(count - skip):
                v = values[k]
                part[k] += v if v == v else 0.0


@kernel
def window_sums(x, first_bar, w, out):
    """Fill `out` f8[T] with sums of the last `w` values (f8[T]), free of cancellation.

    NaN and bars before the array count 0. A window is the suffix of one block of `w` bars and the
    prefix of the next; blocks end at absolute multiples of `w`. Both sums run in one loop, so that
    neither waits for the other. Short windows are simply added up.
    """
    bars = x.size
    if w <= _SHORT:
        _short_sums(x, w, out)
        return
    suffix = np.empty(w)
    for start in range(-(first_bar % w), bars, w):
        after = before = 0.0
        suffix[w - 1] = 0.0
        if start >= w and start + w <= bars:
            ahead, behind, sums = x[start : start + w], x[start - w : start], out[start : start + w]
            for k in range(w):
                v, u = ahead[k], behind[w - 1 - k]
                after += v if v == v else 0.0
                sums[k] = after
                suffix[w - 1 - k] = before
                before += u if u == u else 0.0
            for k in range(w):
                sums[k] += suffix[k]
        else:
            for k in range(w):
                t, u = start + k, start - 1 - k
                suffix[w - 1 - k] = before
                before += x[u] if 0 <= u < bars and x[u] == x[u] else 0.0
                if 0 <= t < bars:
                    after += x[t] if x[t] == x[t] else 0.0
                    out[t] = after
            for t in range(max(start, 0), min(start + w, bars)):
                out[t] += suffix[t - start]


@kernel
def valid_counts(x, out):
    """Fill `out` i8[T] with the number of values since the last NaN, the current one included."""
    count = 0
    for t in range(x.size):
        count = count + 1 if x[t] == x[t] else 0
        out[t] = count


@kernel
def window_means(values, first_bar, w, sums, counts, out):
    """Fill `out` [n] with means over `w` bars at the last n of f8[T] `values`, NaN where the window
    is not full.

    `sums` f8[T] and `counts` i8[T] are scratch.
    """
    window_sums(values, first_bar, w, sums)
    valid_counts(values, counts)
    totals, inside = sums[values.size - out.size :], counts[values.size - out.size :]
    for t in range(out.size):
        out[t] = totals[t] / w if inside[t] >= w else np.nan
