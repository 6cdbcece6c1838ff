"""The service is killed while clients make, poll and follow jobs, at moments that a seed draws.

Every job is made once, nobody who follows misses a thing, and the results are as if nothing had
happened.
"""

from __future__ import annotations

import random
import subprocess
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any
from uuid import UUID

import pytest

from api.client import Client, Event, ServiceFailed, ServiceUnreachable
from api.server import listening
from cluster.jobs.job import STATES, TERMINAL, Job
from cluster.jobs.market_file import read_market
from cluster.jobs.snapshot import backtest_of
from compute.executor import Executor, LocalExecutor
from compute.pipeline import backtest
from compute.results import canonical_result, result_document
from compute.settings import Limits
from tests.api.service.job_service import request
from tests.api.service.market import store_directory
from tests.cluster.cli import started
from tests.cluster.jobs.runner_process import Paced
from tests.cluster.jobs.running import Looking, job_of, runner_thread, until
from tests.cluster.problems import fine_lattice

__all__ = ["store_directory"]
SEED = 20260103
JOBS = 3
RESEND_SECONDS = 1.0
KILLED_BETWEEN = ((3, 15), (22, 35), (42, 55))
"""Committed spans at which the service is killed, of 70 at least."""


@pytest.fixture(autouse=True)
def many_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.executor.lattice", fine_lattice)
    monkeypatch.setattr("cluster.jobs.committed.LEAST_NS", 0.0)


class Service:
    """`roehub api` as a process at a port that it keeps through its deaths."""

    def __init__(self, data: Path, database: str, results: Path) -> None:
        with listening("127.0.0.1", 0) as free:
            self.port: int = free.getsockname()[1]
        self.url = f"http://127.0.0.1:{self.port}"
        self.up = threading.Event()
        self._environment = {
            "ROEHUB_ENV": "test", "ROEHUB_DATA_DIR": str(data), "STRATEGY_PG_DSN": database,
            "ROEHUB_RESULTS_DIR": str(results),
        }  # fmt: skip
        self._process: subprocess.Popen[str] | None = None

    def start(self) -> None:
        """Returns when it serves."""
        self._process = started(
            "api", "--port", self.port, stderr=subprocess.DEVNULL, **self._environment
        )
        assert self._process.stdout is not None
        assert self._process.stdout.readline().startswith(f"serving {self.url}")
        self.up.set()

    def kill(self) -> None:
        """Ends it at once."""
        self.up.clear()
        assert self._process is not None
        self._process.kill()
        self._process.communicate()


class Clients:
    """Threads that talk to a service until they have what they want."""

    def __init__(self, url: str) -> None:
        self.url = url
        self.ids: dict[str, set[str]] = {}
        self.events: dict[str, list[Event]] = {}
        self.states: dict[str, list[str]] = {}
        self.broken = 0
        self._threads: list[threading.Thread] = []
        self._failed: list[BaseException] = []
        self._lock = threading.Lock()

    def run(self, work: Callable[..., None], *arguments: Any) -> None:
        def guarded() -> None:
            try:
                work(*arguments)
            except BaseException as error:
                self._failed.append(error)

        thread = threading.Thread(target=guarded, daemon=True)
        self._threads.append(thread)
        thread.start()

    def join(self) -> None:
        for thread in list(self._threads):
            thread.join(60)
            assert not thread.is_alive()
        if self._failed:
            raise self._failed[0]

    def again(self, call: Callable[[], Any]) -> Any:
        """What a call returns at last."""
        while True:
            try:
                return call()
            except (ServiceUnreachable, ServiceFailed):
                with self._lock:
                    self.broken += 1
                time.sleep(0.25)

    def create(self, number: int, ended: threading.Event) -> None:
        """Sends one request under one key again and again; follows and polls what came of it."""
        key, body, user = (
            f"key-{number}",
            request(windows=40 + number, preselect=60),
            str(UUID(int=number + 1)),
        )
        with Client(self.url, user) as client:
            while not ended.wait(RESEND_SECONDS if key in self.ids else 0):
                job_id = self.again(lambda: client.submit(body, key))["job_id"]
                if key not in self.ids:
                    self.ids[key] = {job_id}
                    self.run(self.follow, job_id, user)
                    self.run(self.poll, job_id, user)
                self.ids[key].add(job_id)

    def follow(self, job_id: str, user: str) -> None:
        self.events[job_id] = []
        with Client(self.url, user) as client:
            for event in client.follow(job_id):
                self.events[job_id].append(event)

    def poll(self, job_id: str, user: str) -> None:
        seen = self.states[job_id] = []
        with Client(self.url, user) as client:
            while not seen or seen[-1] not in TERMINAL:
                state = self.again(lambda: client.job(job_id))["state"]
                if seen[-1:] != [state]:
                    seen.append(state)
                time.sleep(0.2)


@pytest.fixture
def service(store_directory: Path, database: str, tmp_path: Path) -> Iterator[Service]:
    found = Service(store_directory.parent, database, tmp_path / "results")
    try:
        found.start()
        yield found
    finally:
        found.kill()


def undisturbed(job: Job) -> bytes:
    """The canonical result of a job's plan, computed at one go."""
    wanted = backtest_of(job.effective_json, job.hashes)
    timeline = read_market(Path(job.results_dir), wanted, job.candles_fingerprint)
    with LocalExecutor(2) as executor:
        outcome = backtest(wanted, timeline, executor, limits=Limits(**job.limits_json))
        return canonical_result(result_document(outcome, executor, run={}))


def stored_events(looking: Looking, job_id: str) -> list[tuple[str, str]]:
    """(id, state) of what was written about a job's state."""
    return [
        (str(event_id), state)
        for event_id, state in looking.fetch(
            "select event_id, data ->> 'state' from backtest_job_events"
            " where job_id = :job and kind = 'state' order by event_id",
            job=UUID(job_id),
        )
    ]


@pytest.mark.soak
def test_a_killed_service_loses_no_job_and_no_event(
    service: Service, database: str, tmp_path: Path
) -> None:
    chance = random.Random(SEED)
    clients, ended = Clients(service.url), threading.Event()

    class Awaiting(Paced):
        """Computes while the service is there, so that there is a middle for each death."""

        def __init__(self, inner: Executor) -> None:
            super().__init__(inner, 0.02)

        def fold(self, *arguments: Any, **options: Any) -> Any:
            service.up.wait()
            return super().fold(*arguments, **options)

    @contextmanager
    def opened() -> Iterator[Executor]:
        with LocalExecutor(2) as inner:
            yield Awaiting(inner)

    with (
        Looking(database) as looking,
        runner_thread(database, tmp_path / "results", opened) as (_, metrics),
    ):
        try:
            for number in range(JOBS):
                clients.run(clients.create, number, ended)
            for bounds in KILLED_BETWEEN:
                moment = chance.randrange(*bounds)
                until(lambda moment=moment: looking.spans() >= moment, 60)
                service.kill()
                time.sleep(chance.random() / 4)
                service.start()
            until(lambda: len(clients.ids) == JOBS and looking.ended())
        finally:
            service.up.set()
            ended.set()
            clients.join()
        spans = looking.spans()
        ids = [job_id for found in clients.ids.values() for job_id in found]
        assert len(ids) == JOBS == looking.fetch("select count(*) from backtest_jobs")[0][0]
        for job_id in ids:
            told = stored_events(looking, job_id)
            seen = clients.events[job_id]
            assert [(e.event_id, e.data["state"]) for e in seen if e.kind == "state"] == told
            numbers = [int(event.event_id) for event in seen]
            assert numbers == sorted(set(numbers))
    assert clients.broken >= len(KILLED_BETWEEN)
    assert metrics.spans_computed._value.get() == spans  # none was computed twice
    for job_id in ids:
        job = job_of(database, UUID(job_id))
        assert (job.state, job.attempt) == ("succeeded", 1)
        assert clients.states[job_id][-1] == "succeeded"
        ranks = [STATES.index(state) for state in clients.states[job_id]]
        assert ranks == sorted(ranks)
        with Client(service.url, str(job.user_id)) as client:
            assert canonical_result(client.result(job_id)) == undisturbed(job)
