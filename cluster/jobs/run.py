"""One claimed job from its row to its end. Reads top to bottom."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from hashlib import sha256
from pathlib import Path
from typing import Any

import numpy as np
from numpy.typing import NDArray

from cluster.columns import MAX_ROWS
from cluster.inputs import STORE
from cluster.jobs.best import Snapshots, final_rows
from cluster.jobs.committed import CommittedExecutor, FoldStart
from cluster.jobs.durable import write_all
from cluster.jobs.holding import Holding
from cluster.jobs.job import STAGES, Job
from cluster.jobs.market_file import read_market
from cluster.jobs.part_files import PartFiles
from cluster.jobs.settings import JobSettings
from cluster.jobs.snapshot import backtest_of, plan_key, plan_record
from cluster.outputs import REPORT, RESULT, report_html
from compute.backtest import Backtest
from compute.control import Control, Progress
from compute.executor import Executor
from compute.market.timeline import Timeline
from compute.pipeline import Outcome, backtest
from compute.plan import plan
from compute.quantities import spaced
from compute.results import canonical_result, result_document, result_text
from compute.selection import Scan
from compute.settings import Limits
from compute.stage_b import StageB


@dataclass(slots=True)
class Tally:
    """What a run did: spans computed and read, seconds of each stage."""

    computed: int = 0
    reused: int = 0
    seconds: dict[str, float] = field(default_factory=dict)


class JobRun:
    """Computes a job that is held, with all it leaves behind.

    `tell` gets an event and its fields for the log.
    """

    def __init__(
        self,
        holding: Holding,
        settings: JobSettings,
        tell: Callable[..., None] = lambda event, **fields: None,
    ) -> None:
        self._holding, self._settings, self._tell = holding, settings, tell
        self._record = holding.job
        self._job: Backtest = backtest_of(self._record.effective_json, self._record.hashes)
        self._snapshots = Snapshots(self._job, settings, holding.show)
        self._returns: NDArray[np.float64] | None = None
        self._shortlisted = False
        self._stage, self._stage_began = STAGES[0], time.monotonic()
        self.tally = Tally()

    def compute(self, inner: Executor) -> None:
        """Computes the job and ends it well.

        Raises: Cancelled when its control says so; LeaseLost; what a job can fail of.
        """
        started = datetime.now(UTC)
        results_dir = Path(self._record.results_dir)
        timeline = read_market(results_dir, self._job, self._record.candles_fingerprint)
        record = self._record = self._planned(timeline)
        files = PartFiles(results_dir, record.plan_key)
        if record.keep_columns:
            self._returns = np.full(self._job.grid.total, np.nan)
        with CommittedExecutor(
            inner, self._holding, files, workers=record.plan_json["workers"], watch=self
        ) as executor:
            outcome = self._outcome(timeline, executor)
            self.report(Progress("finalizing", 0, 1))
            document = result_document(
                outcome,
                executor,
                run=self._run_record(outcome, inner, started),
                control=self._control,
            )
            document |= record.identity
            page = self._page(outcome, document, executor)
        self._control.check("finalizing")
        write_all(
            {
                record.directory / REPORT: page.encode(),
                record.directory / RESULT: result_text(document).encode(),
            }
        )
        digest = sha256(canonical_result(document)).hexdigest()
        self._holding.succeed(final_rows(document), digest)
        self._lap(STAGES[-1])

    def _planned(self, timeline: Timeline) -> Job:
        """The job under the plan that this build of the engine has for it.

        Another build may score otherwise: it reuses no span of the one that the job was made by.
        """
        record, traded = self._record, timeline.stop - timeline.start
        workers, keep = record.plan_json["workers"], record.keep_columns
        sizes = plan(
            self._job,
            len(timeline.candles),
            traded - int(traded * self._job.holdout_fraction),
            Limits(**record.limits_json),
            workers=workers,
            columns=keep,
        )
        key = plan_key(record.effective_json, record.candles_fingerprint, sizes, keep_columns=keep)
        if key == record.plan_key:
            return record
        self._tell("replanned", old=record.plan_key, new=key)
        return self._holding.replanned(key, plan_record(sizes, workers))

    @property
    def _control(self) -> Control:
        return self._holding.control

    def _outcome(self, timeline: Timeline, executor: Executor) -> Outcome:
        return backtest(
            self._job,
            timeline,
            executor,
            limits=Limits(**self._record.limits_json),
            control=self._control,
            report=self.report,
            sink=None if self._returns is None else self._columns,
        )

    def _columns(self, block: dict[str, NDArray[Any]]) -> None:
        """Takes the returns out of the bulk columns; the rest is in the plan's files."""
        assert self._returns is not None
        self._returns[block["index"]] = block["total_return_pct"]

    def report(self, now: Progress) -> None:
        """Passes progress on, and notes when a stage begins."""
        self._holding.course(now)
        if now.stage in STAGES and STAGES.index(now.stage) > STAGES.index(self._stage):
            self._lap(self._stage)
            self._stage = now.stage
            if now.stage == "stage_b":
                self._snapshots.stage_started()

    def _lap(self, stage: str) -> None:
        now = time.monotonic()
        self.tally.seconds[stage] = now - self._stage_began
        self._stage_began = now

    def fold_started(self, fold: FoldStart) -> None:
        """Counts what a fold finds; keeps the shortlist as soon as Stage B begins."""
        self.tally.computed += fold.spans - fold.reused
        self.tally.reused += fold.reused
        self._tell("fold", number=fold.number, spans=fold.spans, reused=fold.reused)
        searching = isinstance(fold.query, Scan)
        if searching:
            self._holding.course.reused(fold.stage.name, fold.reused_units)
        if isinstance(fold.stage, StageB) and fold.stage.named is not None:
            if not self._shortlisted:
                self._shortlist(fold.stage.named)
            if searching:
                self._snapshots.block_started()

    def part_merged(self, stage: Any, query: Any, merged: Any) -> None:
        """Shows the best so far of Stage B's search."""
        if isinstance(stage, StageB) and isinstance(query, Scan):
            self._snapshots.part_merged(stage, merged, self._holding.course.done(stage.name))

    def _shortlist(self, indexes: NDArray[np.int64]) -> None:
        self._shortlisted = True
        total = self._job.grid.total
        self._holding.shortlist(
            indexes.tolist(),
            {
                "stage_a_variants_total": total,
                "risk_total": self._job.risk.total,
                "preselect_used": min(self._job.preselect, total),
            },
        )

    def _run_record(self, outcome: Outcome, inner: Executor, started: datetime) -> dict[str, Any]:
        """What may differ between two equal runs."""
        return {
            "executor": inner.name,
            "device": inner.device,
            "threads": inner.workers,
            "estimated_memory_bytes": outcome.plan.total_bytes,
            "blocks": len(outcome.plan.boxes),
            "timings": outcome.timings,
            "started_at": started.isoformat(timespec="seconds"),
            "job_id": str(self._record.job_id),
            "attempt": self._record.attempt,
            "spans_computed": self.tally.computed,
            "spans_reused": self.tally.reused,
        }

    def _page(self, outcome: Outcome, document: dict[str, Any], executor: Executor) -> str:
        return report_html(
            outcome,
            document,
            executor,
            source=STORE,
            returns=self._returns,
            without_returns=(
                f"The returns of all variants are kept for grids of up to {spaced(MAX_ROWS)}."
            ),
        )
