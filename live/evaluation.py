"""One strategy over its instrument's minutes as they come: the last bar of a back-test, each time.

Nothing here reads a clock, a store or a database: minutes go in, votes and trades come out.
"""

from __future__ import annotations

from dataclasses import dataclass
from typing import Self

import numpy as np
from numpy.typing import NDArray

from compute.backtest import Backtest
from compute.incremental import BarRing, IncrementalVotes
from compute.indicators.series import BarSeries
from compute.market.candles import Candles
from compute.replay import stop_rate
from live.digests import Digests
from live.paper import Account, PaperBroker, Step, Trading
from live.rollup import Rollup


@dataclass(frozen=True, slots=True)
class Course:
    """Where a run begins: the first minute it loads, and the first close it may trade at.

    `trading_from_ms` is None until the bars before it are as many as the warm-up asks for.
    """

    anchor_ms: int
    earliest_ms: int
    trading_from_ms: int | None = None

    @classmethod
    def begun(cls, job: Backtest, started_ms: int, first_ms: int = 0) -> Self:
        """The course of a run that was started at `started_ms`: it trades from the next close.

        There are no minutes before `first_ms`, so it begins there at the earliest.
        """
        frame = job.timeframe.ms
        earliest_ms = (started_ms // frame + 1) * frame
        begun_ms = max(earliest_ms - job.warmup_bars * frame, first_ms // frame * frame)
        return cls(min(begun_ms, earliest_ms - frame), earliest_ms)


@dataclass(frozen=True, slots=True)
class Bar:
    """A bar that was traded on; `close` is that of the bar.

    `digest` is of the minutes since the bar before it, of the first bar of all since the anchor.
    """

    step: Step
    close: float
    digest: int


class Evaluation:
    """Bars, indicators and account of one run.

    `next_ms` is the minute that comes next, `bars` counts those since the anchor.
    """

    def __init__(self, job: Backtest, course: Course, account: Account | None = None) -> None:
        terms = job.terms()
        sl, tp = job.risk.pair(0)
        self.job, self.course = job, course
        self.trading = Trading(PaperBroker(terms), terms, stop_rate(sl), stop_rate(tp))
        self.account = account or self.trading.opened()
        self.next_ms, self.bars = course.anchor_ms, 0
        self._rollup = Rollup(job.timeframe)
        self._votes: list[IncrementalVotes] = []
        self._ring: BarRing | None = None
        self._digests = Digests()

    @property
    def warm(self) -> bool:
        """Whether the next bar, or one before it, may be traded on."""
        return self.bars >= self.job.warmup_bars - 1

    @property
    def pending(self) -> int:
        """Minutes of the bar that has not ended."""
        return self._rollup.pending

    def replay(self, minutes: Candles, until_ms: int) -> None:
        """Goes through minutes whose trades were made before: the account stays as it is."""
        self._voted(minutes, until_ms)
        frame_ms, start_ms = self.job.timeframe.ms, self.course.trading_from_ms
        close_ms = until_ms // frame_ms * frame_ms
        traded = start_ms is not None and close_ms >= start_ms
        self._digests.closed(minutes, np.array([close_ms] if traded else [], np.int64))

    def advance(self, minutes: Candles, until_ms: int) -> list[Bar]:
        """The bars that end with the minutes up to `until_ms` and are traded on.

        `minutes` are those that are there of [next_ms, until_ms), ascending.
        """
        before, frame = self.bars, self.job.timeframe.ms
        found = self._voted(minutes, until_ms)
        if found is None:
            self._digests.closed(minutes, np.empty(0, np.int64))
            return []
        bars, votes = found
        opens = bars.ts_open_ms.tolist()
        rows = [i for i, ms in enumerate(opens) if self._trades(before + i, ms + frame)]
        digests = self._digests.closed(minutes, bars.ts_open_ms[rows] + frame)
        traded: list[Bar] = []
        for i, digest in zip(rows, digests.tolist(), strict=True):
            close = float(bars.close[i])
            self.account, step = self.trading.step(self.account, opens[i], close, int(votes[i]))
            traded.append(Bar(step, close, digest))
        return traded

    def _trades(self, number: int, close_ms: int) -> bool:
        """Whether bar `number` since the anchor is traded on; the first one sets the course."""
        course = self.course
        if course.trading_from_ms is None:
            if close_ms < course.earliest_ms or number < self.job.warmup_bars - 1:
                return False
            self.course = Course(course.anchor_ms, course.earliest_ms, close_ms)
            return True
        return close_ms >= course.trading_from_ms

    def _voted(self, minutes: Candles, until_ms: int) -> tuple[Candles, NDArray[np.int8]] | None:
        """New bars and the vote on each: where all indicators agree."""
        bars = self._rollup.bars(minutes, until_ms)
        self.next_ms = until_ms
        if bars is None:
            return None
        first_bar = int(bars.ts_open_ms[0]) // self.job.timeframe.ms
        if self._ring is None:
            parts = self.job.grid.indicators
            self._votes = [IncrementalVotes(part, first_bar) for part in parts]
            self._ring = BarRing(max(one.lead for one in self._votes))
        series = self._ring.append(BarSeries(*bars.series(), first_bar=first_bar))
        self.bars += len(bars)
        cast = np.stack([one.advance(series).votes for one in self._votes])
        agreed = (cast == cast[0]).all(axis=0)
        return bars, np.where(agreed, cast[0], np.int8(0))
