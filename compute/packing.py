"""Comparisons of indicator rows packed as bits, tile by tile.

A row of a year of minutes is larger than the cache. All comparisons of both sides are therefore
done on one tile of it before the next: a row is read from memory once, whatever is asked of it.
"""

from __future__ import annotations

from collections.abc import Sequence

import numpy as np
from numpy.typing import NDArray

from compute.bits import infinite_word, put_between, put_both
from compute.bits import words as word_count
from compute.indicators.series import BarSeries
from compute.jit import kernel
from compute.rules import ABOVE, BETWEEN, FALLING, RISING, Side

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
        distinct = np.unique(lags)
        more, less = (
            _planes_of(lags, forms == way, distinct, place, step) for way in (RISING, FALLING)
        )
        _pack_lags(rows, distinct, more, less, start, stop, planes)
    else:
        _pack_references(rows, reference, forms == ABOVE, place, step, start, stop, planes)


def _planes_of(
    lags: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    distinct: NDArray[np.int64],
    place: NDArray[np.int64],
    step: NDArray[np.int64],
) -> NDArray[np.int64]:
    """First plane and step of each of the `distinct` lags among the `wanted` ones, -1 for none."""
    found = np.full((distinct.size, 2), -1, np.int64)
    for k in np.flatnonzero(wanted):
        found[np.searchsorted(distinct, lags[k])] = place[k], step[k]
    return found


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
def _exceeding_words(above, words, row, reference, start, begin, stop):
    """Words [begin, stop) of the votes `reference > row` (`above`) or `<`, bar by bar."""
    for w in range(begin, stop):
        t = start + 64 * w
        if above:
            words[w] = _exceeding(reference, t, row, t, 64)
        else:
            words[w] = _exceeding(row, t, reference, t, 64)


@kernel
def _pack_references(rows, reference, above, place, step, start, stop, planes):
    """Votes `reference > out` (`above[k]`) or `reference < out`.

    Both are made in one pass; where one is not wanted its words go to `spare`.
    """
    full, count = (stop - start) // 64, planes.shape[1]
    wild = _infinite(reference, start, stop)
    spare, longs, shorts = np.empty(count, np.uint64), -1, -1
    for k in range(place.size):
        longs, shorts = (k, shorts) if above[k] else (longs, k)
    for r in range(rows.shape[0]):
        row = rows[r]
        more = planes[place[longs] + r * step[longs]] if longs >= 0 else spare
        less = planes[place[shorts] + r * step[shorts]] if shorts >= 0 else spare
        for tile in range(0, full, _TILE):
            last = min(full, tile + _TILE)
            found = put_both(more, less, reference, start, row, start, tile, last)
            if wild or found:
                _exceeding_words(True, more, row, reference, start, tile, last)
                _exceeding_words(False, less, row, reference, start, tile, last)
        if full < count:
            t = start + 64 * full
            more[full] = _exceeding(reference, t, row, t, stop - t)
            less[full] = _exceeding(row, t, reference, t, stop - t)


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
def _pack_lags(rows, lags, more, less, start, stop, planes):
    """Votes `out > out[lags[k] ago]` in plane more[k] of the first row (each row's planes follow
    those of the row before; `more` i8[n, 2] holds plane and step) and `<` in less[k]; -1: not
    wanted, its words go to `spare`."""
    full, count, longest = (stop - start) // 64, planes.shape[1], lags.max()
    spare = np.empty(count, np.uint64)
    for r in range(rows.shape[0]):
        row = rows[r]
        slow = _infinite(row, max(0, start - longest), start)
        for tile in range(0, full, _TILE):
            last, found = min(full, tile + _TILE), False
            for k in range(lags.size):
                lag = lags[k]
                rising = planes[more[k, 0] + r * more[k, 1]] if more[k, 0] >= 0 else spare
                falling = planes[less[k, 0] + r * less[k, 1]] if less[k, 0] >= 0 else spare
                begin = tile
                while begin < last and (slow or start + 64 * begin < lag):
                    t = start + 64 * begin
                    rising[begin] = _moved(row, True, lag, t, 64)
                    falling[begin] = _moved(row, False, lag, t, 64)
                    begin += 1
                found = found | put_both(falling, rising, row, start - lag, row, start, begin, last)
                if found and not slow:
                    # An infinity is met again a lag later: from here on the row goes bar by bar.
                    slow = True
                    for w in range(tile, last):
                        rising[w] = _moved(row, True, lag, start + 64 * w, 64)
                        falling[w] = _moved(row, False, lag, start + 64 * w, 64)
        if full < count:
            t = start + 64 * full
            for k in range(lags.size):
                rising = planes[more[k, 0] + r * more[k, 1]] if more[k, 0] >= 0 else spare
                falling = planes[less[k, 0] + r * less[k, 1]] if less[k, 0] >= 0 else spare
                rising[full] = _moved(row, True, lags[k], t, stop - t)
                falling[full] = _moved(row, False, lags[k], t, stop - t)
