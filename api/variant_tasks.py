"""What a worker process computes of one variant of a job: over the job's bars, pickled there, JSON
back."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import TYPE_CHECKING, Any

from api.sync_tasks import report_stage
from compute.control import Control, Report
from compute.settings import Limits

if TYPE_CHECKING:
    from compute.backtest import Backtest
    from compute.executor import LocalExecutor
    from compute.market.candles import Candles
    from compute.market.timeline import Timeline
    from compute.pipeline import Outcome

Look = Callable[["Outcome", "LocalExecutor"], Any]


@dataclass(frozen=True, slots=True, eq=False)
class VariantTask:
    """A look at the one variant that `job` is a grid of; `bars` are told apart from their candles,
    which go to the worker as they lie in memory."""

    job: Backtest
    limits: Limits
    bars: Timeline
    look: Look

    def result(
        self, candles: Candles, executor: LocalExecutor, control: Control, report: Report
    ) -> Any:
        """What `look` returns."""
        from compute.pipeline import backtest

        outcome = backtest(
            self.job, replace(self.bars, candles=candles), executor, limits=self.limits,
            control=control, report=report,
        )  # fmt: skip
        report_stage(report)
        return self.look(outcome, executor)


def inspected(outcome: Outcome, executor: LocalExecutor, *, held_out: bool) -> Any:
    """Curves, months, trades, candles and votes."""
    from compute.report.inspection import inspection

    return inspection(outcome, executor, held_out=held_out)


def windowed(
    outcome: Outcome, executor: LocalExecutor, *, held_out: bool, first: int, last: int
) -> Any:
    """Candles and votes of some bars."""
    from compute.report.inspection import window

    return window(outcome, executor, held_out=held_out, first=first, last=last)


def traded(outcome: Outcome, executor: LocalExecutor, *, held_out: bool) -> Any:
    """All trades."""
    from compute.report.inspection import replay_of, trade_records

    walked = replay_of(outcome, executor, held_out=held_out)
    return trade_records(outcome, walked, None)


def paged(outcome: Outcome, executor: LocalExecutor, *, source: str) -> Any:
    """The report page of the variant alone."""
    from cluster.outputs import report_html
    from compute.results import result_document

    result = result_document(outcome, executor, run={})
    return report_html(
        outcome, result, executor, source=source, returns=None,
        without_returns="This page is about one variant; the job's own page shows the whole grid.",
    )  # fmt: skip
