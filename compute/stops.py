"""Stop levels of one base variant scored together: one walk per run finds every level's first touch.

A stop never moves an entry, so a run's trade under (SL i, TP j) exits at the earliest of its end, the
first touch of SL i and the first touch of TP j. Levels are sorted ascending, hence touched in order: SL i,
touched after c TP levels, is the exit of every pair (i, ≥ c); TP j, touched after r SL levels, that of
every pair (≥ r, j); the run's end serves the pairs beyond both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compute.account import FIXED_QUOTE, PROFIT_LOCK, factors
from compute.jit import kernel
from compute.words import EVEN, NEAR


class Levels(NamedTuple):
    """Sorted stop rates of a risk grid; `inf` (disabled) comes last and is never touched."""

    sl: NDArray[np.float64]
    tp: NDArray[np.float64]
    pair: NDArray[np.int64]  # [S, T] risk index of (sorted SL i, sorted TP j)


def levels(sl_pct: tuple[float | None, ...], tp_pct: tuple[float | None, ...]) -> Levels:
    """`Levels` of two axes in percent (None: disabled), SL outer and TP inner."""
    sl = np.array([np.inf if value is None else value / 100 for value in sl_pct])
    tp = np.array([np.inf if value is None else value / 100 for value in tp_pct])
    by_sl = np.argsort(sl, kind="stable")
    by_tp = np.argsort(tp, kind="stable")
    pair = by_sl[:, None] * len(tp) + by_tp[None, :]
    return Levels(sl[by_sl], tp[by_tp], np.ascontiguousarray(pair))


class Cells(NamedTuple):
    """Scratch of one thread for S × T pairs."""

    by_sl: NDArray[np.float64]  # [S + 1, T + 1] factors that hold from this TP level on
    by_tp: NDArray[np.float64]  # [S + 1, T + 1] factors that hold from this SL level on
    by_end: NDArray[np.float64]  # [S + 1, T + 1] factors that hold from this cell on
    gain_sl: NDArray[np.float64]  # [S] net per unit at the touch of SL i
    gain_tp: NDArray[np.float64]  # [T]
    before: NDArray[np.int64]  # [S]
    gains: NDArray[np.float64]  # [S, T] net per unit of one run under every pair
    available: NDArray[np.float64]  # [S, T]
    least: NDArray[np.float64]  # [S, T]
    won: NDArray[np.float64]  # [S, T]
    lost: NDArray[np.float64]  # [S, T]


def cells(levels: Levels) -> Cells:
    """Fresh `Cells` for these levels."""
    s, t = levels.pair.shape
    wide = [np.ones((s + 1, t + 1)) for _ in range(3)]
    pairs = [np.empty((s, t)) for _ in range(5)]
    return Cells(*wide, np.empty(s), np.empty(t), np.empty(s, np.int64), *pairs)


@kernel
def real_levels(rates):
    """Number of levels that can be touched."""
    count = 0
    for rate in rates:
        count += rate < np.inf
    return count


@kernel
def touch_factors(
    close, entry, exit_, side, runs, slippage, a_long, b_long, a_short, b_short,
    sl, tp, real_sl, real_tp, by_sl, by_tp, by_end,
):  # fmt: skip
    """Smallest factor; multiplies each run's factors into the cells from which on they hold.

    One flat loop over plain arrays: as functions with tuples of arrays it cost five times as much.
    """
    least = 1.0
    for r in range(runs):
        if side[r] > 0:
            sign, a, b = 1.0, a_long, b_long
        else:
            sign, a, b = -1.0, a_short, b_short
        slope = b / close[entry[r]]
        fill = close[entry[r]] * (1.0 + sign * slippage)
        i = 0
        j = 0
        stop = fill * (1.0 - sign * sl[0])
        target = fill * (1.0 + sign * tp[0])
        for t in range(entry[r] + 1, exit_[r] + 1):
            c = close[t]
            if (c - stop) * sign > 0.0 and (c - target) * sign < 0.0:
                continue
            factor = a + slope * c
            least = min(least, factor)
            while i < real_sl and (c - stop) * sign <= 0.0:
                by_sl[i, j] *= factor
                i += 1
                stop = fill * (1.0 - sign * (sl[i] if i < real_sl else np.inf))
            while j < real_tp and (c - target) * sign >= 0.0:
                by_tp[i, j] *= factor
                j += 1
                target = fill * (1.0 + sign * (tp[j] if j < real_tp else np.inf))
            if i == real_sl and j == real_tp:
                break
        factor = a + slope * close[exit_[r]]
        least = min(least, factor)
        by_end[i, j] *= factor
    return least


@kernel
def product_pairs(close, entry, exit_, side, runs, terms, levels, cells, growth):
    """True when a factor is too near to ruin; fills growth f8[S, T] of the account of every pair.

    For accounts that compound, whose factors commute: a factor that holds from level i or j on is
    multiplied into one cell, and running products along the two axes give all pairs.
    """
    rows, columns = levels.pair.shape
    by_sl, by_tp, by_end = cells.by_sl, cells.by_tp, cells.by_end
    by_sl[:] = 1.0
    by_tp[:] = 1.0
    by_end[:] = 1.0
    a_long, b_long = factors(1, terms)
    a_short, b_short = factors(-1, terms)
    least = touch_factors(
        close, entry, exit_, side, runs, terms.slippage, a_long, b_long, a_short, b_short,
        levels.sl, levels.tp, real_levels(levels.sl), real_levels(levels.tp), by_sl, by_tp, by_end,
    )  # fmt: skip
    for i in range(rows):
        for j in range(columns):
            if j > 0:
                by_sl[i, j] *= by_sl[i, j - 1]
                by_end[i, j] *= by_end[i, j - 1]
            if i > 0:
                by_tp[i, j] *= by_tp[i - 1, j]
    for i in range(rows):
        for j in range(columns):
            if i > 0:
                by_end[i, j] *= by_end[i - 1, j]
            growth[i, j] = by_sl[i, j] * by_tp[i, j] * by_end[i, j]
    return least <= NEAR


@kernel
def sequence_walk(
    close, entry, exit_, side, runs, slippage, a_long, b_long, a_short, b_short, cap, keep,
    sl, tp, real_sl, real_tp, gain_sl, gain_tp, before, gains, available, least, won, lost, sums,
):  # fmt: skip
    """True when a run's end is too near to break-even; leaves every pair's account in `available`, ….

    `gains` f8[S, T] and the flat accounts f8[S · T] share the order of pairs.
    """
    rows, columns = gains.shape
    even = False
    flat = gains.ravel()
    for r in range(runs):
        if side[r] > 0:
            sign, a, b = 1.0, a_long, b_long
        else:
            sign, a, b = -1.0, a_short, b_short
        slope = b / close[entry[r]]
        fill = close[entry[r]] * (1.0 + sign * slippage)
        i = 0
        j = 0
        stop = fill * (1.0 - sign * sl[0])
        target = fill * (1.0 + sign * tp[0])
        for t in range(entry[r] + 1, exit_[r] + 1):
            c = close[t]
            if (c - stop) * sign > 0.0 and (c - target) * sign < 0.0:
                continue
            gain = a + slope * c - 1.0
            even |= abs(gain) < EVEN
            while i < real_sl and (c - stop) * sign <= 0.0:
                gain_sl[i] = gain
                before[i] = j
                i += 1
                stop = fill * (1.0 - sign * (sl[i] if i < real_sl else np.inf))
            while j < real_tp and (c - target) * sign >= 0.0:
                gain_tp[j] = gain
                j += 1
                target = fill * (1.0 + sign * (tp[j] if j < real_tp else np.inf))
            if i == real_sl and j == real_tp:
                break
        gain = a + slope * close[exit_[r]] - 1.0
        even |= abs(gain) < EVEN
        for row in range(rows):
            first = before[row] if row < i else j
            rest = gain_sl[row] if row < i else gain
            for column in range(first):
                gains[row, column] = gain_tp[column]
            for column in range(first, columns):
                gains[row, column] = rest
        if sums is not None:
            for p in range(flat.size):
                net = min(available[p], cap) * flat[p]
                profit = max(net, 0.0)
                loss = min(net, 0.0)
                won[p] += profit
                lost[p] -= loss
                available[p] += profit * keep + loss
                least[p] = min(least[p], available[p])
        else:
            for p in range(flat.size):
                available[p] += min(available[p], cap) * flat[p]
                least[p] = min(least[p], available[p])
    return even


@kernel
def sequence_pairs(close, entry, exit_, side, runs, terms, levels, cells, sums):
    """True when an account came too near to ruin; fills `available`, and `won`, `lost` with `sums`.

    For accounts whose trades do not commute: every pair is walked trade by trade, all pairs at once.
    Money is in units of the initial cash; the profit lock needs `sums`.
    """
    cap = terms.fixed_quote / terms.init_cash if terms.sizing == FIXED_QUOTE else np.inf
    keep = 1.0 - terms.safe_pct / 100.0 if terms.sizing == PROFIT_LOCK else 1.0
    a_long, b_long = factors(1, terms)
    a_short, b_short = factors(-1, terms)
    cells.available[:] = 1.0
    cells.least[:] = 1.0
    cells.won[:] = 0.0
    cells.lost[:] = 0.0
    even = sequence_walk(
        close, entry, exit_, side, runs, terms.slippage, a_long, b_long, a_short, b_short, cap, keep,
        levels.sl, levels.tp, real_levels(levels.sl), real_levels(levels.tp), cells.gain_sl,
        cells.gain_tp, cells.before, cells.gains, cells.available.ravel(), cells.least.ravel(),
        cells.won.ravel(), cells.lost.ravel(), sums,
    )  # fmt: skip
    low = 1.0
    for i in range(cells.least.shape[0]):
        for j in range(cells.least.shape[1]):
            low = min(low, cells.least[i, j])
    return low < NEAR or (even and sums is not None)
