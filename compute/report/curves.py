"""Display arrays of a replayed variant: few points, every extreme (the report page's charts)."""

from __future__ import annotations

import math
from collections.abc import Sequence
from typing import Protocol, TypedDict

import numpy as np
from numpy.typing import NDArray

from compute.report.metrics import Curve, Floats, Ints, TradeColumns, drawdown

MARKET_BUCKETS = 4_000
CURVE_BUCKETS = 1_500
MAX_TRADES = 4_000
REASONS = ("sl", "tp", "signal_exit", "forced_close")
"""Exit reasons in the order of their codes."""

_DIGITS = 7


class Series(TypedDict):
    """Sampled values; `bars` count from the first bar of the target slice."""

    bars: list[int]
    values: list[float | None]


class MarketCurve(TypedDict):
    """The close of the target slice; bar i closes at `first_close_ms + i * bar_ms`."""

    first_close_ms: int
    bar_ms: int
    bars: int
    close: Series


class TradeMarks(TypedDict):
    """Trades as columns, bars counted from the slice's start; `total` may exceed those listed."""

    total: int
    number: list[int]
    side: list[int]
    entry_bar: list[int]
    exit_bar: list[int]
    entry_price: list[float | None]
    exit_price: list[float | None]
    net_quote: list[float | None]
    net_pct: list[float | None]
    reason: list[int]
    reason_counts: list[int]


class VariantCurve(TypedDict):
    """One variant's charts; `variant` is its 0-based place in the ranked table."""

    variant: int
    init_cash: float
    equity: Series
    drawdown_pct: Series
    trades: TradeMarks


class TradeFills(TradeColumns, Protocol):
    @property
    def entry_fill(self) -> Floats: ...
    @property
    def exit_fill(self) -> Floats: ...
    @property
    def reason(self) -> NDArray[np.int8]: ...


class Replay(Curve, Protocol):
    @property
    def trades(self) -> TradeFills: ...


def market_curve(replay: Curve, *, buckets: int = MARKET_BUCKETS) -> MarketCurve:
    """The price all variants share (a timeline has no holes, so two numbers give every time)."""
    time_ms = replay.close_ts_ms
    return MarketCurve(
        first_close_ms=int(time_ms[0]) if len(time_ms) else 0,
        bar_ms=int(time_ms[1] - time_ms[0]) if len(time_ms) > 1 else 0,
        bars=len(time_ms),
        close=_series(replay.close, buckets),
    )


def variant_curve(
    replay: Replay, *, variant: int, init_cash: float, buckets: int = CURVE_BUCKETS
) -> VariantCurve:
    """Equity, drawdown and trades of one variant for display."""
    fall = drawdown(replay.equity)
    return VariantCurve(
        variant=variant,
        init_cash=init_cash,
        equity=_series(replay.equity, buckets),
        drawdown_pct=_series(np.empty(0) if fall is None else -100.0 * fall, buckets),
        trades=_marks(replay.trades, replay.start),
    )


def extremes(values: Floats, buckets: int) -> Ints:
    """Ascending indices of the first and last value and of each bucket's least and greatest.

    At most `2 * buckets + 2` of them; all when there are no more than `2 * buckets`.
    """
    count = len(values)
    if count <= 2 * buckets:
        return np.arange(count, dtype=np.int64)
    width = -(-count // buckets)
    full = -(-count // width)
    padded = np.full(full * width, values[-1])
    padded[:count] = values
    rows = padded.reshape(full, width)
    first = np.arange(full, dtype=np.int64) * width
    picked = np.concatenate(
        ([0], first + rows.argmin(axis=1), first + rows.argmax(axis=1), [count - 1])
    )
    return np.unique(np.minimum(picked, count - 1))


def rounded(values: Sequence[float] | Floats) -> list[float | None]:
    """Values with 7 significant digits for JSON; non-finite as None."""
    return [float(f"{v:.{_DIGITS}g}") if math.isfinite(v) else None for v in map(float, values)]


def _series(values: Floats, buckets: int) -> Series:
    bars = extremes(values, buckets)
    return Series(bars=bars.tolist(), values=rounded(values[bars]))


def _marks(trades: TradeFills, start: int) -> TradeMarks:
    """The trades, or the `MAX_TRADES` with the largest net result when there are more."""
    total = len(trades.net)
    if total <= MAX_TRADES:
        kept = np.arange(total, dtype=np.int64)
    else:
        kept = np.sort(np.argpartition(-np.abs(trades.net), MAX_TRADES)[:MAX_TRADES])
    return TradeMarks(
        total=total,
        number=(kept + 1).tolist(),
        side=trades.side[kept].tolist(),
        entry_bar=(trades.entry_bar[kept] - start).tolist(),
        exit_bar=(trades.exit_bar[kept] - start).tolist(),
        entry_price=rounded(trades.entry_fill[kept]),
        exit_price=rounded(trades.exit_fill[kept]),
        net_quote=rounded(trades.net[kept]),
        net_pct=rounded(trades.net[kept] / trades.entry_quote[kept] * 100.0),
        reason=trades.reason[kept].tolist(),
        reason_counts=np.bincount(trades.reason, minlength=len(REASONS)).tolist(),
    )
