"""The fair strong baseline of the benchmarks: the oracle as a compiled loop over int8 signals.

One variant at a time, one bar after the other: what a careful programmer writes with Numba before
thinking of bits, runs or neighbours. It does what makes a plain loop fast (votes combined by vector
compares, stop levels computed once a trade, two compares on a bar where nothing happens,
no GIL, threads over chunks of variants) and gives the oracle's numbers to the bit.
"""

from __future__ import annotations

from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from typing import Any, NamedTuple, TypeVar

import numba
import numpy as np
from numpy.typing import NDArray

_F = TypeVar("_F", bound=Callable[..., Any])
SIZINGS = ("all_in", "fixed_quote", "strategy_compound", "strategy_compound_profit_lock")
FIXED_QUOTE, PROFIT_LOCK = 1, 3
CHUNK = 16  # variants a thread takes at a time


def _compiled(function: _F) -> _F:
    return numba.njit(nogil=True, cache=True, error_model="numpy")(function)  # type: ignore


class Account(NamedTuple):
    """Terms of one back-test: costs as rates, cash in quote units, sides that may open."""

    init_cash: float
    fee: float
    slippage: float
    fixed_quote: float
    safe_pct: float
    sizing: int
    longs: bool
    shorts: bool


def account(
    *,
    direction_mode: str,
    sizing_mode: str,
    init_cash_quote: float,
    fee_pct: float,
    slippage_pct: float,
    fixed_quote: float,
    safe_profit_percent: float,
) -> Account:
    """`Account` from the contract's percents and mode names."""
    return Account(
        init_cash_quote,
        fee_pct / 100.0,
        slippage_pct / 100.0,
        fixed_quote,
        safe_profit_percent,
        SIZINGS.index(sizing_mode),
        direction_mode != "short-only",
        direction_mode != "long-only",
    )


@dataclass(frozen=True, slots=True)
class Scores:
    """Per variant, shape [n] in stage A and [n, SL x TP] in stage B; `sums` and `drawdown_pct` are
    None unless asked for. `sums` [..., 3]: wins, profits won, profits lost in quote units."""

    equity: NDArray[np.float64]
    trades: NDArray[np.int64]
    sums: NDArray[np.float64] | None
    drawdown_pct: NDArray[np.float64] | None


@_compiled
def aggregate(votes, rows, signal):
    """Fills `signal` i1[T]: the vote all indicators share on a bar, else 0."""
    signal[:] = votes[rows[0]]
    for k in range(1, rows.size):
        vote = votes[rows[k]]
        for t in range(signal.size):
            signal[t] = signal[t] if signal[t] == vote[t] else np.int8(0)


@_compiled
def leave(available, safe, side, quote, quantity, fee_in, close, account):
    """(available, safe, net) after closing a position at `close`."""
    fill = close * (1.0 - account.slippage) if side > 0 else close * (1.0 + account.slippage)
    exit_quote = quantity * fill
    fee_out = exit_quote * account.fee
    gross = exit_quote - quote if side > 0 else quote - exit_quote
    available = available + quote + gross - fee_out
    net = gross - fee_in - fee_out
    if account.sizing == PROFIT_LOCK and net > 0.0:
        locked = net * account.safe_pct / 100.0
        available = available - locked
        safe = safe + locked
    return available, safe, net


@_compiled
def bar_loop(close, signal, account, sl, tp, sums, fall):
    """(equity, trades, max drawdown %) of one variant.

    `sl`, `tp` are rates (inf: off), or None for a loop without stops; `sums` f8[3] and `fall` ask
    for the win sums and the drawdown, None compiles a loop without them.
    """
    available = account.init_cash
    safe = 0.0
    side = 0
    previous = np.int8(0)
    quote = quantity = fee_in = 0.0
    low, high = -np.inf, np.inf  # closes that end the position by a stop
    trades = 0
    peak = trough = first = 0.0
    worst = 0.0
    last = close.size - 1
    for t in range(close.size):
        now = signal[t]
        if sl is not None and side != 0:
            c = close[t]
            if c <= low or c >= high:
                available, safe, net = leave(
                    available, safe, side, quote, quantity, fee_in, c, account
                )
                side = 0
                trades += 1
                if sums is not None:
                    sums[0] += net > 0.0
                    sums[1] += max(net, 0.0)
                    sums[2] -= min(net, 0.0)
        if now != previous:
            previous = now
            c = close[t]
            # An open position's side is the previous signal: any other signal closes it.
            if side != 0:
                available, safe, net = leave(
                    available, safe, side, quote, quantity, fee_in, c, account
                )
                side = 0
                trades += 1
                if sums is not None:
                    sums[0] += net > 0.0
                    sums[1] += max(net, 0.0)
                    sums[2] -= min(net, 0.0)
            if ((now > 0 and account.longs) or (now < 0 and account.shorts)) and available > 0.0:
                side = np.int64(now)
                fill = c * (1.0 + account.slippage) if side > 0 else c * (1.0 - account.slippage)
                quote = available
                if account.sizing == FIXED_QUOTE:
                    quote = min(available, account.fixed_quote)
                quantity = quote / fill
                fee_in = quote * account.fee
                available = available - quote - fee_in
                if sl is not None:
                    low = fill * (1.0 - sl) if side > 0 else fill * (1.0 - tp)
                    high = fill * (1.0 + tp) if side > 0 else fill * (1.0 + sl)
        if t == last and side != 0:
            available, safe, net = leave(
                available, safe, side, quote, quantity, fee_in, close[t], account
            )
            side = 0
            trades += 1
            if sums is not None:
                sums[0] += net > 0.0
                sums[1] += max(net, 0.0)
                sums[2] -= min(net, 0.0)
        if fall is not None:
            equity = available + safe
            if side > 0:
                equity = equity + quantity * close[t]
            elif side < 0:
                equity = equity + quote + (quote - quantity * close[t])
            if t == 0:
                first = peak = trough = equity
            if equity > peak:
                peak = trough = equity
            elif equity < trough:
                trough = equity
                worst = max(worst, 1.0 - equity / peak)
    if fall is not None and close.size > 0 and not first > 0.0:
        worst = np.inf
    return available + safe, trades, 100.0 * worst


@_compiled
def stage_a_chunk(close, votes, rows, account, start, stop, equity, trades, sums, drawdown):
    """Fills the outputs of variants start..stop; `sums` and `drawdown` may be None."""
    signal = np.empty(close.size, np.int8)
    for i in range(start, stop):
        aggregate(votes, rows[i], signal)
        own = None if sums is None else sums[i]
        equity[i], trades[i], fall = bar_loop(close, signal, account, None, None, own, drawdown)
        if drawdown is not None:
            drawdown[i] = fall


@_compiled
def stage_b_chunk(close, votes, rows, account, sl, tp, start, stop, equity, trades, sums, drawdown):
    """As `stage_a_chunk` for every (SL, TP) rate of `sl` x `tp`; outputs [n, SL x TP, ...]."""
    signal = np.empty(close.size, np.int8)
    for i in range(start, stop):
        aggregate(votes, rows[i], signal)
        for pair in range(sl.size * tp.size):
            own = None if sums is None else sums[i, pair]
            equity[i, pair], trades[i, pair], fall = bar_loop(
                close, signal, account, sl[pair // tp.size], tp[pair % tp.size], own, drawdown
            )
            if drawdown is not None:
                drawdown[i, pair] = fall


def _scores(shape: tuple[int, ...], columns: bool, drawdown: bool) -> Scores:
    return Scores(
        np.empty(shape),
        np.empty(shape, np.int64),
        np.zeros((*shape, 3)) if columns else None,
        np.empty(shape) if drawdown else None,
    )


def _over_chunks(count: int, threads: int, work: Callable[[int, int], None]) -> None:
    size = min(CHUNK, -(-count // threads))  # a small sample keeps all threads busy too
    chunks = [(first, min(first + size, count)) for first in range(0, count, size)]
    if threads == 1:
        for first, last in chunks:
            work(first, last)
        return
    with ThreadPoolExecutor(threads) as pool:
        for done in [pool.submit(work, first, last) for first, last in chunks]:
            done.result()


def stage_a(
    close: NDArray[np.float64],
    votes: NDArray[np.int8],
    rows: NDArray[np.int32],
    terms: Account,
    *,
    columns: bool = False,
    drawdown: bool = False,
    threads: int = 1,
) -> Scores:
    """Scores of n base variants, no stops: `votes` i1[R, T] of all indicators, `rows` i4[n, K]."""
    done = _scores((len(rows),), columns, drawdown)

    def work(first: int, last: int) -> None:
        stage_a_chunk(
            close, votes, rows, terms, first, last,
            done.equity, done.trades, done.sums, done.drawdown_pct,
        )  # fmt: skip

    _over_chunks(len(rows), threads, work)
    return done


def stage_b(
    close: NDArray[np.float64],
    votes: NDArray[np.int8],
    rows: NDArray[np.int32],
    sl_pct: list[float | None],
    tp_pct: list[float | None],
    terms: Account,
    *,
    columns: bool = False,
    drawdown: bool = False,
    threads: int = 1,
) -> Scores:
    """Scores [n, SL x TP] of n base variants under every pair of levels (percent, None: off)."""
    sl, tp = (
        np.array([np.inf if level is None else level / 100.0 for level in levels])
        for levels in (sl_pct, tp_pct)
    )
    done = _scores((len(rows), len(sl) * len(tp)), columns, drawdown)

    def work(first: int, last: int) -> None:
        stage_b_chunk(
            close, votes, rows, terms, sl, tp, first, last,
            done.equity, done.trades, done.sums, done.drawdown_pct,
        )  # fmt: skip

    _over_chunks(len(rows), threads, work)
    return done
