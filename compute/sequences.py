"""Scores of base variants whose account must be walked trade by trade.

`fixed_scores` serves fixed_quote (what a trade may use depends on all before it), `exact_scores`
serves every mode through the account's own arithmetic and can add the drawdown.
"""

from __future__ import annotations

import numpy as np

from compute.account import factor_table
from compute.exact import (
    DRAWDOWN,
    EQUITY,
    LOST,
    OFF,
    SCORES,
    TRADES,
    WINS,
    WON,
    account_runs,
    extract_runs,
    run_extremes,
)
from compute.jit import kernel
from compute.products import and_others
from compute.words import last_fixed, word_fixed

_LAST = np.uint64(63)


@kernel
def fixed_walk(rest, close, terms):
    """(available, exits, doubtful, wins, won, lost) under fixed_quote, in units of initial cash."""
    table = factor_table(terms)
    fixed = terms.fixed_quote / terms.init_cash
    last_top = np.uint64((close.size - 1) & 63)
    available = 1.0
    won = 0.0
    lost = 0.0
    wins = 0
    count = 0
    carry = 0
    doubtful = False
    words = rest.shape[1]
    for w in range(words):
        lw = rest[0, w]
        sw = rest[1, w]
        if (lw | sw) == 0 and carry == 0:
            continue
        top = last_top if w == words - 1 else _LAST
        exits, doubt, carry, available, won, lost, wins = word_fixed(
            lw, sw, carry, np.uint64(w << 6), top, close,
            table, fixed, available, won, lost, wins,
        )  # fmt: skip
        count += exits
        doubtful |= doubt
    count, doubtful, available, won, lost, wins = last_fixed(
        count, doubtful, carry, available, won, lost, wins, close, terms, fixed
    )
    return available, count, doubtful, wins, won, lost


@kernel
def fixed_scores(
    planes, lid, sid, conflict, close, terms, start, stop, walk, equity, trades, wins, sums
):
    """Fills the fixed_quote scores of variants start..stop.

    equity f8[n] and sums f8[2, n] (profits won, lost) in units of initial cash; trades, wins i4[n].
    """
    bars = close.size
    out = np.empty(SCORES)
    for i in range(start, stop):
        and_others(planes, lid, sid, conflict, i, -1, terms.direction, walk.rest)
        available, count, doubtful, win_count, won, lost = fixed_walk(walk.rest, close, terms)
        if doubtful:
            runs, unfinished = extract_runs(
                walk.rest[0], walk.rest[1], bars, walk.entry, walk.exit, walk.side
            )
            account_runs(
                close, walk.entry, walk.exit, walk.side, walk.low, walk.high, runs, unfinished,
                terms, OFF, OFF, False, None, None, None, None, out,
            )  # fmt: skip
            equity[i] = out[EQUITY] / terms.init_cash
            trades[i], wins[i] = np.int64(out[TRADES]), np.int64(out[WINS])
            sums[0, i], sums[1, i] = out[WON] / terms.init_cash, out[LOST] / terms.init_cash
        else:
            equity[i], trades[i], wins[i] = available, count, win_count
            sums[0, i], sums[1, i] = won, lost


@kernel
def exact_scores(
    planes, lid, sid, conflict, close, terms, sl, tp, start, stop, walk, fall,
    equity, trades, wins, sums, drawdown,
):  # fmt: skip
    """Fills the exact scores of variants start..stop, each under its own stop rates sl, tp f8[n].

    equity f8[n] (init cash = 1), trades i4[n], wins i4[n], sums f8[2, n] (profits won, lost in
    quote units), drawdown f8[n] as a fraction (NaN when `fall` is None). Equal neighbours are
    scored once.
    """
    bars = close.size
    out = np.empty(SCORES)
    runs = 0
    unfinished = False
    bounded = False
    for i in range(start, stop):
        same = i > start
        if same:
            for k in range(lid.shape[1]):
                same = same and lid[i, k] == lid[i - 1, k] and sid[i, k] == sid[i - 1, k]
        if not same:
            and_others(planes, lid, sid, conflict, i, -1, terms.direction, walk.rest)
            runs, unfinished = extract_runs(
                walk.rest[0], walk.rest[1], bars, walk.entry, walk.exit, walk.side
            )
            bounded = False
        if not bounded and (fall is not None or sl[i] != OFF or tp[i] != OFF):
            run_extremes(close, walk.entry, walk.exit, runs, walk.low, walk.high)
            bounded = True
        if not same or sl[i] != sl[i - 1] or tp[i] != tp[i - 1]:
            account_runs(
                close, walk.entry, walk.exit, walk.side, walk.low, walk.high, runs, unfinished,
                terms, sl[i], tp[i], False, fall, None, None, None, out,
            )  # fmt: skip
        equity[i] = out[EQUITY] / terms.init_cash
        trades[i], wins[i] = np.int64(out[TRADES]), np.int64(out[WINS])
        sums[0, i], sums[1, i], drawdown[i] = out[WON], out[LOST], out[DRAWDOWN]
