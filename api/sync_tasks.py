"""What a worker process computes for one request: pickled there, JSON back."""

from __future__ import annotations

import json
import logging
from collections.abc import Callable, Sequence
from dataclasses import asdict, dataclass
from functools import cache
from typing import TYPE_CHECKING, Any, Protocol

from compute.control import Control, Report
from compute.errors import InvalidInput
from compute.settings import Limits

if TYPE_CHECKING:
    from compute.backtest import Backtest
    from compute.device import Facts
    from compute.executor import Executor, LocalExecutor
    from compute.indicator_requests import TensorJob
    from compute.market.candles import Candles
    from compute.market.timeline import Timeline
    from compute.pipeline import Outcome
    from live.reconcile import Comparison


log = logging.getLogger(__name__)


class Task(Protocol):
    """Something to compute over one-minute candles."""

    def result(
        self, candles: Candles, executor: LocalExecutor, control: Control, report: Report
    ) -> Any:
        """What JSON can hold. Raises: InvalidInput, Cancelled."""
        ...


@dataclass(frozen=True, slots=True, eq=False)
class BacktestTask:
    """A search; `identity` are the fields of the answer that say which request it answers.

    With `reports`, every row carries its report. `generated` says that a generator made candles,
    `device` what shall search.
    """

    job: Backtest
    limits: Limits
    identity: dict[str, Any]
    reports: bool
    generated: bool = False
    device: str = "cpu"

    def result(
        self, candles: Candles, executor: LocalExecutor, control: Control, report: Report
    ) -> Any:
        from compute.results import result_document

        bars = bars_of(self.job, candles, generated=self.generated)
        searcher = device_executor(executor, self.device)
        outcome = _outcome(self.job, bars, searcher, self.limits, control, report)
        report_stage(report)
        document = result_document(
            outcome, executor, control=control, reports=self.reports,
            run={
                "executor": executor.name, "device": searcher.device, "threads": executor.workers,
                "timings": outcome.timings,
            },
        )  # fmt: skip
        for variant in document["variants"] if self.reports else ():
            for one in (variant, variant.get("holdout")):
                if one is not None:
                    one["report"]["table_md"] = table(one["report"]["rows"])
        return document | self.identity


@dataclass(frozen=True, slots=True, eq=False)
class ReportTask:
    """The report of the one variant that `job` is a grid of."""

    job: Backtest
    limits: Limits
    include_trades: bool

    def result(
        self, candles: Candles, executor: LocalExecutor, control: Control, report: Report
    ) -> Any:
        from compute.results import result_document

        bars = bars_of(self.job, candles)
        outcome = _outcome(self.job, bars, executor, self.limits, control, report)
        report_stage(report)
        document = result_document(outcome, executor, control=control, run={})
        found = document["variants"][0]["report"]
        return {
            "rows": found["rows"],
            "table_md": table(found["rows"]),
            "trades": found["trades"] if self.include_trades else None,
        }


@dataclass(frozen=True, slots=True, eq=False)
class TensorTask:
    """The tensor of an indicator; its values stay in the process."""

    job: TensorJob
    limits: Limits

    def result(
        self, candles: Candles, executor: LocalExecutor, control: Control, report: Report
    ) -> Any:
        def each(work: Callable[[Any], None], blocks: Sequence[Any]) -> None:
            def checked(block: Any) -> None:
                control.check("compute")
                work(block)

            executor.each(checked, blocks)

        return self.job.tensor(candles, self.limits, each).record()


@dataclass(frozen=True, slots=True, eq=False)
class ReconcileTask:
    """What a run did, compared with its back-test."""

    comparison: Comparison

    def result(
        self, candles: Candles, executor: LocalExecutor, control: Control, report: Report
    ) -> Any:
        return asdict(self.comparison.compared(candles))


def device_executor(executor: LocalExecutor, device: str) -> Executor:
    """`executor`, searching on the card of this process where `device` says so.

    With `auto` a card that a job holds is not waited for, and one that is full is done without.
    Raises: Unavailable.
    """
    from api.errors import Unavailable
    from compute.device import AUTO, DeviceUnavailable, on_device

    may_leave = device == AUTO
    try:
        return on_device(
            executor, _card(device), waits=not may_leave, say=log.warning if may_leave else None
        )
    except DeviceUnavailable as error:
        raise Unavailable(
            f"the service is to search on a card and cannot: {error.details['reason']}; set"
            " backtest.search.device to auto or cpu, which gives the same result",
            details=error.details,
        ) from None


@cache
def _card(device: str) -> Facts | None:
    """The card of this process; what `auto` lacks is said once. Raises: DeviceUnavailable."""
    from compute.device import card_wanted

    return card_wanted(device, log.warning)


def _outcome(
    job: Backtest,
    bars: Timeline,
    executor: Executor,
    limits: Limits,
    control: Control,
    report: Report,
) -> Outcome:
    from compute.pipeline import backtest

    control.check("timeline")
    return backtest(job, bars, executor, limits=limits, control=control, report=report)


def bars_of(job: Backtest, candles: Candles, *, generated: bool = False) -> Timeline:
    """The bars of `job` from one-minute candles. Raises: NoMarketData, InvalidCandles."""
    from compute.market.timeframe import TIMEFRAMES
    from compute.market.timeline import timeline

    return timeline(
        candles, TIMEFRAMES["1m"], job.instrument, job.timeframe, job.period, job.warmup_bars,
        generated=generated,
    )  # fmt: skip


def report_stage(report: Report) -> None:
    """Tells that reports are being made."""
    from compute.control import Progress

    report(Progress("report", 0, 1))


def table(rows: Sequence[dict[str, str]]) -> str:
    """The Markdown table of a report's rows."""
    lines = [f"|{row['metric']}|{row['value']}|" for row in rows]
    return "\n".join(["|Metric|Value|", "|---|---|", *lines])


def encoded(result: Any) -> bytes:
    """A result as JSON. Raises: InvalidInput for a number that JSON does not have."""
    try:
        return json.dumps(result, separators=(",", ":"), allow_nan=False).encode()
    except ValueError as error:
        raise InvalidInput(f"the result cannot be written: {error}") from None
