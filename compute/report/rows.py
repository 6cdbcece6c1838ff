"""The 25 rows of a variant's report (contract backtest 7.2, 7.3)."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import TypeAlias

import numpy as np

from compute.report.format import count_text, date_text, duration_text, number_text
from compute.report.metrics import (
    Curve,
    Floats,
    Ints,
    TradeColumns,
    drawdown,
    drawdown_episodes_ms,
    quotient,
    ratios,
    total_return_pct,
    win_rate_pct,
)

Value: TypeAlias = float | int | None

METRICS = (
    "Start",
    "End",
    "Duration",
    "Init. Cash",
    "Total Profit",
    "Total Return [%]",
    "Benchmark Return [%]",
    "Position Coverage [%]",
    "Max. Drawdown [%]",
    "Avg. Drawdown [%]",
    "Max. Drawdown Duration",
    "Avg. Drawdown Duration",
    "Num. Trades",
    "Win Rate [%]",
    "Best Trade [%]",
    "Worst Trade [%]",
    "Avg. Trade [%]",
    "Max. Trade Duration",
    "Avg. Trade Duration",
    "Expectancy",
    "SQN",
    "Gross Exposure",
    "Sharpe Ratio",
    "Sortino Ratio",
    "Calmar Ratio",
)

_CASH_PLACES = 2
_PERCENT_PLACES = 4
_RATIO_PLACES = 5


@dataclass(frozen=True, slots=True)
class Row:
    """One line: `value` is the bare number (dates epoch ms, durations ms, N/A None)."""

    metric: str
    value: Value
    text: str


def report_rows(
    curve: Curve,
    trades: TradeColumns,
    *,
    period_start_ms: int,
    period_end_ms: int,
    init_cash: float,
) -> list[Row]:
    """The 25 rows in fixed order; the period is the requested one, not the bars' bounds."""
    values: dict[str, Value] = {
        "Start": period_start_ms,
        "End": period_end_ms,
        "Duration": period_end_ms - period_start_ms,
        "Init. Cash": init_cash,
        **_curve_values(curve, init_cash),
        **_trade_values(curve, trades),
    }
    return [_row(metric, values[metric]) for metric in METRICS]


def rows_record(rows: list[Row]) -> list[dict[str, str]]:
    """`rows[{metric, value}]` of the wire: the values as the texts of the table."""
    return [{"metric": row.metric, "value": row.text} for row in rows]


def _curve_values(curve: Curve, init_cash: float) -> dict[str, Value]:
    equity = curve.equity
    bars = len(equity)
    fall = drawdown(equity)
    longest_ms, mean_ms = _drawdown_durations_ms(fall, curve.close_ts_ms)
    ratio = ratios(equity, curve.close_ts_ms, fall)
    return {
        "Total Profit": float(equity[-1]) - init_cash if bars else 0.0,
        "Total Return [%]": total_return_pct(equity, init_cash),
        "Benchmark Return [%]": hold_return_pct(curve.close),
        "Position Coverage [%]": 100.0 * float(np.mean(curve.have_position)) if bars else None,
        "Max. Drawdown [%]": None if fall is None else 100.0 * float(fall.max()),
        "Avg. Drawdown [%]": None if fall is None else 100.0 * float(fall.mean()),
        "Max. Drawdown Duration": longest_ms,
        "Avg. Drawdown Duration": mean_ms,
        "Gross Exposure": float(np.mean(curve.exposure)) if bars else None,
        "Sharpe Ratio": ratio.sharpe,
        "Sortino Ratio": ratio.sortino,
        "Calmar Ratio": ratio.calmar,
    }


def _drawdown_durations_ms(fall: Floats | None, close_ts_ms: Ints) -> tuple[int | None, int | None]:
    """(longest, floor of the mean), None without a drawdown."""
    if fall is None:
        return None, None
    episodes = drawdown_episodes_ms(fall, close_ts_ms)
    if not len(episodes):
        return None, None
    return int(episodes.max()), int(episodes.sum()) // len(episodes)


def hold_return_pct(close: Floats) -> float | None:
    """Percent that buying at the first close and holding to the last one returns, without costs;
    None without bars or where the first close is not positive."""
    if not len(close) or not close[0] > 0.0:
        return None
    return (float(close[-1]) / float(close[0]) - 1.0) * 100.0


def _trade_values(curve: Curve, trades: TradeColumns) -> dict[str, Value]:
    count = len(trades.net)
    if not count:
        none = dict.fromkeys(METRICS[METRICS.index("Win Rate [%]") : METRICS.index("SQN") + 1])
        return {"Num. Trades": 0, **none}
    gain_pct = trades.net / trades.entry_quote * 100.0
    mean_pct = float(np.mean(gain_pct))
    time_ms = curve.close_ts_ms
    held_ms = time_ms[trades.exit_bar - curve.start] - time_ms[trades.entry_bar - curve.start]
    return {
        "Num. Trades": count,
        "Win Rate [%]": win_rate_pct(trades.net),
        "Best Trade [%]": float(gain_pct.max()),
        "Worst Trade [%]": float(gain_pct.min()),
        "Avg. Trade [%]": mean_pct,
        "Max. Trade Duration": int(held_ms.max()),
        "Avg. Trade Duration": int(held_ms.sum()) // count,
        "Expectancy": mean_pct,
        "SQN": _quality_number(trades.net),
    }


def _quality_number(net: Floats) -> float | None:
    if len(net) < 2:
        return None
    return quotient(math.sqrt(len(net)) * float(np.mean(net)), float(np.std(net, ddof=1)))


def _row(metric: str, value: Value) -> Row:
    if value is not None and not math.isfinite(value):
        value = None
    return Row(metric, value, _TEXTS[metric](value))


def _places(places: int) -> Callable[[Value], str]:
    return lambda value: number_text(value, places)


def _text_of(metric: str) -> Callable[..., str]:
    if metric in ("Start", "End"):
        return date_text
    if metric.endswith("Duration"):
        return duration_text
    if metric == "Num. Trades":
        return count_text
    if metric in ("Init. Cash", "Total Profit"):
        return _places(_CASH_PLACES)
    if metric.endswith("[%]") or metric in ("Expectancy", "Gross Exposure"):
        return _places(_PERCENT_PLACES)
    return _places(_RATIO_PLACES)


_TEXTS = {metric: _text_of(metric) for metric in METRICS}
