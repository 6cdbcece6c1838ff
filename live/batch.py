"""What the back-test says of a run's minutes: votes of each bar, trades, equity."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any

import numpy as np
from numpy.typing import NDArray

from compute.backtest import Backtest
from compute.bits import unpack
from compute.indicators.series import BarSeries
from compute.market.candles import Candles
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import timeline
from compute.replay import Replay, replay
from compute.votes import grid_layouts, grid_votes
from live.evaluation import Course


@dataclass(frozen=True, slots=True, eq=False)
class Batch:
    """The bars from the first traded one on: opens i8[n], votes i1[n], and the replay of them."""

    bar_ms: NDArray[np.int64]
    votes: NDArray[np.int8]
    replay: Replay


def batch(job: Backtest, course: Course, minutes: Candles, last_close_ms: int) -> Batch:
    """The back-test of the one variant of `job` over a run's course, its last position left open.

    `minutes` are the candles from the anchor on. Raises: NoMarketData, InvalidCandles.
    """
    frame, start_ms = job.timeframe, course.trading_from_ms
    assert start_ms is not None, "the run has not traded yet"
    bars = timeline(
        minutes,
        TIMEFRAMES["1m"],
        job.instrument,
        frame,
        Period(start_ms - 1, last_close_ms + 1),  # the last minute of the first bar is of it
        (start_ms - course.anchor_ms) // frame.ms,
    )
    series = BarSeries(*bars.candles.series(), first_bar=bars.first_bar)
    votes = grid_votes(grid_layouts(job.grid), series, bars.start, bars.stop, _each, lambda: None)
    long, short = votes.aggregated(np.zeros(len(job.grid.indicators), np.int32))
    count = bars.stop - bars.start
    sl, tp = job.risk.pair(0)
    close = bars.candles.close[bars.start : bars.stop].astype(np.float64)
    walked = replay(
        close, bars.close_ts_ms[bars.start : bars.stop], long, short, job.terms(),
        sl_pct=sl, tp_pct=tp, start=bars.start, end="open",
    )  # fmt: skip
    sides = [unpack(words, count).astype(np.int8) for words in (long, short)]
    opens = bars.candles.ts_open_ms[bars.start : bars.stop]
    return Batch(opens, sides[0] - sides[1], walked)


def _each(work: Callable[[Any], None], items: Sequence[Any]) -> None:
    for item in items:
        work(item)
