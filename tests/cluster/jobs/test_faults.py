"""Whatever is killed, and when: every job ends, and what it leaves is as if nothing had happened.

What is killed is real: runners, their workers, the database. Each test kills three times, at a
number of committed spans that a fixed seed draws.
"""

from __future__ import annotations

import json
import os
import random
import re
import signal
import subprocess
import sys
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from dataclasses import asdict
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from cluster.jobs.runner import OpenExecutor
from cluster.postgres.schema import migrate
from cluster.postgres.server import embedded_postgres
from compute.executor import Executor, LocalExecutor
from tests.cluster.jobs.runner_process import Paced
from tests.cluster.jobs.running import (
    FAST,
    Looking,
    job_of,
    judge,
    runner_thread,
    spans_of,
    submit,
    undisturbed,
    until,
)
from tests.cluster.problems import fine_lattice, request
from tests.postgres import await_server, kill_server

ROOT = Path(__file__).parents[3]
SEED = 20260102
BODY = request(windows=9, periods=7, preselect=47)  # 32 spans of Stage A, 47 of Stage B
KILLED_BETWEEN = ((5, 18), (30, 40), (52, 62))


@pytest.fixture(autouse=True)
def many_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.executor.lattice", fine_lattice)
    monkeypatch.setattr("cluster.jobs.committed.LEAST_NS", 0.0)


def moments() -> list[int]:
    """Numbers of committed spans at which something is killed, ascending."""
    chance = random.Random(SEED)
    return [chance.randrange(*bounds) for bounds in KILLED_BETWEEN]


def files_of(results: Path) -> dict[str, tuple[int, int]]:
    """Part files, each with what changes when it is written again."""
    found = {}
    for path in (results / "plans").glob("*/*.parquet"):
        about = path.stat()
        found[path.name] = (about.st_ino, about.st_mtime_ns)
    return found


class Watched:
    """Spans that were committed stay as they were, through every kill."""

    def __init__(self, dsn: str, results: Path, job_id: UUID) -> None:
        self.dsn, self.results, self.job_id = dsn, results, job_id
        self.before: dict[tuple[str, int, int], Any] = {}
        self.files: dict[str, tuple[int, int]] = {}

    def note(self) -> int:
        """Looks at what is committed now; how many spans that are."""
        spans, files = spans_of(self.dsn), files_of(self.results)
        assert {key: spans[key] for key in self.before} == self.before
        assert {name: files[name] for name in self.files} == self.files
        committed = {(fold, start) for _, fold, start in spans}
        places = {name: tuple(map(int, name.split("-")[:2])) for name in files}
        self.before = spans
        self.files = {name: files[name] for name, place in places.items() if place in committed}
        return len(spans)


@contextmanager
def process(
    dsn: str, results: Path, log: Path, where: str = "local",
    environment: dict[str, str] | None = None, pace: float = 0.02,
) -> Iterator[subprocess.Popen]:  # fmt: skip
    """A runner process; killed at the end, if it lives."""
    with log.open("ab") as said:
        started = subprocess.Popen(
            [sys.executable, "-m", "tests.cluster.jobs.runner_process", dsn, str(results),
             str(pace), json.dumps(asdict(FAST)), where],
            cwd=ROOT, stderr=said, start_new_session=True, env=environment,
        )  # fmt: skip
    try:
        yield started
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()


def stopped(runner: subprocess.Popen) -> None:
    """Asks a runner to stop, and sees that it does."""
    runner.terminate()
    assert runner.wait(60) == 0


@pytest.mark.slow
def test_a_killed_runner_costs_only_what_it_was_computing(database: str, tmp_path: Path) -> None:
    undisturbed(BODY)
    [job_id] = submit(database, tmp_path, BODY)
    watched, log = Watched(database, tmp_path, job_id), tmp_path / "log"
    left = 0
    with Looking(database) as looking:
        for attempt, moment in enumerate(moments(), start=1):
            with process(database, tmp_path, log) as runner:
                until(
                    lambda attempt=attempt, moment=moment: (
                        looking.attempt() == attempt and looking.spans() >= moment
                    )
                )
                assert runner.poll() is None
                runner.kill()
            until(lambda: not looking.runners())  # what it had sent off has arrived by then
            left = watched.note()
        with process(database, tmp_path, log) as runner:
            until(looking.ended)
            stopped(runner)
    total = watched.note()
    told = judge(database, job_id, BODY)
    assert told["attempt"] == len(KILLED_BETWEEN) + 1
    assert (told["spans_reused"], told["spans_computed"]) == (left, total - left)
    folds = re.findall(r"event=fold .*attempt=4 .*spans=(\d+) reused=(\d+)", log.read_text())
    assert sum(int(reused) for _, reused in folds) == left
    assert "event=job_processed" in log.read_text()


@pytest.mark.slow
def test_a_runner_that_slept_through_its_lease(
    database: str, tmp_path: Path, local: LocalExecutor
) -> None:
    undisturbed(BODY)
    [job_id] = submit(database, tmp_path, BODY)
    log = tmp_path / "log"
    with Looking(database) as looking, process(database, tmp_path, log) as sleeper:
        until(lambda: looking.spans() >= moments()[0])
        os.kill(sleeper.pid, signal.SIGSTOP)
        with runner_thread(database, tmp_path, held(local), owner="other"):
            until(looking.ended)
        told = judge(database, job_id, BODY)
        os.kill(sleeper.pid, signal.SIGCONT)
        until(lambda: "status=lease_lost" in log.read_text())
        stopped(sleeper)
    assert told["attempt"] == 2
    assert judge(database, job_id, BODY) == told  # not even the files were written again


def held(executor: Executor) -> OpenExecutor:
    @contextmanager
    def opened() -> Iterator[Executor]:
        yield executor

    return opened


@contextmanager
def patient_server(directory: Path) -> Iterator[str]:
    """A server of this test's own; a commit survives that it is killed."""
    with embedded_postgres(directory, {"fsync": "off"}) as dsn:
        migrate(dsn)
        yield dsn


@pytest.mark.slow
def test_a_database_that_is_killed_and_comes_back(tmp_path: Path, local: LocalExecutor) -> None:
    undisturbed(BODY)
    server = tmp_path / "postgres"
    with patient_server(server) as dsn:
        results = tmp_path / "results"
        [job_id] = submit(dsn, results, BODY)
        watched = Watched(dsn, results, job_id)
        with runner_thread(dsn, results, held(Paced(local, 0.02))):
            for moment in moments():
                until(lambda moment=moment: len(files_of(results)) >= 2 * moment)
                pid = kill_server(server)
                await_server(server, pid)
                watched.note()
            with Looking(dsn) as looking:
                until(looking.ended)
        watched.note()
        judge(dsn, job_id, BODY)


@pytest.mark.slow
@pytest.mark.parametrize("count", [2, pytest.param(4, marks=pytest.mark.soak)])
def test_runners_compete(database: str, tmp_path: Path, count: int) -> None:
    bodies = [request(windows=2 + i % 5, periods=2 + i // 5, preselect=10) for i in range(20)]
    ids = submit(database, tmp_path, *bodies)
    with ExitStack() as stack:
        runners = [
            stack.enter_context(
                runner_thread(
                    database, tmp_path, held(stack.enter_context(LocalExecutor(1))),
                    owner=f"host-{i}",
                )
            )
            for i in range(count)
        ]  # fmt: skip
        looking = stack.enter_context(Looking(database))
        until(looking.ended)
    claims = [_count(metrics.claim) for _, metrics in runners]
    assert sum(claims) == len(ids)
    assert sum(_count(metrics.ended["succeeded"]) for _, metrics in runners) == len(ids)
    assert min(claims) > 0
    for job_id, body in zip(ids, bodies, strict=True):
        assert judge(database, job_id, body)["attempt"] == 1


def _count(counter: Any) -> int:
    return int(counter._value.get())


def test_a_job_that_ends_its_runners_fails_at_last(database: str, tmp_path: Path) -> None:
    """Each runner dies in the first span; the job is not tried for ever."""
    [poison] = submit(database, tmp_path, BODY, max_attempts=1)
    log = tmp_path / "log"
    with Looking(database) as looking:
        with process(database, tmp_path, log) as runner:
            until(lambda: looking.fetch("select 1 from backtest_jobs where state = 'running'"))
            runner.kill()
        with runner_thread(database, tmp_path, _refusing()):
            until(looking.ended)
    job = job_of(database, poison)
    assert (job.state, job.attempt) == ("failed", 1)
    assert (job.last_error_json or {})["details"]["error"] == "max_attempts_exceeded"


def _refusing() -> Callable[[], Any]:
    @contextmanager
    def opened() -> Iterator[Any]:
        yield None  # nothing may be computed on it

    return opened
