"""Numbers of one replayed variant: ranking metrics, drawdown, daily ratios (contract 6.3, 7.2)."""

from __future__ import annotations

import math
from dataclasses import dataclass
from typing import Protocol, TypeAlias

import numpy as np
from numpy.typing import NDArray

DAY_MS = 86_400_000
DAYS_PER_YEAR = 365
DRAWDOWN_EPSILON = 1e-12
"""A drawdown episode lasts while 1 - equity / peak is above this."""

Floats: TypeAlias = NDArray[np.float64]
Ints: TypeAlias = NDArray[np.int64]


class TradeColumns(Protocol):
    """Trades in entry order; bars index all loaded bars, warm-up included."""

    @property
    def side(self) -> NDArray[np.int8]: ...
    @property
    def entry_bar(self) -> Ints: ...
    @property
    def exit_bar(self) -> Ints: ...
    @property
    def entry_quote(self) -> Floats: ...
    @property
    def net(self) -> Floats: ...


class Curve(Protocol):
    """Equity at the close of each target bar; `start` is the slice's first bar among all loaded."""

    @property
    def start(self) -> int: ...
    @property
    def close_ts_ms(self) -> Ints: ...
    @property
    def close(self) -> Floats: ...
    @property
    def equity(self) -> Floats: ...
    @property
    def have_position(self) -> NDArray[np.bool_]: ...
    @property
    def exposure(self) -> Floats: ...


@dataclass(frozen=True, slots=True)
class Ratios:
    """Annualised ratios; None where the contract says N/A."""

    sharpe: float | None
    sortino: float | None
    calmar: float | None


@dataclass(frozen=True, slots=True)
class Metrics:
    """What a variant is ranked by and listed with; never NaN, infinities are meant."""

    total_return_pct: float
    max_drawdown_pct: float
    return_over_max_drawdown: float
    profit_factor: float
    win_rate_pct: float | None
    num_trades: int

    def record(self) -> dict[str, float | int | None]:
        """The metrics by name, infinities as None (JSON has none)."""
        values: dict[str, float | int | None] = {
            "total_return_pct": self.total_return_pct,
            "max_drawdown_pct": self.max_drawdown_pct,
            "return_over_max_drawdown": self.return_over_max_drawdown,
            "profit_factor": self.profit_factor,
            "win_rate_pct": self.win_rate_pct,
            "num_trades": self.num_trades,
        }
        return {k: v if v is not None and math.isfinite(v) else None for k, v in values.items()}


def metrics(curve: Curve, trades: TradeColumns, *, init_cash: float) -> Metrics:
    """The four ranking metrics, the win rate and the number of trades of one replay."""
    gain_pct = total_return_pct(curve.equity, init_cash)
    drop_pct = max_drawdown_pct(curve.equity)
    return Metrics(
        total_return_pct=gain_pct,
        max_drawdown_pct=drop_pct,
        return_over_max_drawdown=return_over_drawdown(gain_pct, drop_pct),
        profit_factor=profit_factor(trades.net),
        win_rate_pct=win_rate_pct(trades.net),
        num_trades=len(trades.net),
    )


def total_return_pct(equity: Floats, init_cash: float) -> float:
    """Percent from the initial cash to the last bar's equity; 0 without bars."""
    return (float(equity[-1]) / init_cash - 1.0) * 100.0 if len(equity) else 0.0


def drawdown(equity: Floats) -> Floats | None:
    """Fraction below the running peak at each bar (the peak starts at the first bar).

    None without bars, with a peak at or below zero, or with a non-finite value.
    """
    if not len(equity):
        return None
    peak = np.maximum.accumulate(equity)
    if not peak[0] > 0.0:
        return None
    with np.errstate(all="ignore"):
        fall = 1.0 - equity / peak
    return fall if bool(np.isfinite(fall).all()) else None


def max_drawdown_pct(equity: Floats) -> float:
    """Row 9 as a ranking key: 0 without bars, +inf (the worst) where the report says N/A."""
    if not len(equity):
        return 0.0
    fall = drawdown(equity)
    return math.inf if fall is None else 100.0 * float(fall.max())


def return_over_drawdown(gain_pct: float, drop_pct: float) -> float:
    """Return per drawdown; the sign's infinity at drawdown 0, -inf when it is undefined."""
    if math.isinf(drop_pct):
        return -math.inf
    if drop_pct == 0.0:
        return math.copysign(math.inf, gain_pct) if gain_pct != 0.0 else 0.0
    return gain_pct / drop_pct


def profit_factor(net: Floats) -> float:
    """Σ wins / |Σ losses|, summed in trade order; +inf without losses, 0 without wins."""
    wins = _sum_in_order(net[net > 0.0])
    losses = -_sum_in_order(net[net < 0.0])
    if losses == 0.0:
        return math.inf if wins > 0.0 else 0.0
    return wins / losses


def win_rate_pct(net: Floats) -> float | None:
    """Percent of trades with a net profit; None without trades."""
    return 100.0 * float(np.count_nonzero(net > 0.0)) / len(net) if len(net) else None


def drawdown_episodes_ms(fall: Floats, close_ts_ms: Ints) -> Ints:
    """Lengths of the drawdown episodes, in order; an open one ends at the last bar."""
    under = fall > DRAWDOWN_EPSILON
    steps = np.diff(under.astype(np.int8), prepend=np.int8(0))
    starts = np.flatnonzero(steps == 1)
    ends = np.flatnonzero(steps == -1)
    if len(ends) < len(starts):
        ends = np.append(ends, len(under) - 1)
    return close_ts_ms[ends] - close_ts_ms[starts]


def ratios(equity: Floats, close_ts_ms: Ints, fall: Floats | None) -> Ratios:
    """Sharpe, Sortino and Calmar over daily returns, risk-free rate 0, 365 days a year.

    A day is the UTC day of a bar's close and counts with its last equity; empty days do not count.
    """
    days = close_ts_ms // DAY_MS
    daily = equity[np.append(np.flatnonzero(np.diff(days)), len(days) - 1)] if len(days) else equity
    if len(daily) < 3 or not bool((daily[:-1] > 0.0).all()):
        return Ratios(None, None, None)
    with np.errstate(all="ignore"):
        growth = daily[1:] / daily[:-1]
        daily_return = growth - 1.0
        if not bool((1.0 + daily_return > 0.0).all()):
            return Ratios(None, None, None)
        mean_growth = np.exp(np.mean(np.log(1.0 + daily_return))) - 1.0
        annual = float((1.0 + mean_growth) ** DAYS_PER_YEAR - 1.0)
        if not math.isfinite(annual):
            return Ratios(None, None, None)
        year = math.sqrt(DAYS_PER_YEAR)
        spread = float(np.std(daily_return, ddof=1)) * year
        below = float(np.sqrt(np.mean(np.minimum(daily_return, 0.0) ** 2))) * year
    return Ratios(
        sharpe=quotient(annual, spread),
        sortino=quotient(annual, below),
        calmar=None if fall is None else quotient(annual, float(fall.max())),
    )


def quotient(numerator: float, denominator: float) -> float | None:
    """A finite quotient, or None when the denominator is 0 or anything is non-finite."""
    if denominator == 0.0 or not math.isfinite(denominator):
        return None
    value = numerator / denominator
    return value if math.isfinite(value) else None


def _sum_in_order(values: Floats) -> float:
    # np.sum adds pairwise; the engines add trade by trade and the ranking wants their bits.
    return float(np.cumsum(values)[-1]) if len(values) else 0.0
