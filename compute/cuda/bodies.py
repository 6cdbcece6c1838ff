"""One variant at a time: what a thread of a card computes, compiled for it and for the processor.

The arithmetic is that of the other engines, by the same functions: `base_*` score a base variant
word by word as `compute.products` and `compute.sequences` do, `all_pairs` scores every pair of
stops at once as `compute.stops` does, `pair_score` trades one pair with the account's own two
functions, as exact rescoring does. What differs is that nothing is kept from one variant to the
next, and no run longer than its word.
"""

from __future__ import annotations

import numpy as np

from compute.account import (
    LONG_ONLY,
    PROFIT_LOCK,
    SHORT_ONLY,
    close_position,
    entry_fill,
    open_position,
)
from compute.bits import ctz, popcount
from compute.exact import OFF, walk_exit
from compute.jit import inlined, kernel
from compute.products import TINY
from compute.stops import pair_products, real_levels, touch_factors
from compute.words import (
    NEAR,
    carried,
    first_entry,
    last_close,
    last_fixed,
    word_columns,
    word_events,
    word_fixed,
    word_product,
)

_ZERO = np.uint64(0)
_ONE = np.uint64(1)
_LAST = np.uint64(63)
_ALL = np.uint64(0xFFFFFFFFFFFFFFFF)


@inlined
def vote_word(planes, lid, sid, conflict, i, w, direction):
    """(LONG, SHORT) word `w` of variant `i`: the AND of its indicators' votes."""
    lw = _ZERO if direction == SHORT_ONLY else _ALL
    sw = _ZERO if direction == LONG_ONLY else _ALL
    for k in range(lid.shape[1]):
        long = planes[lid[i, k], w]
        short = planes[sid[i, k], w]
        clash = long & short & conflict[k]
        lw &= long & ~clash
        sw &= short & ~clash
    return lw, sw


@kernel
def base_product(planes, lid, sid, conflict, i, close, terms, table):
    """(equity, trades, doubtful) of variant `i` with the whole account in every trade."""
    words = planes.shape[1]
    last_top = np.uint64((close.size - 1) & 63)
    growth = 1.0
    count = 0
    carry = 0
    doubtful = False
    for w in range(words):
        lw, sw = vote_word(planes, lid, sid, conflict, i, w, terms.direction)
        if (lw | sw) == _ZERO and carry == 0:
            continue
        top = last_top if w == words - 1 else _LAST
        base = np.uint64(w << 6)
        factor, exits, doubt, carry = word_product(lw, sw, carry, base, top, close, table)
        growth *= factor
        count += exits
        doubtful |= doubt
    growth, count, doubtful, _, _, _ = last_close(
        growth, count, doubtful, carry, 0, 0.0, 0.0, close, terms, 1.0, False
    )
    return growth, count, doubtful or growth < TINY


@kernel
def base_columns(planes, lid, sid, conflict, i, close, terms, table):
    """(equity, trades, doubtful, wins, won, lost) of variant `i` of an account that compounds."""
    words = planes.shape[1]
    last_top = np.uint64((close.size - 1) & 63)
    keep = 1.0 - terms.safe_pct / 100.0 if terms.sizing == PROFIT_LOCK else 1.0
    growth = 1.0
    won = 0.0
    lost = 0.0
    wins = 0
    count = 0
    carry = 0
    doubtful = False
    for w in range(words):
        lw, sw = vote_word(planes, lid, sid, conflict, i, w, terms.direction)
        if (lw | sw) == _ZERO and carry == 0:
            continue
        top = last_top if w == words - 1 else _LAST
        base = np.uint64(w << 6)
        factor, exits, doubt, carry, gains, more, less = word_columns(
            lw, sw, carry, base, top, close, table, keep
        )
        won += growth * more
        lost += growth * less
        wins += gains
        growth *= factor
        count += exits
        doubtful |= doubt
    growth, count, doubtful, wins, won, lost = last_close(
        growth, count, doubtful, carry, wins, won, lost, close, terms, keep, True
    )
    return growth + (1.0 - keep) * won, count, doubtful or growth < TINY, wins, won, lost


@kernel
def base_fixed(planes, lid, sid, conflict, i, close, terms, table):
    """(equity, trades, doubtful, wins, won, lost) of variant `i` with a fixed amount a trade."""
    words = planes.shape[1]
    last_top = np.uint64((close.size - 1) & 63)
    fixed = terms.fixed_quote / terms.init_cash
    available = 1.0
    won = 0.0
    lost = 0.0
    wins = 0
    count = 0
    carry = 0
    doubtful = False
    for w in range(words):
        lw, sw = vote_word(planes, lid, sid, conflict, i, w, terms.direction)
        if (lw | sw) == _ZERO and carry == 0:
            continue
        top = last_top if w == words - 1 else _LAST
        exits, doubt, carry, available, won, lost, wins = word_fixed(
            lw, sw, carry, np.uint64(w << 6), top, close, table, fixed, available, won, lost, wins
        )
        count += exits
        doubtful |= doubt
    count, doubtful, available, won, lost, wins = last_fixed(
        count, doubtful, carry, available, won, lost, wins, close, terms, fixed
    )
    return available, count, doubtful, wins, won, lost


@kernel
def all_pairs(
    planes, lid, sid, conflict, i, close, calm, terms, table, sl, tp, entry, exit_, side,
    by_sl, by_tp, by_end, growth,
):  # fmt: skip
    """(trades, doubtful) of variant `i`; fills growth f8[S, T] of the account of every pair.

    As `compute.stops.product_pairs`, which has all runs at a time: here `entry`, `exit_` and
    `side`, 65 of each, hold those that end in one word.
    """
    by_sl[:, :] = 1.0
    by_tp[:, :] = 1.0
    by_end[:, :] = 1.0
    words = planes.shape[1]
    last_top = np.uint64((close.size - 1) & 63)
    real_sl, real_tp = real_levels(sl), real_levels(tp)
    least = 1.0
    untouched = 1.0
    trades = 0
    carry = 0
    for w in range(words):
        lw, sw = vote_word(planes, lid, sid, conflict, i, w, terms.direction)
        if (lw | sw) == _ZERO and carry == 0:
            continue
        top = last_top if w == words - 1 else _LAST
        base = np.uint64(w << 6)
        entries, exits = word_events(lw, sw, carry, top)
        entered, d, entries = first_entry(entries, sw, carry, base)
        runs = popcount(exits)
        for r in range(runs):
            entry[r] = np.int64(entered)
            exit_[r] = np.int64(base) + ctz(exits)
            side[r] = 1 - 2 * np.int64(d)
            exits &= exits - _ONE
            bit = np.uint64(ctz(entries))
            entries &= entries - _ONE
            entered = base + bit
            d = (sw >> (bit & _LAST)) & _ONE
        carry = carried(lw, sw, top, entered, d)
        if w == words - 1 and carry != 0:  # forced close on the last bar
            entry[runs] = abs(carry) - 1
            exit_[runs] = close.size - 1
            side[runs] = 1 if carry > 0 else -1
            runs += 1
        least, untouched = touch_factors(
            close, calm, entry, exit_, side, runs, terms.slippage, table,
            sl, tp, real_sl, real_tp, by_sl, by_tp, by_end, least, untouched,
        )  # fmt: skip
        trades += runs
    by_end[0, 0] *= untouched
    pair_products(by_sl, by_tp, by_end, growth)
    smallest = 1.0
    for s in range(growth.shape[0]):
        for t in range(growth.shape[1]):
            smallest = min(smallest, growth[s, t])
    return trades, least <= NEAR or smallest < TINY


@inlined
def stopped(close, calm, e, x, d, sl, tp, slippage):
    """Bar of the first stop touched by a trade of bars e..x, `x` where none is; `d` 1: a short.

    Nothing is touched before bar `calm[d, e]`, see `compute.stops.calm_bars`.
    """
    if sl != OFF or tp != OFF:
        first = np.int64(calm[d, e])
        if first <= x:
            side = 1 - 2 * d
            fill = entry_fill(close[e], side, slippage)
            x, _ = walk_exit(close, first, x, side, fill, sl, tp)
    return x


@inlined
def traded(available, safe, entry, exit_, d, terms):
    """(available, safe, net) after one trade at the closes `entry` and `exit_`."""
    side = 1 - 2 * d
    available, quote, _, quantity, fee = open_position(available, entry, side, terms)
    available, safe, _, _, _, _, net, _ = close_position(
        available, safe, side, quote, quantity, fee, exit_, terms
    )
    return available, safe, net


@kernel
def pair_score(planes, lid, sid, conflict, i, close, calm, terms, sl, tp):
    """(equity, trades, wins, won, lost) of variant `i` under one pair of stop rates.

    To the bit what `compute.exact.account_runs` gives: equity in quote units, as the sums.
    """
    words = planes.shape[1]
    last_top = np.uint64((close.size - 1) & 63)
    available = terms.init_cash
    safe = 0.0
    won = 0.0
    lost = 0.0
    wins = 0
    trades = 0
    carry = 0
    for w in range(words):
        if not available > 0.0:
            break
        lw, sw = vote_word(planes, lid, sid, conflict, i, w, terms.direction)
        if (lw | sw) == _ZERO and carry == 0:
            continue
        top = last_top if w == words - 1 else _LAST
        base = np.uint64(w << 6)
        entries, exits = word_events(lw, sw, carry, top)
        entered, d, entries = first_entry(entries, sw, carry, base)
        for _ in range(popcount(exits)):
            e = np.int64(entered)
            x = np.int64(base) + ctz(exits)
            exits &= exits - _ONE
            if available > 0.0:
                at = stopped(close, calm, e, x, np.int64(d), sl, tp, terms.slippage)
                available, safe, net = traded(
                    available, safe, close[e], close[at], np.int64(d), terms
                )
                trades += 1
                wins += net > 0.0
                won += max(net, 0.0)
                lost -= min(net, 0.0)
            bit = np.uint64(ctz(entries))
            entries &= entries - _ONE
            entered = base + bit
            d = (sw >> (bit & _LAST)) & _ONE
        carry = carried(lw, sw, top, entered, d)
    if carry != 0 and available > 0.0:
        e = np.int64(abs(carry) - 1)
        d = np.uint64(carry < 0)
        at = stopped(close, calm, e, close.size - 1, np.int64(d), sl, tp, terms.slippage)
        available, safe, net = traded(available, safe, close[e], close[at], np.int64(d), terms)
        trades += 1
        wins += net > 0.0
        won += max(net, 0.0)
        lost -= min(net, 0.0)
    return available + safe, trades, wins, won, lost
