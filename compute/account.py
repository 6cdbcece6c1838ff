"""The account: what one fill does to the balances (spec of every exact path, live included).

Balances are quote units in float64; the order of operations is part of the contract, so results are
equal to the bit wherever these two functions are called.
"""

from __future__ import annotations

from typing import NamedTuple

import numpy as np
from numpy.typing import NDArray

from compute.jit import kernel

SIZING_MODES = ("all_in", "fixed_quote", "strategy_compound", "strategy_compound_profit_lock")
ALL_IN, FIXED_QUOTE, COMPOUND, PROFIT_LOCK = range(4)
DIRECTION_MODES = ("long-short", "long-only", "short-only")
LONG_SHORT, LONG_ONLY, SHORT_ONLY = range(3)


class Terms(NamedTuple):
    """What all trades of a back-test share: costs as rates (0.001 = 0.1 %), cash in quote units."""

    init_cash: float
    fee: float
    slippage: float
    fixed_quote: float
    safe_pct: float
    sizing: int
    direction: int


def terms(
    *,
    init_cash_quote: float = 10_000.0,
    fee_pct: float = 0.075,
    slippage_pct: float = 0.01,
    fixed_quote: float = 100.0,
    safe_profit_percent: float = 30.0,
    sizing_mode: str = "all_in",
    direction_mode: str = "long-short",
) -> Terms:
    """`Terms` from the contract's human percents and mode names."""
    return Terms(
        float(init_cash_quote),
        float(fee_pct) / 100,
        float(slippage_pct) / 100,
        float(fixed_quote),
        float(safe_profit_percent),
        SIZING_MODES.index(sizing_mode),
        DIRECTION_MODES.index(direction_mode),
    )


@kernel
def entry_fill(close: float, side: int, slippage: float) -> float:
    """Price paid to enter at `close`: a long buys, a short sells."""
    return close * (1.0 + np.float64(side) * slippage)


@kernel
def open_position(
    available: float, close: float, side: int, terms: Terms
) -> tuple[float, float, float, float, float]:
    """(available, entry quote, entry fill, quantity, fee) after opening; needs available > 0."""
    quote = available
    if terms.sizing == FIXED_QUOTE and terms.fixed_quote < available:
        quote = terms.fixed_quote
    fill = entry_fill(close, side, terms.slippage)
    quantity = quote / fill
    fee = quote * terms.fee
    available = available - quote - fee
    return available, quote, fill, quantity, fee


@kernel
def close_position(
    available: float,
    safe: float,
    side: int,
    quote: float,
    quantity: float,
    entry_fee: float,
    close: float,
    terms: Terms,
) -> tuple[float, float, float, float, float, float, float, float]:
    """(available, safe, exit fill, exit quote, exit fee, gross, net, locked) after closing."""
    # A factor ±1 rounds nothing: the values of two written branches without their misprediction.
    sign = np.float64(side)
    fill = close * (1.0 - sign * terms.slippage)
    exit_quote = quantity * fill
    gross = sign * (exit_quote - quote)
    fee = exit_quote * terms.fee
    available = available + quote + gross - fee
    net = gross - entry_fee - fee
    locked = 0.0
    if terms.sizing == PROFIT_LOCK and net > 0.0:
        locked = net * terms.safe_pct / 100.0
        available = available - locked
        safe = safe + locked
    return available, safe, fill, exit_quote, fee, gross, net, locked


@kernel
def mark(
    available: float, safe: float, side: int, quote: float, quantity: float, close: float
) -> float:
    """Equity at a bar's close with an open position."""
    if side > 0:
        return available + safe + quantity * close
    return available + safe + quote + (quote - quantity * close)


@kernel
def factors(side: int | np.int64, terms: Terms) -> tuple[float, float]:
    """(A, B) of the growth A + B · close[exit] / close[entry] of one unit put into one trade."""
    f, s = terms.fee, terms.slippage
    if side > 0:
        return -f, (1.0 - s) * (1.0 - f) / (1.0 + s)
    return 2.0 - f, -(1.0 + f) * (1.0 + s) / (1.0 - s)


@kernel
def factor_table(terms: Terms) -> NDArray[np.float64]:
    """`factors` f8[2, 2]: row 0 of a long, row 1 of a short; an index cannot be mispredicted."""
    table = np.empty((2, 2))
    table[0, 0], table[0, 1] = factors(1, terms)
    table[1, 0], table[1, 1] = factors(-1, terms)
    return table
