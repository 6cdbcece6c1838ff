"""The oracle of the close-fill engine: one variant, bar by bar, in plain Python objects.

It is written to be checked by eye against the contract (state machine, prices, accounting, equity,
ranking metrics), operation by operation, and imports nothing of the engine that it judges.
"""

from __future__ import annotations

import math
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, field
from typing import Literal

LONG, SHORT, NEUTRAL = 1, -1, 0
CODES = {"LONG": LONG, "SHORT": SHORT, "NEUTRAL": NEUTRAL}
DIRECTIONS = {
    "long-only": (LONG,),
    "short-only": (SHORT,),
    "long-short": (LONG, SHORT),
}
SIZINGS = ("all_in", "fixed_quote", "strategy_compound", "strategy_compound_profit_lock")


@dataclass(frozen=True, slots=True)
class Trade:
    """One closed trade; bar indices count all loaded bars, warm-up included."""

    trade_id: int
    direction: str
    entry_bar_index: int
    exit_bar_index: int
    entry_fill_price: float
    exit_fill_price: float
    qty_base: float
    entry_quote_amount: float
    exit_quote_amount: float
    entry_fee_quote: float
    exit_fee_quote: float
    gross_pnl_quote: float
    net_pnl_quote: float
    locked_profit_quote: float
    exit_reason: str


@dataclass(frozen=True, slots=True)
class Position:
    """The open position: its fill E, quantity, reserved quote amount Q and fee paid."""

    side: int
    entry_bar_index: int
    entry_fill_price: float
    qty_base: float
    entry_quote_amount: float
    entry_fee_quote: float


@dataclass(frozen=True, slots=True)
class Simulation:
    """Everything one variant did: closed trades, equity per target bar, balances, metrics.

    `position` is what is still open at the end (`end="open"` alone). `win_rate_pct` is None
    without trades. An undefined drawdown (some running peak <= 0, or not finite) is +inf, and
    return over it -inf, so that it ranks last.
    """

    trades: list[Trade]
    equity: list[float]
    have_position: list[bool]
    exposure: list[float]
    position: Position | None
    available: float
    safe: float
    equity_end: float
    total_return_pct: float
    num_trades: int
    win_rate_pct: float | None
    profit_factor: float
    max_drawdown_pct: float
    return_over_max_drawdown: float


@dataclass(slots=True)
class _Account:
    """Balances and position of one account, with the two operations that change them."""

    sizing_mode: str
    fixed_quote: float
    safe_profit_percent: float
    fee: float
    slippage: float
    available: float
    safe: float = 0.0
    position: Position | None = None
    trades: list[Trade] = field(default_factory=list)

    def buy(self, close: float) -> float:
        return close * (1.0 + self.slippage)

    def sell(self, close: float) -> float:
        return close * (1.0 - self.slippage)

    def budget(self) -> float:
        if self.available <= 0.0:
            return 0.0
        if self.sizing_mode == "fixed_quote":
            return min(self.available, self.fixed_quote)
        return self.available

    def open(self, side: int, bar: int, close: float) -> None:
        entry_fill = self.buy(close) if side == LONG else self.sell(close)
        quote = self.budget()
        qty = quote / entry_fill
        fee_in = quote * self.fee
        self.available = self.available - quote - fee_in
        self.position = Position(side, bar, entry_fill, qty, quote, fee_in)

    def close(self, bar: int, close: float, reason: str) -> None:
        held = self.position
        assert held is not None
        quote = held.entry_quote_amount
        exit_fill = self.sell(close) if held.side == LONG else self.buy(close)
        exit_quote = held.qty_base * exit_fill
        fee_out = exit_quote * self.fee
        gross = exit_quote - quote if held.side == LONG else quote - exit_quote
        self.available = self.available + quote + gross - fee_out
        net = gross - held.entry_fee_quote - fee_out
        locked = 0.0
        if self.sizing_mode == "strategy_compound_profit_lock" and net > 0.0:
            locked = net * self.safe_profit_percent / 100.0
            self.available = self.available - locked
            self.safe = self.safe + locked
        self.position = None
        self.trades.append(
            Trade(
                trade_id=len(self.trades) + 1,
                direction="long" if held.side == LONG else "short",
                entry_bar_index=held.entry_bar_index,
                exit_bar_index=bar,
                entry_fill_price=held.entry_fill_price,
                exit_fill_price=exit_fill,
                qty_base=held.qty_base,
                entry_quote_amount=quote,
                exit_quote_amount=exit_quote,
                entry_fee_quote=held.entry_fee_quote,
                exit_fee_quote=fee_out,
                gross_pnl_quote=gross,
                net_pnl_quote=net,
                locked_profit_quote=locked,
                exit_reason=reason,
            )
        )

    def equity(self, close: float) -> float:
        held = self.position
        if held is None:
            return self.available + self.safe
        if held.side == LONG:
            return self.available + self.safe + held.qty_base * close
        quote = held.entry_quote_amount
        return self.available + self.safe + quote + (quote - held.qty_base * close)


def simulate(
    closes: Iterable[float],
    signals: Iterable[int | str],
    *,
    direction_mode: str,
    sizing_mode: str,
    init_cash_quote: float,
    fee_pct: float,
    slippage_pct: float,
    fixed_quote: float,
    safe_profit_percent: float,
    sl_pct: float | None = None,
    tp_pct: float | None = None,
    start: int = 0,
    stop: int | None = None,
    end: Literal["close", "open"] = "close",
) -> Simulation:
    """Trades, equity and metrics of one signal vector over target bars `[start, stop)`.

    `closes` are the float32 closes as float64 and `signals` codes 1, -1, 0 or their texts, both
    over all loaded bars. All `_pct` are percents. `end="open"` leaves the last position open.
    Raises ValueError for an unknown mode or signal, a non-positive close, and unequal lengths.
    """
    if direction_mode not in DIRECTIONS:
        raise ValueError(f"direction_mode must be one of {sorted(DIRECTIONS)}: {direction_mode!r}")
    if sizing_mode not in SIZINGS:
        raise ValueError(f"sizing_mode must be one of {sorted(SIZINGS)}: {sizing_mode!r}")
    if end not in ("close", "open"):
        raise ValueError(f"end must be 'close' or 'open': {end!r}")
    prices = [float(close) for close in closes]
    codes = [signal_code(signal) for signal in signals]
    if len(prices) != len(codes):
        raise ValueError(f"{len(prices)} closes and {len(codes)} signals must be equally many")
    stop = len(prices) if stop is None else stop

    account = _Account(
        sizing_mode=sizing_mode,
        fixed_quote=fixed_quote,
        safe_profit_percent=safe_profit_percent,
        fee=fee_pct / 100.0,
        slippage=slippage_pct / 100.0,
        available=init_cash_quote,
    )
    sl = None if sl_pct is None else sl_pct / 100.0
    tp = None if tp_pct is None else tp_pct / 100.0
    equity: list[float] = []
    previous = NEUTRAL
    for bar in range(start, stop):
        close, signal = prices[bar], codes[bar]
        if not close > 0.0:
            raise ValueError(f"close must be > 0, bar {bar} has {close}")
        # 1. risk exit
        if account.position is not None:
            reason = risk_exit(account.position, close, sl, tp)
            if reason is not None:
                account.close(bar, close, reason)
        # 2. signal exit
        if account.position is not None and signal != account.position.side:
            account.close(bar, close, "signal_exit")
        # 3. entry
        edge = signal != previous
        allowed = signal in DIRECTIONS[direction_mode]
        if account.position is None and edge and allowed and account.budget() > 0.0:
            account.open(signal, bar, close)
        # 4. forced close
        if end == "close" and bar == stop - 1 and account.position is not None:
            account.close(bar, close, "forced_close")
        # 5. the next bar's previous signal
        previous = signal
        equity.append(account.equity(close))
    return _simulation(account, equity, init_cash_quote, start)


def signal_code(signal: int | str) -> int:
    """1, -1 or 0 of a code or of a LONG / SHORT / NEUTRAL text (trimmed, any case)."""
    if isinstance(signal, str):
        text = signal.strip().upper()
        if text in CODES:
            return CODES[text]
    elif not isinstance(signal, bool) and signal in (LONG, SHORT, NEUTRAL):
        return int(signal)
    raise ValueError(f"signal must be LONG, SHORT or NEUTRAL (1, -1, 0), got {signal!r}")


def risk_exit(held: Position, close: float, sl: float | None, tp: float | None) -> str | None:
    """`sl`, `tp` or None: what the raw close does to an open position; both at once is `sl`."""
    entry = held.entry_fill_price
    if held.side == LONG:
        sl_hit = sl is not None and close <= entry * (1.0 - sl)
        tp_hit = tp is not None and close >= entry * (1.0 + tp)
    else:
        sl_hit = sl is not None and close >= entry * (1.0 + sl)
        tp_hit = tp is not None and close <= entry * (1.0 - tp)
    if sl_hit:
        return "sl"
    return "tp" if tp_hit else None


def max_drawdown_pct(equity: Sequence[float]) -> float:
    """100 x the largest fall from a running peak (from the first bar's equity); 0 without bars."""
    worst = 0.0
    peak = -math.inf
    for value in equity:
        peak = max(peak, value)
        drawdown = 1.0 - value / peak if peak > 0.0 else math.nan
        if not math.isfinite(drawdown):
            return math.inf
        worst = max(worst, drawdown)
    return 100.0 * worst


def return_over_max_drawdown(total_return_pct: float, drawdown_pct: float) -> float:
    """Return per unit of drawdown; no drawdown is +inf, 0 or -inf by the sign of the return."""
    if drawdown_pct == math.inf:
        return -math.inf
    if drawdown_pct == 0.0:
        return math.copysign(math.inf, total_return_pct) if total_return_pct != 0.0 else 0.0
    return total_return_pct / drawdown_pct


def profit_factor(trades: Sequence[Trade]) -> float:
    """Sum of net wins / |sum of net losses|; +inf with wins alone, 0 with neither."""
    wins = losses = 0.0
    for trade in trades:
        if trade.net_pnl_quote > 0.0:
            wins = wins + trade.net_pnl_quote
        elif trade.net_pnl_quote < 0.0:
            losses = losses + trade.net_pnl_quote
    if losses == 0.0:
        return math.inf if wins > 0.0 else 0.0
    return wins / abs(losses)


def _curve(
    trades: Sequence[Trade], position: Position | None, equity: Sequence[float], start: int
) -> tuple[list[bool], list[float]]:
    """Per target bar: a position was held (entry..exit inclusive), and Q / equity of the later
    trade of that bar (NaN when equity is 0)."""
    spans = [(t.entry_bar_index, t.exit_bar_index, t.entry_quote_amount) for t in trades]
    if position is not None:
        last = start + len(equity) - 1
        spans.append((position.entry_bar_index, last, position.entry_quote_amount))
    have_position = [False] * len(equity)
    exposure = [0.0] * len(equity)
    for entry, exit_, quote in spans:
        for i in range(entry - start, exit_ - start + 1):
            have_position[i] = True
            exposure[i] = quote / equity[i] if equity[i] != 0.0 else math.nan
    return have_position, exposure


def _simulation(
    account: _Account, equity: list[float], init_cash_quote: float, start: int
) -> Simulation:
    trades = account.trades
    equity_end = equity[-1] if equity else account.available + account.safe
    total_return_pct = (equity_end / init_cash_quote - 1.0) * 100.0
    drawdown_pct = max_drawdown_pct(equity)
    have_position, exposure = _curve(trades, account.position, equity, start)
    wins = sum(1 for trade in trades if trade.net_pnl_quote > 0.0)
    return Simulation(
        trades=trades,
        equity=equity,
        have_position=have_position,
        exposure=exposure,
        position=account.position,
        available=account.available,
        safe=account.safe,
        equity_end=equity_end,
        total_return_pct=total_return_pct,
        num_trades=len(trades),
        win_rate_pct=100.0 * wins / len(trades) if trades else None,
        profit_factor=profit_factor(trades),
        max_drawdown_pct=drawdown_pct,
        return_over_max_drawdown=return_over_max_drawdown(total_return_pct, drawdown_pct),
    )
