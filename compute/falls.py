"""Fast scores with the drawdown: trades walked in order, bars only where a new extreme is possible.

Equity inside a trade is monotone in the close, so the lowest and highest close of a run bound it: a
run that can neither lift the peak nor deepen the worst fall needs no bar. Stops only shorten a run.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compute.account import FIXED_QUOTE, PROFIT_LOCK, factor_table
from compute.exact import (
    DRAWDOWN,
    EQUITY,
    LOST,
    SCORES,
    TRADES,
    WINS,
    WON,
    account_runs,
    extract_runs,
    run_extremes,
)
from compute.jit import kernel
from compute.products import TINY, and_others
from compute.words import EVEN, NEAR

NEVER = np.int32(2**31 - 1)


class Touches(NamedTuple):
    """Scratch of one thread: per run, the first bar that touches each level (NEVER: none)."""

    sl: NDArray[np.int32]  # [bars + 1, S]
    tp: NDArray[np.int32]  # [bars + 1, T]


def touches(bars: int, sl: int, tp: int) -> Touches:
    """Fresh `Touches` without any: 4 (S + T) bytes a bar."""
    return Touches(np.full((bars + 1, sl), NEVER), np.full((bars + 1, tp), NEVER))


@kernel
def first_touches(close, entry, exit_, side, low, high, runs, slippage, sl, tp, sl_bar, tp_bar):
    """Fills `sl_bar`, `tp_bar` of every run with the bars its levels are first touched at."""
    if not (sl[0] < np.inf or tp[0] < np.inf):
        return
    for r in range(runs):
        sl_bar[r, :] = NEVER
        tp_bar[r, :] = NEVER
        sign = np.float64(side[r])
        fill = close[entry[r]] * (1.0 + sign * slippage)
        worst = low[r] if sign > 0.0 else high[r]
        best = high[r] if sign > 0.0 else low[r]
        i = 0
        j = 0
        for t in range(entry[r] + 1, exit_[r] + 1):
            stop = fill * (1.0 - sign * sl[i]) if i < sl.size else -sign * np.inf
            target = fill * (1.0 + sign * tp[j]) if j < tp.size else sign * np.inf
            if (worst - stop) * sign > 0.0 and (best - target) * sign < 0.0:
                break
            while i < sl.size and (close[t] - fill * (1.0 - sign * sl[i])) * sign <= 0.0:
                sl_bar[r, i] = t
                i += 1
            while j < tp.size and (close[t] - fill * (1.0 + sign * tp[j])) * sign >= 0.0:
                tp_bar[r, j] = t
                j += 1


@kernel
def mark_table(terms):
    """(shift, slope) f8[2, 2]: row 0 of a long, row 1 of a short.

    An open position of quote Q adds Q · (shift + slope · close / entry close) to the equity before
    it, see `compute.account.mark`.
    """
    table = np.empty((2, 2))
    table[0, 0], table[0, 1] = -1.0 - terms.fee, 1.0 / (1.0 + terms.slippage)
    table[1, 0], table[1, 1] = 1.0 - terms.fee, -1.0 / (1.0 - terms.slippage)
    return table


@kernel
def fall_walk(
    close, entry, exit_, side, low, high, runs, sl_bar, tp_bar, i, j, cap, keep, least, table,
    marks, out,
):  # fmt: skip
    """True when rounding could decide something; fills `out` f8[SCORES] of pair (i, j).

    Money is in units of initial cash.
    """
    available = 1.0
    safe = 0.0
    won = 0.0
    lost = 0.0
    wins = 0
    doubtful = False
    peak = -np.inf
    if runs == 0 or entry[0] > 0:
        peak = 1.0
    kept = 1.0  # lowest equity as a share of the peak so far
    for r in range(runs):
        e = entry[r]
        x = min(exit_[r], min(sl_bar[r, i], tp_bar[r, j]))
        d = (1 - np.int64(side[r])) >> 1
        total = available + safe
        quote = min(available, cap)
        unit = 1.0 / close[e]
        shift = marks[d, 0]
        slope = marks[d, 1] * unit
        at_low = total + quote * (shift + slope * low[r])
        at_high = total + quote * (shift + slope * high[r])
        if max(at_low, at_high) > peak or min(at_low, at_high) < peak * kept:
            for t in range(e, x):
                equity = total + quote * (shift + slope * close[t])
                peak = max(peak, equity)
                doubtful |= peak <= NEAR
                kept = min(kept, equity / peak)
        gain = table[d, 0] + table[d, 1] * (close[x] * unit) - 1.0
        profit = quote * max(gain, 0.0)
        loss = quote * min(gain, 0.0)
        available += profit * keep + loss
        safe += profit * (1.0 - keep)
        won += profit
        lost -= loss
        wins += gain > 0.0
        doubtful |= (gain <= NEAR - 1.0) | (available < least) | (abs(gain) < EVEN)
        equity = available + safe
        # The bar's last action decides its equity: a reversal is marked with the next entry.
        if (equity > peak or equity < peak * kept) and (r + 1 == runs or entry[r + 1] > x):
            peak = max(peak, equity)
            kept = min(kept, equity / peak)
    out[EQUITY] = available + safe
    out[TRADES] = runs
    out[WINS] = wins
    out[WON] = won
    out[LOST] = lost
    out[DRAWDOWN] = 1.0 - kept
    return doubtful or not peak > NEAR


@kernel
def fall_scores(
    planes, lid, sid, conflict, close, terms, levels, start, stop, walk, touched,
    equity, trades, wins, sums, drawdown,
):  # fmt: skip
    """Fills the fast scores of variants start..stop under every pair of `levels`.

    Outputs are [n, P]: equity f8 and sums f8[2, n, P] in units of initial cash, trades, wins i4,
    drawdown f8 as a fraction.
    """
    bars = close.size
    cap = terms.fixed_quote / terms.init_cash if terms.sizing == FIXED_QUOTE else np.inf
    keep = 1.0 - terms.safe_pct / 100.0 if terms.sizing == PROFIT_LOCK else 1.0
    table = factor_table(terms)
    # Below this an account has lost its digits: to the fixed amounts of others, or to underflow.
    least = NEAR if terms.sizing == FIXED_QUOTE else TINY
    marks = mark_table(terms)
    out = np.empty(SCORES)
    sl, tp, pair = levels.sl, levels.tp, levels.pair
    for v in range(start, stop):
        and_others(planes, lid, sid, conflict, v, -1, terms.direction, walk.rest)
        runs, unfinished = extract_runs(
            walk.rest[0], walk.rest[1], bars, walk.entry, walk.exit, walk.side
        )
        run_extremes(close, walk.entry, walk.exit, runs, walk.low, walk.high)
        first_touches(
            close, walk.entry, walk.exit, walk.side, walk.low, walk.high, runs, terms.slippage,
            sl, tp, touched.sl, touched.tp,
        )  # fmt: skip
        for i in range(sl.size):
            for j in range(tp.size):
                doubtful = fall_walk(
                    close, walk.entry, walk.exit, walk.side, walk.low, walk.high, runs,
                    touched.sl, touched.tp, i, j, cap, keep, least, table, marks, out,
                )  # fmt: skip
                if doubtful:
                    account_runs(
                        close, walk.entry, walk.exit, walk.side, walk.low, walk.high, runs,
                        unfinished, terms, sl[i], tp[j], False, True, None, None, None, out,
                    )  # fmt: skip
                    out[EQUITY] /= terms.init_cash
                    out[WON] /= terms.init_cash
                    out[LOST] /= terms.init_cash
                p = pair[i, j]
                equity[v, p] = out[EQUITY]
                trades[v, p] = np.int64(out[TRADES])
                wins[v, p] = np.int64(out[WINS])
                sums[0, v, p] = out[WON]
                sums[1, v, p] = out[LOST]
                drawdown[v, p] = out[DRAWDOWN]
