"""Comparisons of indicator rows packed as bits, tile by tile.

A row of a year of minutes is larger than the cache. All comparisons of both sides are therefore
done on one tile of it before the next: a row is read from memory once, whatever is asked of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compute.bits import infinite_word, put_between, put_greater
from compute.bits import words as word_count
from compute.indicators.series import BarSeries
from compute.jit import kernel
from compute.rules import ABOVE, BETWEEN, RISING, Side

_TILE = 64  # words: 16 KiB of floats
_MOST = np.finfo(np.float32).max


def pack(
    sides: Sequence[tuple[Side, int]],
    rows: NDArray[np.float32],
    reference: NDArray[np.float32],
    start: int,
    stop: int,
    planes: NDArray[np.uint64],
) -> None:
    """Write the votes of `rows` f4[R, T] on bars [start, stop) into `planes` u8[rows, W].

    `sides` are (side, first plane): plane `first + r * side.count + k` receives comparison k of
    output row r. All sides have forms of one kind (intervals, a reference, lags) and read the same
    output; lags read before `start`. The candle direction of `side.body` is not applied here.
    """
    place = np.concatenate([first + np.arange(side.count) for side, first in sides])
    step = np.concatenate([np.full(side.count, side.count) for side, _ in sides])
    forms = np.concatenate([np.full(side.count, side.form) for side, _ in sides])
    form = sides[0][0].form
    if form == BETWEEN:
        low = np.concatenate([side.low for side, _ in sides])
        high = np.concatenate([side.high for side, _ in sides])
        _pack_intervals(rows, low, high, place, step, start, stop, planes)
    elif form >= RISING:
        lags = np.concatenate([side.lag for side, _ in sides])
        _pack_lags(rows, lags, forms == RISING, place, step, start, stop, planes)
    else:
        _pack_references(rows, reference, forms == ABOVE, place, step, start, stop, planes)


def body_words(series: BarSeries, start: int, stop: int, body: int) -> NDArray[np.uint64]:
    """Words of bars [start, stop) whose candle closed up (`body` 1) or down (-1)."""
    out = np.empty((1, word_count(stop - start)), np.uint64)
    one = np.zeros(1, np.int64)
    rows, above = series.open.reshape(1, -1), np.array([body > 0])
    _pack_references(rows, series.close, above, one, one, start, stop, out)
    return out[0]


@kernel
def _infinite(values, begin, stop):
    """Whether an infinity is among values [begin, stop)."""
    t = begin
    while t + 64 <= stop:
        if infinite_word(values, t):
            return True
        t += 64
    while t < stop:
        if abs(values[t]) > _MOST:
            return True
        t += 1
    return False


@kernel
def _pack_intervals(rows, low, high, place, step, start, stop, planes):
    """Votes `low[k] <= out <= high[k]`; closed finite bounds leave infinities out."""
    full, count = (stop - start) // 64, planes.shape[1]
    for r in range(rows.shape[0]):
        row = rows[r]
        for tile in range(0, full, _TILE):
            last = min(full, tile + _TILE)
            for k in range(place.size):
                words, least, most = planes[place[k] + r * step[k]], low[k], high[k]
                for w in range(tile, last):
                    put_between(words, w, row, start + 64 * w, least, most)
        if full < count:
            for k in range(place.size):
                word = np.uint64(0)
                for t in range(start + 64 * full, stop):
                    if low[k] <= row[t] <= high[k]:
                        word |= np.uint64(1) << np.uint64(t - start - 64 * full)
                planes[place[k] + r * step[k], full] = word


@kernel
def _exceeding(left, at_left, right, at_right, count):
    """`count` votes `left > right`, both finite, bar by bar."""
    word = np.uint64(0)
    for i in range(count):
        a, b = left[at_left + i], right[at_right + i]
        if a > b and a <= _MOST and b >= -_MOST:
            word |= np.uint64(1) << np.uint64(i)
    return word


@kernel
def _pack_references(rows, reference, above, place, step, start, stop, planes):
    """Votes `reference > out` (`above[k]`) or `reference < out`."""
    full, count = (stop - start) // 64, planes.shape[1]
    wild = _infinite(reference, start, stop)
    for r in range(rows.shape[0]):
        row = rows[r]
        for tile in range(0, full, _TILE):
            last = min(full, tile + _TILE)
            slow = wild or _infinite(row, start + 64 * tile, start + 64 * last)
            for k in range(place.size):
                words = planes[place[k] + r * step[k]]
                if slow:
                    for w in range(tile, last):
                        t = start + 64 * w
                        if above[k]:
                            words[w] = _exceeding(reference, t, row, t, 64)
                        else:
                            words[w] = _exceeding(row, t, reference, t, 64)
                elif above[k]:
                    for w in range(tile, last):
                        put_greater(words, w, reference, start + 64 * w, row, start + 64 * w)
                else:
                    for w in range(tile, last):
                        put_greater(words, w, row, start + 64 * w, reference, start + 64 * w)
        if full < count:
            t = start + 64 * full
            for k in range(place.size):
                if above[k]:
                    word = _exceeding(reference, t, row, t, stop - t)
                else:
                    word = _exceeding(row, t, reference, t, stop - t)
                planes[place[k] + r * step[k], full] = word


@kernel
def _moved(row, rising, lag, begin, count):
    """Votes of `count` bars from `begin`, bar by bar: none without history."""
    short = min(max(lag - begin, 0), count)
    if short == count:
        return np.uint64(0)
    t = begin + short
    if rising:
        word = _exceeding(row, t, row, t - lag, count - short)
    else:
        word = _exceeding(row, t - lag, row, t, count - short)
    return word << np.uint64(short)


@kernel
def _pack_lags(rows, lags, rising, place, step, start, stop, planes):
    """Votes `out > out[lag ago]` (`rising[k]`) or `out < out[lag ago]`."""
    full, count, longest = (stop - start) // 64, planes.shape[1], lags.max()
    for r in range(rows.shape[0]):
        row = rows[r]
        slow = _infinite(row, max(0, start - longest), start)
        for tile in range(0, full, _TILE):
            last = min(full, tile + _TILE)
            # An infinity is met again a lag later: from the first one on, a row goes bar by bar.
            slow = slow or _infinite(row, start + 64 * tile, start + 64 * last)
            for k in range(place.size):
                words, lag = planes[place[k] + r * step[k]], lags[k]
                for w in range(tile, last):
                    t = start + 64 * w
                    if slow or t < lag:
                        words[w] = _moved(row, rising[k], lag, t, 64)
                    elif rising[k]:
                        put_greater(words, w, row, t, row, t - lag)
                    else:
                        put_greater(words, w, row, t - lag, row, t)
        if full < count:
            t = start + 64 * full
            for k in range(place.size):
                planes[place[k] + r * step[k], full] = _moved(row, rising[k], lags[k], t, stop - t)
