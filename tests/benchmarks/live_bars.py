"""What a closed bar costs to evaluate, after histories of several lengths."""

from __future__ import annotations

import statistics
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

import numpy as np

from compute.market.candles import Candles
from compute.settings import Defaults
from ingest.rows import MINUTE_MS
from live.batch import batch
from live.evaluation import Bar, Course, Evaluation
from live.strategies.spec import backtest_of_spec
from tests.benchmarks.findings import Goal, Table
from tests.benchmarks.live_place import STRATEGIES, Crowd, market
from tests.benchmarks.proof import Unequal

AT_MOST: Final = 1.25
START_MS: Final = 1_640_995_200_000  # 2022-01-01
TRADED: Final = 500
"""Bars that are traded on before those that are timed, and compared with them."""
_CROWD: Final = Crowd(1, len(STRATEGIES), ("1m",), 0)


@dataclass(frozen=True, slots=True)
class Bars:
    """By history: median seconds of one more bar, and of the whole back-test again."""

    timed: int
    trades: int
    more: dict[int, float]
    again: dict[int, float]


class _Course:
    """One strategy over a history, before its next bar."""

    def __init__(self, number: int, history: int, minutes: Candles) -> None:
        self.job = backtest_of_spec(
            Crowd(1, len(STRATEGIES), ("1m",), 0).spec(0, number), Defaults()
        )
        self.history, self._minutes = history, minutes
        traded_ms = START_MS + max(self.job.warmup_bars, history - TRADED) * MINUTE_MS
        self._live = Evaluation(self.job, Course(START_MS, traded_ms))
        self._bars: list[Bar] = []
        self.seconds: list[float] = []
        self._advance(history)

    def step(self) -> None:
        """One more minute, which closes a bar."""
        at = (self._live.next_ms - START_MS) // MINUTE_MS
        began = time.perf_counter()
        self._advance(at + 1)
        self.seconds.append(time.perf_counter() - began)

    def again(self) -> tuple[float, int]:
        """(seconds of the back-test over all, its trades). Raises: Unequal unless it is this."""
        until_ms = self._live.next_ms
        minutes = self._minutes.slice(0, (until_ms - START_MS) // MINUTE_MS)
        batch(self.job, self._live.course, minutes, until_ms)  # compiled
        began = time.perf_counter()
        found = batch(self.job, self._live.course, minutes, until_ms)
        seconds = time.perf_counter() - began
        steps = [bar.step for bar in self._bars]
        nets = [step.closed.net for step in steps if step.closed is not None]
        pairs = (
            ([step.bar_ms for step in steps], found.bar_ms),
            ([step.vote for step in steps], found.votes),
            ([step.equity for step in steps], found.replay.equity),
            (nets, found.replay.trades.net),
        )
        if not all(np.array_equal(mine, others) for mine, others in pairs):
            raise Unequal(f"live is not the back-test after {self.history} bars")
        return seconds, len(nets)

    def _advance(self, stop: int) -> None:
        begin = (self._live.next_ms - START_MS) // MINUTE_MS
        minutes = self._minutes.slice(begin, stop)
        self._bars += self._live.advance(minutes, START_MS + stop * MINUTE_MS)


def bars(histories: Sequence[int], timed: int) -> Bars:
    """Advances every strategy over every history in turn, a bar each.

    Raises: Unequal where one is not its back-test in votes, equity and trades.
    """
    minutes = market(0, START_MS, max(histories) + timed)
    courses = [
        _Course(number, history, minutes)
        for number in range(len(STRATEGIES))
        for history in histories
    ]
    for _ in range(timed):
        for course in courses:
            course.step()
    trades = 0
    again: dict[int, list[float]] = {history: [] for history in histories}
    for course in courses:
        seconds, closed = course.again()
        again[course.history].append(seconds)
        trades += closed
    more = {
        history: statistics.mean(
            statistics.median(one.seconds) for one in courses if one.history == history
        )
        for history in histories
    }
    return Bars(timed, trades, more, {at: statistics.mean(some) for at, some in again.items()})


def bar_findings(found: Bars, *, judged: bool) -> tuple[Table, list[Goal]]:
    """The table by history, and the goal that it is flat."""
    first, *_, last = found.more
    rows = [
        (history, seconds * 1e6, seconds / found.more[first], found.again[history] * 1e6,
         found.again[history] / seconds)
        for history, seconds in found.more.items()
    ]  # fmt: skip
    table = Table(
        "A closed bar of one run, by the bars before it",
        ("bars before", "µs a bar", "of the shortest", "whole back-test µs", "times a bar"),
        rows,
        f"means over {len(STRATEGIES)} strategies of the median of {found.timed} bars taken in "
        "turn, from a minute at hand to the account; all bars that were traded on are the "
        f"back-test's to the bit, {found.trades} trades with them",
    )
    goal = Goal(
        f"a closed bar after {last} bars over one after {first}", "at most", AT_MOST,
        found.more[last] / found.more[first], judged=judged,
    )  # fmt: skip
    return table, [goal]
