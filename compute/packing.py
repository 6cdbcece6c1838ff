"""Comparisons of indicator rows packed as bits, tile by tile.

A row of a year of minutes is larger than the cache. All comparisons of both sides are therefore
done on one tile of it before the next: a row is read from memory once, whatever is asked of it.
"""

from __future__ import annotations

from collections.abc import Callable, Sequence

import numpy as np
from numpy.typing import NDArray

from compute.bits import infinite_word, put_between, put_both
from compute.bits import words as word_count
from compute.indicators.series import BarSeries
from compute.jit import kernel
from compute.rules import ABOVE, BETWEEN, FALLING, RISING, Side

_TILE = 64  # words: 16 KiB of floats
_MOST = np.finfo(np.float32).max


class Packer:
    """What the votes of some sides are compared with, and where they go, laid out for the kernels.

    `sides` are (side, first plane): plane `first + r * side.count + k` belongs to comparison k of
    output row r. All have forms of one kind (intervals, a reference, lags) and read one output.
    The candle direction of `side.body` is not applied here.
    """

    def __init__(self, sides: Sequence[tuple[Side, int]]) -> None:
        both = [side for side, _ in sides]
        counts = [side.count for side in both]
        self.form, self.comparisons = both[0].form, sum(counts)
        place = np.concatenate([at + np.arange(side.count) for side, at in sides])
        self.place = np.stack([place, np.repeat(counts, counts)])
        self.forms = np.repeat([side.form for side in both], counts)
        self.above = self.forms == ABOVE
        self.low, self.high, self.lag = (
            np.concatenate([getattr(side, name) for side in both])
            for name in ("low", "high", "lag")
        )
        self.lags = np.unique(self.lag) if self.form >= RISING else np.empty(0, np.int64)
        self.more, self.less = (
            _planes_of(self.lag, self.forms == way, self.lags, self.place)
            for way in (RISING, FALLING)
        )

    def put(
        self,
        row: int,
        rows: NDArray[np.float32],
        start: int,
        stop: int,
        reference: NDArray[np.float32],
        begin: int,
        planes: NDArray[np.uint64],
        word: int = 0,
    ) -> None:
        """Write the votes of `rows` f4[R, T], the output rows from `row` on, on bars [start, stop).

        They fill `planes` u8[planes, W] from `word` on. Bar `start` of `rows` is bar `begin` of
        `reference`; lags read before `start`.
        """
        if self.form == BETWEEN:
            _pack_intervals(rows, self.low, self.high, self.place, row, start, stop, planes, word)
        elif self.form >= RISING:
            _pack_lags(rows, self.lags, self.more, self.less, row, start, stop, planes, word)
        else:
            _pack_references(
                rows, reference, begin, self.above, self.place, row, start, stop, planes, word
            )


Packing = Callable[[Sequence[tuple[Side, int]], int, int], Packer]
"""(sides, values of their output, calls that bring them) -> what packs those sides."""


def _planes_of(
    lags: NDArray[np.int64],
    wanted: NDArray[np.bool_],
    distinct: NDArray[np.int64],
    place: NDArray[np.int64],
) -> NDArray[np.int64]:
    """First plane and step of each of the `distinct` lags among the `wanted` ones, -1 for none."""
    found = np.full((distinct.size, 2), -1, np.int64)
    if distinct.size:
        chosen = np.flatnonzero(wanted)
        found[np.searchsorted(distinct, lags[chosen])] = place[:, chosen].T
    return found


def body_words(series: BarSeries, start: int, stop: int, body: int) -> NDArray[np.uint64]:
    """Words of bars [start, stop) whose candle closed up (`body` 1) or down (-1)."""
    out = np.empty((1, word_count(stop - start)), np.uint64)
    one = np.zeros((2, 1), np.int64)
    rows, above = series.open.reshape(1, -1), np.array([body > 0])
    _pack_references(rows, series.close, start, above, one, 0, start, stop, out, 0)
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
def inside_word(row, begin, count, low, high):
    """`count` votes `low <= row <= high` from bar `begin` on, bar by bar."""
    word = np.uint64(0)
    for i in range(count):
        if low <= row[begin + i] <= high:
            word |= np.uint64(1) << np.uint64(i)
    return word


@kernel
def _pack_intervals(rows, low, high, place, first, start, stop, planes, word):
    """Votes `low[k] <= out <= high[k]`; closed finite bounds leave infinities out."""
    full, count = (stop - start) // 64, (stop - start + 63) // 64
    for r in range(rows.shape[0]):
        row = rows[r]
        for tile in range(0, full, _TILE):
            last = min(full, tile + _TILE)
            for k in range(place.shape[1]):
                words = planes[place[0, k] + (first + r) * place[1, k]]
                least, most = low[k], high[k]
                for w in range(tile, last):
                    put_between(words, word + w, row, start + 64 * w, least, most)
        if full < count:
            for k in range(place.shape[1]):
                t = start + 64 * full
                votes = inside_word(row, t, stop - t, low[k], high[k])
                planes[place[0, k] + (first + r) * place[1, k], word + full] = votes


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
def _exceeding_words(above, words, row, start, reference, at, begin, stop):
    """Words [begin, stop) of the votes `reference > row` (`above`) or `<`, bar by bar."""
    for w in range(begin, stop):
        t, u = start + 64 * w, at + 64 * w
        if above:
            words[w] = _exceeding(reference, u, row, t, 64)
        else:
            words[w] = _exceeding(row, t, reference, u, 64)


@kernel
def _pack_references(rows, reference, at, above, place, first, start, stop, planes, word):
    """Votes `reference > out` (`above[k]`) or `reference < out`.

    Both are made in one pass; where one is not wanted its words go to `spare`.
    """
    full, count = (stop - start) // 64, (stop - start + 63) // 64
    wild = _infinite(reference, at, at + stop - start)
    spare, longs, shorts = np.empty(count, np.uint64), -1, -1
    for k in range(above.size):
        longs, shorts = (k, shorts) if above[k] else (longs, k)
    for r in range(rows.shape[0]):
        row, more, less = rows[r], spare, spare
        if longs >= 0:
            more = planes[place[0, longs] + (first + r) * place[1, longs], word : word + count]
        if shorts >= 0:
            less = planes[place[0, shorts] + (first + r) * place[1, shorts], word : word + count]
        for tile in range(0, full, _TILE):
            last = min(full, tile + _TILE)
            found = put_both(more, less, reference, at, row, start, tile, last)
            if wild or found:
                _exceeding_words(True, more, row, start, reference, at, tile, last)
                _exceeding_words(False, less, row, start, reference, at, tile, last)
        if full < count:
            t, u = start + 64 * full, at + 64 * full
            more[full] = _exceeding(reference, u, row, t, stop - t)
            less[full] = _exceeding(row, t, reference, u, stop - t)


@kernel
def moved_word(row, rising, lag, begin, count):
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
def _pack_lags(rows, lags, more, less, first, start, stop, planes, word):
    """Votes `out > out[lags[k] ago]` in plane more[k, 0] + r · more[k, 1] and `<` in that of less;
    -1: not wanted, its words go to `spare`."""
    full, count, longest = (stop - start) // 64, (stop - start + 63) // 64, lags.max()
    spare, end = np.empty(count, np.uint64), word + count
    for i in range(rows.shape[0]):
        row, r = rows[i], first + i
        slow = _infinite(row, max(0, start - longest), start)
        for tile in range(0, full, _TILE):
            last, found = min(full, tile + _TILE), False
            for k in range(lags.size):
                lag, rising, falling = lags[k], spare, spare
                if more[k, 0] >= 0:
                    rising = planes[more[k, 0] + r * more[k, 1], word:end]
                if less[k, 0] >= 0:
                    falling = planes[less[k, 0] + r * less[k, 1], word:end]
                begin = tile
                while begin < last and (slow or start + 64 * begin < lag):
                    t = start + 64 * begin
                    rising[begin] = moved_word(row, True, lag, t, 64)
                    falling[begin] = moved_word(row, False, lag, t, 64)
                    begin += 1
                found = found | put_both(falling, rising, row, start - lag, row, start, begin, last)
                if found and not slow:
                    # An infinity is met again a lag later: from here on the row goes bar by bar.
                    slow = True
                    for w in range(tile, last):
                        rising[w] = moved_word(row, True, lag, start + 64 * w, 64)
                        falling[w] = moved_word(row, False, lag, start + 64 * w, 64)
        if full < count:
            t = start + 64 * full
            for k in range(lags.size):
                if more[k, 0] >= 0:
                    votes = moved_word(row, True, lags[k], t, stop - t)
                    planes[more[k, 0] + r * more[k, 1], word + full] = votes
                if less[k, 0] >= 0:
                    votes = moved_word(row, False, lags[k], t, stop - t)
                    planes[less[k, 0] + r * less[k, 1], word + full] = votes
