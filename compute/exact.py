"""Exact scores: one variant's trades walked in order with the account's own arithmetic.

Everything that is ranked, returned or reported comes from here; the searching kernels only propose.
Bars are indices into the target slice, words hold 64 bars, bit i of word w is bar 64·w + i.
"""

from __future__ import annotations

import numpy as np
from numpy.typing import NDArray

from compute.account import close_position, entry_fill, mark, open_position
from compute.bits import ctz
from compute.jit import kernel

SL, TP, SIGNAL_EXIT, FORCED_CLOSE = range(4)
REASONS = ("sl", "tp", "signal_exit", "forced_close")
# Columns of the score row that `account_runs` fills.
EQUITY, TRADES, WINS, WON, LOST, DRAWDOWN, AVAILABLE, SAFE = range(8)
SCORES = 8
OFF = np.inf  # a stop level that is never touched
_ONE = np.uint64(1)
_SIX = np.uint64(6)


@kernel
def extract_runs(long, short, bars, entry, exit_, side):
    """(number of runs, last one unfinished): maximal LONG/SHORT runs of one aggregated vote.

    `entry[i]` is the first bar of run i, `exit_[i]` the bar that ends it (`bars - 1` when it never
    ends), `side[i]` +1 or -1. The arrays need room for `bars` runs.
    """
    count = 0
    open_ = False
    carry_long = np.uint64(0)
    carry_short = np.uint64(0)
    tail = bars & 63
    for w in range(long.size):
        lw = long[w]
        sw = short[w]
        before_long = (lw << _ONE) | carry_long
        before_short = (sw << _ONE) | carry_short
        entries = (lw & ~before_long) | (sw & ~before_short)
        exits = (before_long & ~lw) | (before_short & ~sw)
        if w == long.size - 1 and tail:
            exits &= (_ONE << np.uint64(tail)) - _ONE
        carry_long = lw >> np.uint64(63)
        carry_short = sw >> np.uint64(63)
        base = w << 6
        while exits != 0 or entries != 0:
            if open_:
                if exits == 0:
                    break
                exit_[count] = base + ctz(exits)
                exits &= exits - _ONE
                count += 1
                open_ = False
            else:
                bit = ctz(entries)
                entry[count] = base + bit
                side[count] = -1 if (sw >> np.uint64(bit)) & _ONE else 1
                entries &= entries - _ONE
                open_ = True
    if open_:
        exit_[count] = bars - 1
        count += 1
    return count, open_


@kernel
def walk_exit(close, first, last, side, fill, sl, tp):
    """(bar, reason) of the first stop touched in bars first..last, else (last, SIGNAL_EXIT)."""
    if side > 0:
        floor = fill * (1.0 - sl)
        roof = fill * (1.0 + tp)
        for t in range(first, last + 1):
            c = close[t]
            if c <= floor:
                return t, SL
            if c >= roof:
                return t, TP
    else:
        roof = fill * (1.0 + sl)
        floor = fill * (1.0 - tp)
        for t in range(first, last + 1):
            c = close[t]
            if c >= roof:
                return t, SL
            if c <= floor:
                return t, TP
    return last, SIGNAL_EXIT


@kernel
def account_runs(close, entry, exit_, side, count, unfinished, terms, sl, tp, end_open, equity, rows, bars_out, out):
    """Scores of one variant written to `out` (length SCORES); returns the number of trade rows.

    `sl`, `tp` are rates, `OFF` when disabled. `equity` (bar closes, quote) and the trade tables `rows`
    f8[·, 10], `bars_out` i8[·, 4] are filled when given, None otherwise. Drawdown is computed only with
    `equity`. With `end_open` a run that reaches the last bar stays open: it has a row whose exit is -1.
    """
    available = terms.init_cash
    safe = 0.0
    trades = 0
    wins = 0
    won = 0.0
    lost = 0.0
    done = 0  # bars of the equity curve written so far
    stops = sl != OFF or tp != OFF
    open_rows = 0
    total = -1.0
    for r in range(count):
        if not available > 0.0:
            break
        e = entry[r]
        x = np.int64(exit_[r])
        d = side[r]
        reason = SIGNAL_EXIT
        if stops:
            fill = entry_fill(close[e], d, terms.slippage)
            x, reason = walk_exit(close, e + 1, x, d, fill, sl, tp)
        stays = False
        if reason == SIGNAL_EXIT and unfinished and r == count - 1:
            reason = FORCED_CLOSE
            stays = end_open
        if equity is not None:
            for t in range(done, e):
                equity[t] = available + safe
        available, quote, fill, quantity, fee_in = open_position(available, close[e], d, terms)
        if equity is not None:
            for t in range(e, x + 1 if stays else x):
                equity[t] = mark(available, safe, d, quote, quantity, close[t])
            done = x + 1 if stays else x
        if stays:
            total = mark(available, safe, d, quote, quantity, close[x])
            open_rows = 1
            if rows is not None:
                bars_out[trades, 0] = d
                bars_out[trades, 1] = e
                bars_out[trades, 2] = -1
                bars_out[trades, 3] = -1
                rows[trades, :] = np.nan
                rows[trades, 0] = fill
                rows[trades, 2] = quantity
                rows[trades, 3] = quote
                rows[trades, 5] = fee_in
            break
        available, safe, exit_price, exit_quote, fee_out, gross, net, locked = close_position(
            available, safe, d, quote, quantity, fee_in, close[x], terms
        )
        if net > 0.0:
            wins += 1
            won += net
        elif net < 0.0:
            lost -= net
        if rows is not None:
            bars_out[trades, 0] = d
            bars_out[trades, 1] = e
            bars_out[trades, 2] = x
            bars_out[trades, 3] = reason
            rows[trades, 0] = fill
            rows[trades, 1] = exit_price
            rows[trades, 2] = quantity
            rows[trades, 3] = quote
            rows[trades, 4] = exit_quote
            rows[trades, 5] = fee_in
            rows[trades, 6] = fee_out
            rows[trades, 7] = gross
            rows[trades, 8] = net
            rows[trades, 9] = locked
        trades += 1
    if open_rows == 0:
        total = available + safe
    if equity is not None:
        for t in range(done, equity.size):
            equity[t] = available + safe
    out[EQUITY] = total
    out[TRADES] = trades
    out[WINS] = wins
    out[WON] = won
    out[LOST] = lost
    out[AVAILABLE] = available
    out[SAFE] = safe
    out[DRAWDOWN] = np.nan if equity is None else max_drawdown(equity)
    return trades + open_rows


@kernel
def max_drawdown(equity):
    """Largest fall from a running peak as a fraction of it; inf when a peak is not positive."""
    if equity.size == 0:
        return 0.0
    peak = equity[0]
    worst = 0.0
    floor = peak  # equity below this is a new worst fall; divisions happen only there
    for t in range(equity.size):
        e = equity[t]
        if not e > -np.inf or not e < np.inf:
            return np.inf
        if e > peak:
            peak = e
            floor = peak * (1.0 - worst) * (1.0 + 1e-12)
        if not peak > 0.0:
            return np.inf
        if e < floor:
            fall = 1.0 - e / peak
            if fall > worst:
                worst = fall
                floor = peak * (1.0 - worst) * (1.0 + 1e-12)
    return worst
