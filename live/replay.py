"""A strategy over recorded minutes as a runner would trade them: one after the other, on paper."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from typing import Any

import numpy as np

from compute.backtest import Backtest
from compute.errors import NoMarketData
from compute.market.candles import Candles
from compute.market.period import instant
from ingest.rows import MINUTE_MS
from live.evaluation import Bar, Course, Evaluation
from live.member import told
from live.reconcile import BAR, MONEY, TRADE, Compared, Comparison, Done


class Replay:
    """A run of `job` over `minutes`, started as soon as they are enough for its warm-up.

    Raises: NoMarketData where they are too few to trade on.
    """

    def __init__(self, job: Backtest, minutes: Candles) -> None:
        self._minutes, self._bars = minutes, list[Bar]()
        frame, need = job.timeframe, job.warmup_bars
        times = minutes.ts_open_ms
        if not len(times):
            raise NoMarketData("there is no candle to trade on")
        anchor_ms = -(-int(times[0]) // frame.ms) * frame.ms
        self._stop_ms = int(times[-1]) + MINUTE_MS
        earliest_ms = anchor_ms + need * frame.ms
        if self._stop_ms < earliest_ms:
            raise NoMarketData(
                f"the strategy trades after {need} bars of {frame.code}, the candles are"
                f" {len(minutes)} minutes; it needs them until {instant(earliest_ms)}"
            )
        self._live = Evaluation(job, Course(anchor_ms, earliest_ms))

    @property
    def equity(self) -> float:
        """What the account is worth after the last bar."""
        return self._bars[-1].step.equity

    def events(self) -> Iterator[tuple[str, Mapping[str, Any]]]:
        """What a user would be told, as the minutes come: types and payloads."""
        live, times = self._live, self._minutes.ts_open_ms
        before = 0
        for at_ms in range(live.next_ms, self._stop_ms, MINUTE_MS):
            row = int(np.searchsorted(times, at_ms))
            stop = row + (row < len(times) and int(times[row]) == at_ms)
            for bar in live.advance(self._minutes.slice(row, stop), at_ms + MINUTE_MS):
                self._bars.append(bar)
                vote = live.trading.allowed(bar.step.vote)
                yield from told(bar, vote, before, live.job.timeframe.ms)
                before = vote

    def compared(self) -> Compared:
        """What was done, compared with the back-test over the same minutes."""
        steps = [bar.step for bar in self._bars]
        closed = [step.closed for step in steps if step.closed is not None]
        trades = [
            (one.entry_bar_ms, one.exit_bar_ms, one.side, one.reason,
             *(getattr(one, name) for name in MONEY))
            for one in closed
        ]  # fmt: skip
        bars = [(bar.step.bar_ms, bar.step.vote, bar.step.equity, bar.digest) for bar in self._bars]
        done = Done(np.array(bars, BAR), np.array(trades, TRADE))
        live = self._live
        first = int(np.searchsorted(self._minutes.ts_open_ms, live.course.anchor_ms))
        minutes = self._minutes.slice(first, len(self._minutes))
        return Comparison(live.job, live.course, done).compared(minutes)
