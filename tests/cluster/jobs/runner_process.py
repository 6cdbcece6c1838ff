"""A runner as a process of its own, to be killed: `roehub jobs`, but for settings and its pace.

Arguments: DSN, directory of results, seconds a span takes at least, settings as JSON, and the
executor: `local`, `ray`, or the address of a cluster.
"""

from __future__ import annotations

import json
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from prometheus_client import CollectorRegistry

import cluster.jobs.committed
import compute.executor
from cluster.jobs.database import Database
from cluster.jobs.metrics import RunnerMetrics
from cluster.jobs.runner import Runner, stopped_by_signals
from cluster.jobs.settings import JobSettings
from compute.executor import Executor, LocalExecutor
from ingest.commands.options import LogFormat, logs_to_stderr
from tests.cluster.jobs.ledgers import Recorder
from tests.cluster.problems import fine_lattice


class Paced(Recorder):
    """Takes its time with every span, so that there is a middle to be killed in."""

    def __init__(self, inner: Executor, seconds: float) -> None:
        super().__init__(inner)
        self._seconds = seconds

    def fold(
        self, stage: Any, query: Any, spans: Sequence[Any], meter: Any, control: Any,
        sink: Any = None,
    ) -> Any:  # fmt: skip
        def paced(block: Any) -> None:
            time.sleep(self._seconds)
            if sink is not None:
                sink(block)

        return super().fold(stage, query, spans, meter, control, paced)


@contextmanager
def opened(where: str, seconds: float) -> Iterator[Executor]:
    if where == "local":
        with LocalExecutor(2) as pool:
            yield Paced(pool, seconds)
        return
    from cluster.ray_executor import RayExecutor
    from cluster.ray_session import ray_session

    address = None if where == "ray" else where
    with ray_session(address, 2), RayExecutor(1, smallest_ns=0) as pool:
        yield Paced(pool, seconds)


def main(dsn: str, results: str, seconds: str, settings: str, where: str) -> None:
    logs_to_stderr(LogFormat.text)
    compute.executor.lattice = fine_lattice
    cluster.jobs.committed.LEAST_NS = 0.0
    with Database(dsn) as database:
        runner = Runner(
            database,
            JobSettings(**json.loads(settings)),
            lambda: opened(where, float(seconds)),
            RunnerMetrics(CollectorRegistry()),
            results_dir=Path(results),
        )
        with stopped_by_signals(runner):
            runner.run()


if __name__ == "__main__":
    main(*sys.argv[1:])
