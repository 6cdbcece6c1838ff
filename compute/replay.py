"""Replay: one variant walked again in full, to its trades and its equity at every bar."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Literal

import numpy as np
from numpy.typing import NDArray

from compute.account import LONG_ONLY, SHORT_ONLY, Terms
from compute.exact import (
    AVAILABLE,
    DRAWDOWN,
    EQUITY,
    LOST,
    OFF,
    SAFE,
    SCORES,
    TRADES,
    WINS,
    WON,
    account_runs,
    extract_runs,
    run_extremes,
)
from compute.trades import Trades


@dataclass(frozen=True, slots=True)
class OpenPosition:
    """The position that `end="open"` leaves: bar indexes all loaded bars, money in quote units."""

    side: int
    entry_bar: int
    entry_fill: float
    qty_base: float
    entry_quote: float
    entry_fee: float


@dataclass(frozen=True, slots=True)
class Replay:
    """Trades and per-bar curve of one variant over the target slice of N bars.

    `equity` is quote units at each bar's close after its actions, `exposure` entry quote / equity
    on the bars of a position (NaN where equity is 0), `start` the slice's first bar among all
    loaded.
    """

    trades: Trades
    close_ts_ms: NDArray[np.int64]
    close: NDArray[np.float64]
    equity: NDArray[np.float64]
    have_position: NDArray[np.bool_]
    exposure: NDArray[np.float64]
    start: int
    init_cash: float
    available: float
    safe: float
    equity_end: float
    num_wins: int
    won: float
    lost: float
    max_drawdown: float
    position: OpenPosition | None

    @property
    def total_return_pct(self) -> float:
        return (self.equity_end / self.init_cash - 1) * 100


def stop_rate(pct: float | None) -> float:
    """Rate of a stop level given in percent; `OFF` when disabled."""
    return OFF if pct is None else pct / 100


def sided(
    long: NDArray[np.uint64], short: NDArray[np.uint64], terms: Terms
) -> tuple[NDArray[np.uint64], NDArray[np.uint64]]:
    """The votes that may open a position: a forbidden side only closes, hence counts as no vote."""
    if terms.direction == LONG_ONLY:
        short = np.zeros_like(short)
    elif terms.direction == SHORT_ONLY:
        long = np.zeros_like(long)
    return np.ascontiguousarray(long), np.ascontiguousarray(short)


def replay(
    close: NDArray[np.float64],
    close_ts_ms: NDArray[np.int64],
    long: NDArray[np.uint64],
    short: NDArray[np.uint64],
    terms: Terms,
    *,
    sl_pct: float | None = None,
    tp_pct: float | None = None,
    start: int = 0,
    end: Literal["close", "open"] = "close",
) -> Replay:
    """`Replay` of one aggregated vote (packed words of the N slice bars) under one pair of stops.

    `close` f8[N] and `close_ts_ms` i8[N] belong to the slice; `start` is its offset in all loaded
    bars.
    """
    bars = len(close)
    long, short = sided(long, short, terms)
    entry = np.empty(bars + 1, np.int32)
    exit_ = np.empty(bars + 1, np.int32)
    side = np.empty(bars + 1, np.int8)
    count, unfinished = extract_runs(long, short, bars, entry, exit_, side)
    low, high = np.empty(bars + 1), np.empty(bars + 1)
    run_extremes(close, entry, exit_, count, low, high)
    money = np.empty((count, 10))
    where = np.empty((count, 4), np.int64)
    equity = np.empty(bars)
    out = np.empty(SCORES)
    rows = account_runs(
        close, entry, exit_, side, low, high, count, unfinished, terms,
        stop_rate(sl_pct), stop_rate(tp_pct), end == "open", True, equity, money, where, out,
    )  # fmt: skip
    closed = int(out[TRADES])
    position = None
    if rows > closed:
        position = OpenPosition(
            int(where[closed, 0]),
            int(where[closed, 1]) + start,
            *money[closed, [0, 2, 3, 5]].tolist(),
        )
    trades = Trades.of_rows(where[:closed], money[:closed], start)
    have, amount = _exposure(trades, position, bars, start)
    with np.errstate(divide="ignore", invalid="ignore"):
        exposure = np.where(have, np.where(equity != 0, amount / equity, np.nan), 0.0)
    return Replay(
        trades, close_ts_ms, close, equity, have, exposure, start, terms.init_cash,
        float(out[AVAILABLE]), float(out[SAFE]), float(out[EQUITY]), int(out[WINS]),
        float(out[WON]), float(out[LOST]), float(out[DRAWDOWN]), position,
    )  # fmt: skip


def _exposure(
    trades: Trades, position: OpenPosition | None, bars: int, start: int
) -> tuple[NDArray[np.bool_], NDArray[np.float64]]:
    """(in position, entry quote) per slice bar; a later trade wins on a shared bar."""
    have = np.zeros(bars, np.bool_)
    amount = np.zeros(bars)
    entry, exit_ = trades.entry_bar - start, trades.exit_bar - start
    lengths = exit_ - entry + 1
    lengths[:-1] -= entry[1:] == exit_[:-1]
    first = np.cumsum(lengths) - lengths
    held = np.repeat(entry - first, lengths) + np.arange(int(lengths.sum()))
    have[held] = True
    amount[held] = np.repeat(trades.entry_quote, lengths)
    if position is not None:
        have[position.entry_bar - start :] = True
        amount[position.entry_bar - start :] = position.entry_quote
    return have, amount
