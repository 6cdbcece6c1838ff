"""Exact scores: one variant's trades walked in order with the account's own arithmetic.

Everything that is ranked, returned or reported comes from here; the searching kernels only propose.
Bars are indices into the target slice, words hold 64 bars, bit i of word w is bar 64·w + i.
"""

from __future__ import annotations

import numpy as np

from compute.account import close_position, entry_fill, mark, open_position
from compute.bits import ctz, popcount
from compute.jit import kernel

SL, TP, SIGNAL_EXIT, FORCED_CLOSE = range(4)
REASONS = ("sl", "tp", "signal_exit", "forced_close")
# Columns of the score row that `account_runs` fills.
EQUITY, TRADES, WINS, WON, LOST, DRAWDOWN, AVAILABLE, SAFE = range(8)
SCORES = 8
OFF = np.inf  # a stop level that is never touched
_ONE = np.uint64(1)
_LAST = np.uint64(63)


@kernel
def extract_runs(long, short, bars, entry, exit_, side):
    """(number of runs, last one unfinished): maximal LONG/SHORT runs of one aggregated vote.

    `entry[i]` is the first bar of run i, `exit_[i]` the bar that ends it (`bars - 1` when it never
    ends), `side[i]` +1 or -1. The arrays need room for `bars` runs.
    """
    entered = 0
    exited = 0
    carry_long = np.uint64(0)
    carry_short = np.uint64(0)
    for w in range(long.size):
        lw = long[w]
        sw = short[w]
        before_long = (lw << _ONE) | carry_long
        before_short = (sw << _ONE) | carry_short
        carry_long = lw >> _LAST
        carry_short = sw >> _LAST
        entries = (lw & ~before_long) | (sw & ~before_short)
        exits = (before_long & ~lw) | (before_short & ~sw)
        base = w << 6
        for _ in range(popcount(entries)):
            bit = ctz(entries)
            entries &= entries - _ONE
            entry[entered] = base + bit
            side[entered] = 1 - 2 * np.int64((sw >> np.uint64(bit)) & _ONE)
            entered += 1
        for _ in range(popcount(exits)):
            exit_[exited] = base + ctz(exits)
            exits &= exits - _ONE
            exited += 1
    # A run that reaches the last bar ends nowhere, or on a bit beyond it.
    unfinished = entered > exited or (entered > 0 and exit_[entered - 1] >= bars)
    if unfinished:
        exit_[entered - 1] = bars - 1
    return entered, unfinished


@kernel
def run_extremes(close, entry, exit_, count, low, high):
    """Fills the lowest and highest close f8[count] of each run, its end included.

    They bound what a stop or a drawdown can meet, so that most runs need no walk at all.
    """
    for r in range(count):
        least = close[entry[r]]
        most = least
        for t in range(entry[r] + 1, exit_[r] + 1):
            least = min(least, close[t])
            most = max(most, close[t])
        low[r] = least
        high[r] = most


@kernel
def touchable(side, fill, sl, tp, low, high):
    """False when closes from `low` to `high` meet no stop."""
    if side > 0:
        return low <= fill * (1.0 - sl) or high >= fill * (1.0 + tp)
    return high >= fill * (1.0 + sl) or low <= fill * (1.0 - tp)


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
def fall_from_peak(equity, peak, worst):
    """(peak, worst fall, floor below which the next fall is worse) after one more equity."""
    if equity > peak:
        peak = equity
    if not peak > 0.0 or not abs(equity) < np.inf:
        return peak, np.inf, -np.inf
    fall = 1.0 - equity / peak
    if fall > worst:
        worst = fall
    # The margin keeps the test on the safe side of rounding, below zero too (a fall may exceed the
    # peak); divisions happen only beyond it.
    return peak, worst, peak * ((1.0 - worst) + 1e-12 * (1.0 + worst))


@kernel
def max_drawdown(equity):
    """Largest fall from a running peak as a fraction of it; inf when a peak is not positive."""
    peak = -np.inf
    worst = 0.0
    floor = np.inf
    for t in range(equity.size):
        if equity[t] > peak or equity[t] < floor:
            peak, worst, floor = fall_from_peak(equity[t], peak, worst)
    return worst


@kernel
def position_falls(
    close, entry, stop, side, quote, quantity, available, safe, low, high, peak, worst, floor
):
    """(peak, worst, floor) after the closes of bars entry..stop of one open position.

    Equity is monotone in the close, so the run's extremes tell when no bar can matter.
    """
    at_low = mark(available, safe, side, quote, quantity, low)
    at_high = mark(available, safe, side, quote, quantity, high)
    if max(at_low, at_high) <= peak and min(at_low, at_high) >= floor:
        return peak, worst, floor
    for t in range(entry, stop):
        equity = mark(available, safe, side, quote, quantity, close[t])
        if equity > peak or equity < floor:
            peak, worst, floor = fall_from_peak(equity, peak, worst)
    return peak, worst, floor


@kernel
def account_runs(
    close, entry, exit_, side, low, high, count, unfinished, terms, sl, tp, end_open,
    fall, equity, rows, bars_out, out,
):  # fmt: skip
    """Scores of one variant written to `out` (length SCORES); returns the number of trade rows.

    `sl`, `tp` are rates, `OFF` when disabled; `low`, `high` the runs' extremes, read only for stops
    and falls. Optional (None: not wanted): `fall` asks for the drawdown, `equity` f8[bars] for the
    curve, `rows` f8[·, 10] with `bars_out` i8[·, 4] for the trades. With `end_open` a run that
    reaches the last bar stays open: its row has exit bar -1.
    """
    available = terms.init_cash
    safe = 0.0
    trades = 0
    wins = 0
    won = 0.0
    lost = 0.0
    done = 0  # bars of the equity curve written so far
    peak, worst, floor = -np.inf, 0.0, np.inf
    stops = sl != OFF or tp != OFF
    left = 0
    total = 0.0
    if fall is not None and (count == 0 or entry[0] > 0):
        peak, worst, floor = fall_from_peak(available, peak, worst)
    for r in range(count):
        if not available > 0.0:
            break
        e = entry[r]
        x = np.int64(exit_[r])
        d = side[r]
        reason = SIGNAL_EXIT
        if stops:
            price = entry_fill(close[e], d, terms.slippage)
            if touchable(d, price, sl, tp, low[r], high[r]):
                x, reason = walk_exit(close, e + 1, x, d, price, sl, tp)
        stays = False
        if unfinished and r == count - 1 and reason == SIGNAL_EXIT:
            reason = FORCED_CLOSE
            stays = end_open
        if equity is not None:
            equity[done:e] = available + safe
        available, quote, fill, quantity, fee_in = open_position(available, close[e], d, terms)
        done = x + 1 if stays else x
        if fall is not None:
            peak, worst, floor = position_falls(
                close, e, done, d, quote, quantity, available, safe,
                low[r], high[r], peak, worst, floor,
            )  # fmt: skip
        if equity is not None:
            for t in range(e, done):
                equity[t] = mark(available, safe, d, quote, quantity, close[t])
        if stays:
            left = 1
            total = mark(available, safe, d, quote, quantity, close[x])
            x = -1
            exit_price = exit_quote = fee_out = gross = net = locked = np.nan
        else:
            available, safe, exit_price, exit_quote, fee_out, gross, net, locked = close_position(
                available, safe, d, quote, quantity, fee_in, close[x], terms
            )
            trades += 1
            wins += net > 0.0
            won += max(net, 0.0)
            lost -= min(net, 0.0)
            # The bar's last action decides its equity: a reversal is marked with the next entry.
            if fall is not None and (r + 1 == count or entry[r + 1] > x or not available > 0.0):
                cash = available + safe
                if cash > peak or cash < floor:
                    peak, worst, floor = fall_from_peak(cash, peak, worst)
        if rows is not None:
            row = trades + left - 1
            bars_out[row, 0], bars_out[row, 1], bars_out[row, 2] = d, e, x
            bars_out[row, 3] = reason
            rows[row, 0], rows[row, 1], rows[row, 2] = fill, exit_price, quantity
            rows[row, 3], rows[row, 4] = quote, exit_quote
            rows[row, 5], rows[row, 6] = fee_in, fee_out
            rows[row, 7], rows[row, 8], rows[row, 9] = gross + 0.0, net + 0.0, locked  # no -0.0
    if left == 0:
        total = available + safe
        if equity is not None:
            equity[done:] = total
    out[EQUITY] = total
    out[TRADES] = trades
    out[WINS] = wins
    out[WON] = won
    out[LOST] = lost
    out[AVAILABLE] = available
    out[SAFE] = safe
    out[DRAWDOWN] = worst if fall is not None else np.nan
    return trades + left
