"""The back-test: candles of a timeline in, the ranked top-K out. Reads top to bottom.

candles → timeline → plan → planes → Stage A → shortlist → Stage B → top-K
"""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, replace

import numpy as np
from numpy.typing import NDArray

from compute.backtest import Backtest
from compute.bits import words
from compute.control import Control, Meter, Report, silent
from compute.distinct import Equals
from compute.executor import Executor, Sink
from compute.indicators.series import BarSeries
from compute.market.timeline import Timeline
from compute.packing import Packing
from compute.plan import GATHERED_BYTES, Plan, plan
from compute.ranking import Ranking, Scores, joined, no_scores
from compute.route import Box, route
from compute.selection import Ranked, ranked, rescored
from compute.settings import Limits
from compute.stage_a import StageA
from compute.stage_b import StageB, calm_table
from compute.stops import levels
from compute.votes import Votes, grid_layouts, grid_votes


@dataclass(frozen=True, slots=True, eq=False)
class Outcome:
    """What a back-test found.

    `shortlist` and `top` are exact scores in rank order (`top` with drawdown; its index is rank in
    the shortlist · pairs + risk index), `holdout` the scores of the same variants on the part of
    the slice that ranking did not see. `equals` says what each row stands for when equal rows were
    asked to be one, by stage. `most_trades` are those of the variant that trades most, over both
    stages and whatever the ranking wants. `timings` are seconds by step.
    """

    job: Backtest
    timeline: Timeline
    plan: Plan
    shortlist: Scores
    top: Scores
    holdout: Scores | None
    equals: dict[str, list[Equals] | None]
    eligible: dict[str, int]
    most_trades: int
    timings: dict[str, float]

    def flat(self, row: int) -> int:
        """Flat index of the base variant of one row of `top`."""
        return int(self.shortlist.index[self.top.index[row] // self.job.risk.total])

    def risk_index(self, row: int) -> int:
        """Risk index of one row of `top`."""
        return int(self.top.index[row] % self.job.risk.total)


def backtest(
    job: Backtest,
    timeline: Timeline,
    executor: Executor,
    *,
    limits: Limits,
    control: Control | None = None,
    report: Report = silent,
    sink: Sink | None = None,
) -> Outcome:
    """The `Outcome` of `job` over `timeline`; `sink` receives the bulk columns of Stage A.

    Raises: GuardExceeded before any work, Cancelled at a block's boundary.
    """
    control = control or Control()
    with executor.job(lambda: control.check("stage_a")) as packing:
        run = Run(job, timeline, executor, control, Clock(), packing)
        return _outcome(run, limits, report, sink)


def _outcome(run: Run, limits: Limits, report: Report, sink: Sink | None) -> Outcome:
    job, timeline, clock = run.job, run.timeline, run.clock
    sizes = plan(
        job, len(timeline.candles), run.stop - run.start, limits,
        workers=run.executor.workers, columns=sink is not None,
    )  # fmt: skip
    shortlist = run.shortlist(sizes, report, sink)
    top = run.top(shortlist.scores, sizes, report)
    flat, risk = run.places(shortlist.scores, top.scores)
    scored = run.scored(flat, risk, top.scores.index, run.start, run.stop)
    held = (
        run.scored(flat, risk, top.scores.index, run.stop, timeline.stop) if run.holds_out else None
    )
    clock.lap("top")
    equals = {"stage_a": shortlist.equals, "stage_b": top.equals}
    eligible = {"stage_a": shortlist.eligible, "stage_b": top.eligible}
    return Outcome(
        job, timeline, sizes, shortlist.scores, scored, held, equals, eligible,
        max(shortlist.most_trades, top.most_trades), clock.seconds,
    )  # fmt: skip


class Clock:
    """Seconds of each step, by name."""

    def __init__(self) -> None:
        self.seconds: dict[str, float] = {}
        self._last = time.perf_counter()

    def lap(self, name: str) -> None:
        """Books the time since the last lap under `name`."""
        now = time.perf_counter()
        self.seconds[name] = self.seconds.get(name, 0.0) + now - self._last
        self._last = now


class Run:
    """One back-test under way: what all its stages share."""

    def __init__(
        self,
        job: Backtest,
        timeline: Timeline,
        executor: Executor,
        control: Control,
        clock: Clock,
        packing: Packing | None = None,
    ) -> None:
        self.job = job
        self.timeline = timeline
        self.executor = executor
        self.control = control
        self.clock = clock
        self.packing = packing
        self.terms = job.terms()
        self.ranking = Ranking(
            job.primary_metric, job.secondary_metric, job.min_trades, job.distinct
        )
        self.key_template = job.key_template()
        self.levels = levels(job.risk.sl, job.risk.tp)
        candles = timeline.candles
        self.series = BarSeries(
            candles.open,
            candles.high,
            candles.low,
            candles.close,
            candles.volume,
            timeline.first_bar,
        )
        self.start = timeline.start
        traded = timeline.stop - timeline.start
        self.stop = timeline.stop - int(traded * job.holdout_fraction)
        self.holds_out = self.stop < timeline.stop
        self._votes: Votes | None = None

    def close(self, start: int, stop: int) -> NDArray[np.float64]:
        """Closes f8 of bars [start, stop), frozen."""
        close = self.timeline.candles.close[start:stop].astype(np.float64)
        close.flags.writeable = False
        return close

    def votes(
        self, start: int, stop: int, chosen: dict[int, NDArray[np.int64]] | None = None
    ) -> Votes:
        """Votes over bars [start, stop): of all variants, or of those with settings in `chosen`."""
        return grid_votes(
            grid_layouts(self.job.grid, chosen), self.series, start, stop, self.executor.each,
            lambda: self.control.check("stage_a"), self.packing,
        )  # fmt: skip

    def shortlist(self, sizes: Plan, report: Report, sink: Sink | None) -> Ranked:
        """Stage A: the best `preselect` base variants."""
        close = self.close(self.start, self.stop)
        meter = Meter("stage_a", sizes.stage_a_total, report)

        whole: list[StageA] = []  # kept where it is all of the grid

        def block(box: Box | None) -> Callable[[], StageA]:
            def build() -> StageA:
                if whole:
                    return whole[0]
                votes = self.votes(self.start, self.stop, self._inside(box))
                way = route(self.job.grid, votes, box)
                self.clock.lap("planes")
                stage = StageA(
                    self.job.grid, votes, way, close, self.terms, self.ranking, self.key_template,
                    sink is not None,
                )  # fmt: skip
                if box is None:
                    self._votes = votes
                    whole.append(stage)
                return stage

            return build

        blocks = [block(box) for box in sizes.boxes]
        found = ranked(
            blocks, sizes.preselect, self.ranking, self.executor, meter, self.control, sink
        )
        self.clock.lap("stage_a")
        return found

    def _inside(self, box: Box | None) -> dict[int, NDArray[np.int64]] | None:
        """Compute variants of the boxed indicator, by its number."""
        if box is None:
            return None
        at = 0
        for k, part in enumerate(self.job.grid.indicators):
            if at <= box.axis < at + len(part.compute):
                shape = [len(axis) for axis in part.compute]
                digits = np.unravel_index(np.arange(part.compute_total), shape)[box.axis - at]
                return {k: np.flatnonzero((digits >= box.low) & (digits < box.high))}
            at += len(part.compute)
        raise AssertionError(f"axis {box.axis} is no compute axis")

    def top(self, shortlist: Scores, sizes: Plan, report: Report) -> Ranked:
        """Stage B: the best `top_k` of the shortlist under every pair of stops."""
        total = len(shortlist) * self.job.risk.total
        meter = Meter("stage_b", total, report)
        if total == 0:
            return Ranked(shortlist, 0, most_trades=0)

        close = self.close(self.start, self.stop)
        calm = calm_table(close, self.terms, self.levels, self.executor.each)

        def block(first: int, last: int) -> Callable[[], StageB]:
            def build() -> StageB:
                flat = shortlist.index[first:last]
                votes, rows = self.gathered(flat, self.start, self.stop)
                return StageB(
                    flat, rows, votes, close, self.terms, self.levels, self.ranking,
                    self.key_template, calm, first, shortlist.index,
                )  # fmt: skip

            return build

        blocks = [block(*ranks) for ranks in self.batches(len(shortlist), self.start, self.stop)]
        n = min(self.job.top_k, total)
        found = ranked(blocks, n, self.ranking, self.executor, meter, self.control)
        self.clock.lap("stage_b")
        return found

    def batches(self, count: int, start: int, stop: int) -> list[tuple[int, int]]:
        """`count` variants cut into ranges whose gathered votes fit a fixed budget."""
        if self._at_hand(start, stop):
            return [(0, count)]
        one = {k: np.zeros(1, np.int64) for k in range(len(self.job.grid.indicators))}
        rows = sum(part.n_long + part.n_short for part in grid_layouts(self.job.grid, one))
        step = max(1, GATHERED_BYTES // (8 * rows * words(stop - start) + 1))
        return [(at, min(at + step, count)) for at in range(0, count, step)]

    def _at_hand(self, start: int, stop: int) -> bool:
        """Whether Stage A's votes serve bars [start, stop)."""
        return self._votes is not None and (start, stop) == (self.start, self.stop)

    def gathered(
        self, flat: NDArray[np.int64], start: int, stop: int
    ) -> tuple[Votes, NDArray[np.int32]]:
        """(votes, vote rows i4[n, K]) of some base variants; Stage A's votes when at hand."""
        rows = self.job.grid.local_rows(flat)
        if self._votes is not None and self._at_hand(start, stop):
            return self._votes, rows
        chosen = {
            k: np.unique(rows[:, k].astype(np.int64) // part.signal_total)
            for k, part in enumerate(self.job.grid.indicators)
        }
        return self.votes(start, stop, chosen), rows

    def places(self, shortlist: Scores, top: Scores) -> tuple[NDArray[np.int64], NDArray[np.int64]]:
        """(flat base index, risk index) of rows of the top."""
        if len(top) == 0:
            return top.index, top.index
        rank, risk = np.divmod(top.index, self.job.risk.total)
        return shortlist.index[rank], risk

    def scored(
        self,
        flat: NDArray[np.int64],
        risk: NDArray[np.int64],
        index: NDArray[np.int64],
        start: int,
        stop: int,
    ) -> Scores:
        """Exact scores with drawdown of chosen variants on bars [start, stop), in their order."""
        if len(flat) == 0:
            return replace(no_scores(), index=index)
        close = self.close(start, stop)
        quiet = Meter("top", 0)
        found: list[Scores] = []
        for first, last in self.batches(len(flat), start, stop):
            bases, position = np.unique(flat[first:last], return_inverse=True)
            votes, rows = self.gathered(bases, start, stop)
            stage = StageB(
                bases, rows, votes, close, self.terms, self.levels, Ranking("max_drawdown_pct"),
                self.key_template,
            )  # fmt: skip
            wanted = position * self.job.risk.total + risk[first:last]
            unique, back = np.unique(wanted, return_inverse=True)
            scores = rescored(stage, unique, self.executor, quiet, self.control)
            found.append(scores.take(np.argsort(scores.index)[back]))
        return replace(joined(found), index=index)
