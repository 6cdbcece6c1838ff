"""The runner: claims jobs, one after the other, and runs them on one executor until it is stopped.

Stopping hands the job back: what it has committed is reused by whoever goes on with it.
"""

from __future__ import annotations

import logging
import os
import signal
import socket
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager, ExitStack, contextmanager
from pathlib import Path
from types import FrameType
from typing import Any, Final

from cluster.errors import ClusterLost, ClusterUnavailable
from cluster.jobs.database import Database
from cluster.jobs.durable import mark, there
from cluster.jobs.errors import LeaseLost
from cluster.jobs.holding import Holding
from cluster.jobs.job import Job
from cluster.jobs.leases import Leases
from cluster.jobs.metrics import RunnerMetrics
from cluster.jobs.retention import Retention
from cluster.jobs.run import JobRun
from cluster.jobs.settings import JobSettings
from compute.control import Control
from compute.errors import Cancelled
from compute.executor import Executor

OpenExecutor = Callable[[], AbstractContextManager[Executor]]

COMPONENT: Final = "backtest-job-runner"
STOPPED: Final = "runner_stopped"
_CLAIM_SECONDS: Final = 5.0
_SWEEP_SECONDS: Final = 3600.0
_LONGEST_PAUSE_SECONDS: Final = 30.0

_LOG = logging.getLogger(__name__)


def owner_id() -> str:
    """The name of this process among runners."""
    return f"{socket.gethostname()}-{os.getpid()}"


class Runner:
    """Runs jobs until `stop`; `open_executor` makes what they are computed on, kept between them.

    `results_dir` is swept now and then of what no job refers to; while it is not there, a mount
    that is gone, no job is claimed.
    """

    def __init__(
        self,
        database: Database,
        settings: JobSettings,
        open_executor: OpenExecutor,
        metrics: RunnerMetrics,
        *,
        owner: str | None = None,
        results_dir: Path | None = None,
    ) -> None:
        self._database, self._settings, self._metrics = database, settings, metrics
        self._open_executor = open_executor
        self._leases = Leases(database.engine, owner or owner_id(), settings)
        self._results_dir = results_dir
        self._missing = False
        if results_dir is not None:
            mark(results_dir)
        self._swept_at: float | None = None
        self._stopping = threading.Event()
        self._control: Control | None = None

    def stop(self) -> None:
        """Asks the runner to hand back its job and to return; any thread or signal may."""
        self._stopping.set()
        control = self._control
        if control is not None:
            control.cancel(STOPPED)

    @property
    def stopping(self) -> bool:
        return self._stopping.is_set()

    def run(self) -> None:
        """Claims and runs jobs until it is stopped.

        An executor that is lost is opened again. Raises: what opening the first one raises.
        """
        pause = self._settings.claim_poll_seconds
        opened = False
        while not self.stopping:
            try:
                with self._open_executor() as executor, stopped_by_signals(self):
                    opened, pause = True, self._settings.claim_poll_seconds
                    self._serve(executor)
            except Exception as error:
                if not opened or not cluster_failure(error):
                    raise
                self._say(logging.ERROR, "executor_lost", message=str(error))
                self._stopping.wait(pause)
                pause = min(2 * pause, _LONGEST_PAUSE_SECONDS)

    def _serve(self, executor: Executor) -> None:
        while not self.stopping:
            began = time.monotonic()
            job = self._claimed(began) if self._ready() else None
            if job is not None:
                self._run(job, began, executor)
            self._sweep()
            if job is None:
                self._stopping.wait(self._settings.claim_poll_seconds)

    def _ready(self) -> bool:
        """Whether the directory of results is there: without it every job would be failed."""
        missing = self._results_dir is not None and not there(self._results_dir)
        if missing != self._missing:
            self._missing = missing
            level, event = (
                (logging.ERROR, "results_missing") if missing else (logging.INFO, "results_back")
            )
            self._say(level, event, directory=self._results_dir)
        return not missing

    def _claimed(self, began: float) -> Job | None:
        try:
            # Not longer than a lease: an answer that got lost has claimed a job all the same.
            return self._database.call(self._leases.claim, lambda: began + _CLAIM_SECONDS)
        except Exception as error:
            self._say(logging.ERROR, "claim_failed", message=str(error))
            return None

    def _run(self, job: Job, began: float, executor: Executor) -> None:
        """Runs a job to whatever end. Raises: what says that the executor is lost."""
        metrics = self._metrics
        metrics.claim.inc()
        self._control = control = Control()
        if self.stopping:
            control.cancel(STOPPED)
        self._say(logging.INFO, "job_claimed", job)
        status = "lease_lost"
        with (
            metrics.active.track_inprogress(),
            Holding(job, self._leases, self._database, control, began) as holding,
        ):
            try:
                status = self._status(holding, executor)
            except LeaseLost as error:
                self._say(logging.WARNING, "lease_lost", job, holding, message=error.message)
            except Exception as error:
                if cluster_failure(error):
                    status = "executor_lost"
                    raise
                # Not even its end could be written: the lease runs out, and the attempt counts.
                status = "crashed"
                self._say(logging.ERROR, "job_processing_crashed", job, holding, message=str(error))
                _LOG.error("job %s could not be ended", job.job_id, exc_info=error)
            finally:
                self._control = None
                metrics.ended[status].inc()
                metrics.job_seconds.observe(time.monotonic() - began)
                self._say(logging.INFO, "job_processed", job, holding, status=status)

    def _status(self, holding: Holding, executor: Executor) -> str:
        """How the job ended, written to its row. Raises: LeaseLost."""
        job = holding.job
        try:
            self._compute(holding, executor)
            return "succeeded"
        except LeaseLost:
            raise
        except Cancelled as stopped:
            if holding.lost:
                holding.refuse()
            if stopped.reason == STOPPED:
                holding.release()
                return "released"
            holding.cancelled()
            self._say(logging.INFO, "job_cancelled", job, holding)
            return "cancelled"
        except Exception as error:
            if cluster_failure(error):
                # Not released: the lease runs out, and the attempt counts. It may be this job that
                # ends clusters.
                raise
            self._say(logging.ERROR, "job_failed", job, holding, message=str(error))
            _LOG.error("job %s failed", job.job_id, exc_info=error)
            holding.fail(error)
            return "failed"

    def _compute(self, holding: Holding, executor: Executor) -> None:
        def tell(event: str, **fields: Any) -> None:
            self._say(logging.INFO, event, holding.job, holding, **fields)

        run: JobRun | None = None
        try:
            run = JobRun(holding, self._settings, tell)
            run.compute(executor)
        finally:
            if run is not None:
                self._metrics.spans_computed.inc(run.tally.computed)
                self._metrics.spans_reused.inc(run.tally.reused)
                for stage, seconds in run.tally.seconds.items():
                    self._metrics.stage_seconds.labels(stage).observe(seconds)

    def _sweep(self) -> None:
        """Removes now and then what no job refers to."""
        now = time.monotonic()
        if (
            self._results_dir is None
            or self._missing
            or (self._swept_at is not None and now - self._swept_at < _SWEEP_SECONDS)
        ):
            return
        self._swept_at = now
        days = self._settings.retention_days
        retention = Retention(self._database.engine, self._results_dir, days)
        try:
            swept = self._database.call(retention.sweep, time.monotonic)
            self._say(logging.INFO, "swept", jobs=swept.jobs, spans=swept.spans, files=swept.files)
        except Exception as error:
            self._say(logging.WARNING, "sweep_failed", message=str(error))

    def _say(
        self, level: int, event: str, job: Job | None = None, holding: Holding | None = None,
        **fields: Any,
    ) -> None:  # fmt: skip
        known: dict[str, Any] = {"component": COMPONENT, "event": event}
        if job is not None:
            stage = job.stage if holding is None else holding.course.stage
            known |= {
                "job_id": str(job.job_id),
                "attempt": job.attempt,
                "locked_by": self._leases.owner,
                "stage": stage,
            }
        known |= fields
        _LOG.log(level, "%s", " ".join(f"{name}={_plain(value)}" for name, value in known.items()))


def cluster_failure(error: BaseException) -> bool:
    """Whether it is the cluster that failed, and not the job."""
    if isinstance(error, ClusterLost | ClusterUnavailable):
        return True
    return type(error).__module__.partition(".")[0] == "ray"


@contextmanager
def stopped_by_signals(runner: Runner) -> Iterator[None]:
    """While inside, SIGTERM and SIGINT stop the runner; a second one ends the process at once.

    To be entered after Ray, which takes SIGTERM for itself when it starts.
    """
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if runner.stopping:
            raise KeyboardInterrupt
        runner.stop()

    with ExitStack() as stack:
        for number in (signal.SIGINT, signal.SIGTERM):
            stack.callback(signal.signal, number, signal.signal(number, stop))
        yield


def _plain(value: Any) -> str:
    text = str(value)
    if text and not set(text) & set(' "=\n'):
        return text
    return '"' + text.replace("\\", "\\\\").replace('"', '\\"').replace("\n", "\\n") + '"'
