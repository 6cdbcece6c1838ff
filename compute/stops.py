"""Stop levels of a base variant scored together: one walk per run finds all levels' first touches.

A stop never moves an entry, so a run's trade under (SL i, TP j) exits at the earliest of its end,
the first touch of SL i and the first touch of TP j. Levels are sorted ascending, hence touched in
order: SL i, touched after c TP levels, is the exit of every pair (i, ≥ c); TP j, touched after r SL
levels, that of every pair (≥ r, j); the run's end serves the pairs beyond both.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compute.account import FIXED_QUOTE, PROFIT_LOCK, factor_table
from compute.jit import kernel
from compute.words import EVEN, NEAR

_LOOK = 32
_ENTRIES = 1024


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


def tiles(levels: Levels, side: int) -> list[Levels]:
    """`levels` cut into parts of at most `side` × `side` pairs; `pair` keeps the risk index."""
    rows, columns = levels.pair.shape
    return [
        Levels(
            levels.sl[i : i + side],
            levels.tp[j : j + side],
            np.ascontiguousarray(levels.pair[i : i + side, j : j + side]),
        )
        for i in range(0, rows, side)
        for j in range(0, columns, side)
    ]


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
    won: NDArray[np.float64]  # [S, T]
    lost: NDArray[np.float64]  # [S, T]


def cells(levels: Levels) -> Cells:
    """Fresh `Cells` for these levels."""
    s, t = levels.pair.shape
    return Cells(
        by_sl=np.ones((s + 1, t + 1)),
        by_tp=np.ones((s + 1, t + 1)),
        by_end=np.ones((s + 1, t + 1)),
        gain_sl=np.empty(s),
        gain_tp=np.empty(t),
        before=np.empty(s, np.int64),
        gains=np.empty((s, t)),
        available=np.empty((s, t)),
        won=np.empty((s, t)),
        lost=np.empty((s, t)),
    )


@kernel
def calm_bars(close, slippage, sl, tp, start, stop, calm):
    """Fills `calm` i4[2, N] of entries start..stop, long and short: the next bar worth a look.

    Nothing touches the nearest level before it. Entries are shared by all variants, so the table is
    made once; it looks `_LOOK` bars ahead, which spares most runs their walk. A block of entries
    looks one bar further at a time: vector compares, twice as fast as an entry at a time.
    """
    last = close.size - 1
    floor = np.empty(_ENTRIES)
    roof = np.empty(_ENTRIES)
    alive = np.empty(_ENTRIES, np.int32)
    for d in range(2):
        sign = 1.0 - 2.0 * d
        for at in range(start, stop, _ENTRIES):
            count = min(_ENTRIES, stop - at)
            for k in range(count):
                fill = close[at + k] * (1.0 + sign * slippage)
                loss = fill * (1.0 - sign * sl)
                target = fill * (1.0 + sign * tp)
                floor[k] = min(loss, target)
                roof[k] = max(loss, target)
                alive[k] = 1
                calm[d, at + k] = at + k + 1
            for ahead in range(1, _LOOK + 1):
                inside = max(0, min(count, last - at - ahead + 1))
                later = close[at + ahead : at + ahead + inside]
                row = calm[d, at : at + inside]
                left = 0
                for k in range(inside):
                    alive[k] &= np.int32((floor[k] < later[k]) & (later[k] < roof[k]))
                    row[k] += alive[k]
                    left += alive[k]
                if left == 0:
                    break


@kernel
def real_levels(rates):
    """Number of levels that can be touched."""
    count = 0
    for rate in rates:
        count += rate < np.inf
    return count


@kernel
def touch_factors(
    close, calm, entry, exit_, side, runs, slippage, table,
    sl, tp, real_sl, real_tp, by_sl, by_tp, by_end, least, untouched,
):  # fmt: skip
    """(`least`, `untouched`) after some runs: the smallest factor, the product of runs that no
    stop touches. Multiplies other runs' factors into the cells from which on they hold.

    One flat loop over plain arrays: as functions with tuples of arrays it cost five times as much.
    """
    for r in range(runs):
        sign = np.float64(side[r])
        d = (1 - np.int64(side[r])) >> 1
        a = table[d, 0]
        b = table[d, 1]
        slope = b / close[entry[r]]
        fill = close[entry[r]] * (1.0 + sign * slippage)
        i = 0
        j = 0
        stop = fill * (1.0 - sign * sl[0])
        target = fill * (1.0 + sign * tp[0])
        floor = min(stop, target)
        roof = max(stop, target)
        first = calm[d, entry[r]]
        for t in range(first, exit_[r] + 1):
            c = close[t]
            if floor < c < roof:
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
            floor = min(stop, target)
            roof = max(stop, target)
        factor = a + slope * close[exit_[r]]
        least = min(least, factor)
        if i | j:
            by_end[i, j] *= factor
        else:  # most runs touch nothing: their product stays in a register
            untouched *= factor
    return least, untouched


@kernel
def pair_products(by_sl, by_tp, by_end, growth):
    """Fills growth f8[S, T]: running products of the cells along both axes give every pair."""
    rows, columns = growth.shape
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


@kernel
def product_pairs(close, calm, entry, exit_, side, runs, terms, levels, cells, growth):
    """True when a factor is too near to ruin; fills growth f8[S, T] of the account of every pair.

    For accounts that compound, whose factors commute: a factor that holds from level i or j on is
    multiplied into one cell, and running products along the two axes give all pairs.
    """
    by_sl, by_tp, by_end = cells.by_sl, cells.by_tp, cells.by_end
    by_sl[:] = 1.0
    by_tp[:] = 1.0
    by_end[:] = 1.0
    table = factor_table(terms)
    least, untouched = touch_factors(
        close, calm, entry, exit_, side, runs, terms.slippage, table,
        levels.sl, levels.tp, real_levels(levels.sl), real_levels(levels.tp), by_sl, by_tp, by_end,
        1.0, 1.0,
    )  # fmt: skip
    by_end[0, 0] *= untouched
    pair_products(by_sl, by_tp, by_end, growth)
    return least <= NEAR


@kernel
def spread(gain_sl, gain_tp, before, i, j, end_gain, gains):
    """Fills `gains` f8[S, T] of one run from its touches; its end serves the untouched levels."""
    for row in range(gains.shape[0]):
        first = before[row] if row < i else j
        rest = gain_sl[row] if row < i else end_gain
        for column in range(first):
            gains[row, column] = gain_tp[column]
        for column in range(first, gains.shape[1]):
            gains[row, column] = rest


@kernel
def compound(available, won, lost, growth, gained, shed, gains, keep, sums):
    """Every compounding account after the gathered runs, then after its own gain of one run.

    The gathered runs multiply an account by `growth` and win and lose `gained`, `shed` per unit.
    """
    for p in range(gains.size):
        before = available[p]
        account = before * growth
        profit = account * max(gains[p], 0.0)
        loss = account * min(gains[p], 0.0)
        if sums is not None:
            won[p] += before * gained + profit
            lost[p] += before * shed - loss
        available[p] = account + profit * keep + loss


@kernel
def add(available, won, lost, added, gained, shed, gains, cap, sums):
    """True when an account came too near to ruin; as `compound` for a fixed amount a trade."""
    ruined = False
    for p in range(gains.size):
        account = available[p] + added
        net = min(account, cap) * gains[p]
        if sums is not None:
            won[p] += gained + max(net, 0.0)
            lost[p] += shed - min(net, 0.0)
        available[p] = account + net
        ruined |= available[p] < NEAR
    return ruined


@kernel
def smallest(values):
    """Smallest value."""
    least = np.inf
    for value in values:
        least = min(least, value)
    return least


@kernel
def sequence_walk(
    close, calm, entry, exit_, side, runs, slippage, table, cap, keep,
    sl, tp, real_sl, real_tp, gain_sl, gain_tp, before, gains, available, won, lost, sums,
):  # fmt: skip
    """True when rounding could decide something; leaves every pair's account in `available`, ….

    Most runs touch no level: they do the same to all pairs, are gathered as scalars and applied at
    the next run that does. A fixed amount may be gathered while every account can afford it.
    """
    fixed = cap < np.inf
    unit = cap if fixed else 1.0
    flat = gains.ravel()
    doubtful = False
    lowest = 1.0  # no account is smaller
    growth = 1.0
    gained = 0.0
    shed = 0.0
    added = 0.0
    for r in range(runs):
        sign = np.float64(side[r])
        d = (1 - np.int64(side[r])) >> 1
        a = table[d, 0]
        b = table[d, 1]
        slope = b / close[entry[r]]
        fill = close[entry[r]] * (1.0 + sign * slippage)
        i = 0
        j = 0
        stop = fill * (1.0 - sign * sl[0])
        target = fill * (1.0 + sign * tp[0])
        floor = min(stop, target)
        roof = max(stop, target)
        first = calm[d, entry[r]]
        for t in range(first, exit_[r] + 1):
            c = close[t]
            if floor < c < roof:
                continue
            gain = a + slope * c - 1.0
            doubtful |= gain <= NEAR - 1.0 or abs(gain) < EVEN
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
            floor = min(stop, target)
            roof = max(stop, target)
        gain = a + slope * close[exit_[r]] - 1.0
        doubtful |= gain <= NEAR - 1.0 or abs(gain) < EVEN
        if fixed and lowest + added < cap:
            lowest = smallest(available)
        profit = max(gain, 0.0)
        loss = min(gain, 0.0)
        if (i | j) == 0 and (not fixed or lowest + added >= cap):
            gained += growth * profit * unit
            shed -= growth * loss * unit
            added += gain * unit
            if not fixed:
                growth *= 1.0 + profit * keep + loss
            continue
        spread(gain_sl, gain_tp, before, i, j, gain, gains)
        if fixed:
            doubtful |= add(available, won, lost, added, gained, shed, flat, cap, sums)
            lowest += added + cap * min(smallest(gain_sl[:i]), min(loss, smallest(gain_tp[:j])))
        else:
            compound(available, won, lost, growth, gained, shed, flat, keep, sums)
        growth = 1.0
        gained = shed = added = 0.0
    gains[:] = 0.0
    if fixed:
        doubtful |= add(available, won, lost, added, gained, shed, flat, cap, sums)
    else:
        compound(available, won, lost, growth, gained, shed, flat, keep, sums)
    return doubtful


@kernel
def sequence_pairs(close, calm, entry, exit_, side, runs, terms, levels, cells, sums):
    """True when rounding could decide something; fills `available`, `won`, `lost` f8[S, T].

    For accounts whose trades do not commute, and for sums over trades: every pair is walked trade
    by trade, all pairs at once. Money is in units of the initial cash; `won` and `lost` are kept
    only with `sums` (the profit lock needs them).
    """
    cap = terms.fixed_quote / terms.init_cash if terms.sizing == FIXED_QUOTE else np.inf
    keep = 1.0 - terms.safe_pct / 100.0 if terms.sizing == PROFIT_LOCK else 1.0
    table = factor_table(terms)
    cells.available[:] = 1.0
    cells.won[:] = 0.0
    cells.lost[:] = 0.0
    return sequence_walk(
        close, calm, entry, exit_, side, runs, terms.slippage, table, cap, keep,
        levels.sl, levels.tp, real_levels(levels.sl), real_levels(levels.tp), cells.gain_sl,
        cells.gain_tp, cells.before, cells.gains, cells.available.ravel(), cells.won.ravel(),
        cells.lost.ravel(), sums,
    )  # fmt: skip
