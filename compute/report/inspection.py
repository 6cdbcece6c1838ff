"""Everything that is looked at of one variant: curves, months, trades, candles, votes."""

from __future__ import annotations

import math
from typing import Any, Final, TypedDict

import numpy as np
from numpy.typing import NDArray

from compute.bits import unpack
from compute.control import Control
from compute.details import replayed
from compute.executor import Executor
from compute.pipeline import Clock, Outcome, Run
from compute.ranking import metric
from compute.replay import Replay
from compute.report.curves import (
    CURVE_BUCKETS,
    MAX_TRADES,
    Series,
    extremes,
    rounded,
    variant_curve,
)
from compute.report.format import read_text
from compute.report.metrics import Floats, Ints, metrics
from compute.report.rows import hold_return_pct, report_rows, rows_record

CANDLES: Final = 1_200
"""Most candles and votes of a window; beyond them neighbours are joined."""


class Window(TypedDict):
    """Bars [start, stop) of the part, `width` of them to a candle; `votes` of an indicator are -1
    to 1, the mean over a candle's bars."""

    start: int
    stop: int
    width: int
    open: list[float | None]
    high: list[float | None]
    low: list[float | None]
    close: list[float | None]
    votes: list[dict[str, Any]]


class Inspection(TypedDict):
    """One variant over one part of its period; bars count from the part's first one, bar i closes
    at `first_close_ms + i * bar_ms`."""

    first_close_ms: int
    bar_ms: int
    bars: int
    init_cash: float
    metrics: dict[str, float | int | None]
    rows: list[dict[str, str]]
    holdout: dict[str, float | None] | None
    equity: Series
    hold: Series
    drawdown_pct: Series
    months: list[dict[str, Any]]
    trades_total: int
    trades: list[dict[str, Any]]
    window: Window


def inspection(outcome: Outcome, executor: Executor, *, held_out: bool) -> Inspection:
    """The `Inspection` of the first row of an outcome, over the part that was ranked or the other.

    Of more than `curves.MAX_TRADES` trades it lists those with the largest net result.
    """
    walked = replay_of(outcome, executor, held_out=held_out)
    times = walked.close_ts_ms
    start_ms, end_ms = outcome.job.period.start_ms, outcome.job.period.end_ms
    if outcome.holdout is not None:
        cut_ms = int(outcome.timeline.close_ts_ms[_part(outcome, True)[0]])
        start_ms, end_ms = (cut_ms, end_ms) if held_out else (start_ms, cut_ms)
    curve = variant_curve(walked, variant=0, init_cash=walked.init_cash)
    rows = rows_record(
        report_rows(
            walked,
            walked.trades,
            period_start_ms=start_ms,
            period_end_ms=end_ms,
            init_cash=walked.init_cash,
        )
    )
    return Inspection(
        first_close_ms=int(times[0]) if len(times) else 0,
        bar_ms=outcome.timeline.timeframe.ms,
        bars=len(times),
        init_cash=walked.init_cash,
        metrics=metrics(walked, walked.trades, init_cash=walked.init_cash).record(),
        rows=[row | {"shown": read_text(row["metric"], row["value"])} for row in rows],
        holdout=_holdout(outcome),
        equity=curve["equity"],
        hold=_hold(walked),
        drawdown_pct=curve["drawdown_pct"],
        months=months(walked.equity, times, walked.init_cash),
        trades_total=len(walked.trades),
        trades=trade_records(outcome, walked, MAX_TRADES),
        window=window(outcome, executor, held_out=held_out),
    )


def _holdout(outcome: Outcome) -> dict[str, float | None] | None:
    """What the first row made of the part that was held out, and buying and holding; None where
    nothing was."""
    held = outcome.holdout
    if held is None:
        return None
    start, stop = _part(outcome, True)
    return {
        "total_return_pct": _finite(float(metric("total_return_pct", held.take(slice(1)))[0])),
        "hold_return_pct": hold_return_pct(
            outcome.timeline.candles.close[start:stop].astype(np.float64)
        ),
    }


def replay_of(outcome: Outcome, executor: Executor, *, held_out: bool) -> Replay:
    """The first row of an outcome, walked again."""
    return replayed(outcome, [0], executor, lambda row, walked: walked, held_out=held_out)[0]


def _part(outcome: Outcome, held_out: bool) -> tuple[int, int]:
    """The bars [start, stop) of a part, counted over all loaded ones."""
    first, last = outcome.timeline.start, outcome.timeline.stop
    cut = first + outcome.plan.slice_bars
    return (cut, last) if held_out else (first, cut)


def _hold(walked: Replay) -> Series:
    """The initial cash, put into the instrument at the first close and left there."""
    close = walked.close
    if not len(close) or not close[0] > 0.0:
        return Series(bars=[], values=[])
    held = close / close[0] * walked.init_cash
    bars = extremes(held, CURVE_BUCKETS)
    return Series(bars=bars.tolist(), values=rounded(held[bars]))


def months(equity: Floats, close_ts_ms: Ints, init_cash: float) -> list[dict[str, Any]]:
    """Percent of each UTC month in which a bar closes, from the equity that it began with."""
    if not len(equity):
        return []
    month = close_ts_ms.astype("datetime64[ms]").astype("datetime64[M]")
    ends = np.append(np.flatnonzero(np.diff(month).astype(np.int64)), len(month) - 1)
    last = equity[ends]
    began = np.concatenate([[init_cash], last[:-1]])
    with np.errstate(divide="ignore", invalid="ignore"):
        gained = (last / began - 1.0) * 100.0
    return [
        {"month": str(month[end]), "return_pct": value}
        for end, value in zip(ends, rounded(gained), strict=True)
    ]


def trade_records(outcome: Outcome, walked: Replay, most: int | None) -> list[dict[str, Any]]:
    """The trades with times, results in percent and the prices of their stops."""
    trades = walked.trades
    sl, tp = outcome.job.risk.pair(outcome.risk_index(0))
    kept = np.arange(len(trades))
    if most is not None and len(trades) > most:
        kept = np.sort(np.argpartition(-np.abs(trades.net), most)[:most])
    records = trades.records()
    times, start = walked.close_ts_ms, walked.start
    found = []
    for i in kept.tolist():
        record = records[i]
        side, fill = int(trades.side[i]), float(trades.entry_fill[i])
        entry, exit_ = int(trades.entry_bar[i]) - start, int(trades.exit_bar[i]) - start
        found.append(
            {name: _finite(value) for name, value in record.items()}
            | {
                "entry_bar": entry,
                "exit_bar": exit_,
                "entry_ms": int(times[entry]),
                "exit_ms": int(times[exit_]),
                "net_pct": _finite(100.0 * float(trades.net[i]) / float(trades.entry_quote[i])),
                "sl_price": None if sl is None else fill * (1.0 - side * sl / 100.0),
                "tp_price": None if tp is None else fill * (1.0 + side * tp / 100.0),
            }
        )
    return found


def _finite(value: Any) -> Any:
    return None if isinstance(value, float) and not math.isfinite(value) else value


def window(
    outcome: Outcome,
    executor: Executor,
    *,
    held_out: bool,
    first: int = 0,
    last: int | None = None,
    most: int = CANDLES,
) -> Window:
    """Candles and votes of the bars [first, last) of a part, at most `most` of them."""
    start, stop = _part(outcome, held_out)
    count = stop - start
    last = count if last is None else min(max(last, 0), count)
    first = min(max(first, 0), last)
    width = max(1, -(-(last - first) // most))
    places = np.arange(0, last - first, width)
    cut = slice(start + first, start + last)
    candles = outcome.timeline.candles
    opened, highest, lowest, closed = (
        column[cut].astype(np.float64)
        for column in (candles.open, candles.high, candles.low, candles.close)
    )
    return Window(
        start=first,
        stop=last,
        width=width,
        open=rounded(opened[places]),
        high=rounded(_reduced(np.maximum, highest, places)),
        low=rounded(_reduced(np.minimum, lowest, places)),
        close=rounded(closed[np.append(places[1:], last - first) - 1] if len(places) else closed),
        votes=[
            {"indicator_id": name, "mean": _means(votes[first:last], places)}
            for name, votes in _votes(outcome, executor, start, stop)
        ],
    )


def _reduced(by: np.ufunc, values: NDArray[Any], places: NDArray[np.int64]) -> NDArray[Any]:
    return by.reduceat(values, places) if len(places) else values


def _means(votes: NDArray[np.int8], places: NDArray[np.int64]) -> list[float]:
    if not len(places):
        return []
    sums = np.add.reduceat(votes.astype(np.int64), places)
    return np.round(sums / np.diff(np.append(places, len(votes))), 3).tolist()


def _votes(
    outcome: Outcome, executor: Executor, start: int, stop: int
) -> list[tuple[str, NDArray[np.int8]]]:
    """(indicator, its vote at each bar: 1 long, -1 short, 0 none) of the first row."""
    run = Run(outcome.job, outcome.timeline, executor, Control(), Clock())
    votes, rows = run.gathered(np.array([outcome.flat(0)], np.int64), start, stop)
    found = []
    for k, part in enumerate(outcome.job.grid.indicators):
        long = unpack(votes.planes[votes.long_id[k][rows[0, k]]], votes.bars)
        short = unpack(votes.planes[votes.short_id[k][rows[0, k]]], votes.bars)
        if votes.conflict[k]:
            long, short = long & ~short, short & ~long
        found.append((part.indicator_id, long.astype(np.int8) - short.astype(np.int8)))
    return found
