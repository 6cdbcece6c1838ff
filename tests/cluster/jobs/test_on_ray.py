"""Jobs and committed spans on a Ray cluster, one for all of them: as on threads of this process."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import psutil
import pytest

from cluster.ray_executor import RayExecutor
from compute.control import Control
from compute.errors import Cancelled
from compute.executor import LocalExecutor
from tests.cluster.jobs.ledgers import Recorder
from tests.cluster.jobs.runner_process import Paced
from tests.cluster.jobs.running import (
    Looking,
    judge,
    runner_thread,
    spans_of,
    submit,
    undisturbed,
    until,
)
from tests.cluster.jobs.test_committed import Bench
from tests.cluster.jobs.test_faults import BODY, Watched, held, moments
from tests.cluster.problems import Problem, fine_lattice, request


@pytest.fixture(autouse=True)
def many_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.executor.lattice", fine_lattice)
    monkeypatch.setattr("cluster.jobs.committed.LEAST_NS", 0.0)


def test_a_job_and_another_of_its_plan(database: str, tmp_path: Path, cluster: RayExecutor) -> None:
    body = request(windows=8, periods=6)
    ids = submit(database, tmp_path, body, body | {"top_trades_n": 5})
    with runner_thread(database, tmp_path, held(cluster)), Looking(database) as looking:
        until(looking.ended)
    assert judge(database, ids[0], body)["executor"] == "ray"
    told = judge(database, ids[1], body | {"top_trades_n": 5})
    assert told["spans_computed"] == 0  # the same plan over the same candles
    assert told["spans_reused"] == len(spans_of(database))


def test_spans_of_one_executor_are_those_of_another(
    cluster: RayExecutor, local: LocalExecutor, tmp_path: Path
) -> None:
    problem = Problem(request(windows=8, periods=6, preselect=20))
    bench = Bench(problem, tmp_path)
    expected = bench.plain(local)
    control = Control()
    with pytest.raises(Cancelled):
        bench.run(Recorder(cluster, 25, lambda: control.cancel("stop")), control=control)
    some = len(bench.ledger.rows)
    assert some >= 25
    again = Recorder(local)
    assert bench.run(again) == expected
    assert again.spans == len(bench.ledger.rows) - some > 0
    fresh = Bench(problem, tmp_path / "other")
    assert fresh.run(cluster) == expected
    digests = {key: row.digest for key, row in bench.ledger.rows.items()}
    assert {key: row.digest for key, row in fresh.ledger.rows.items()} == digests


WORKERS = ("ray::IDLE", "ray::spans", "ray::reduced", "ray::warm")  # not the agents of the node


def kill_workers(session: str) -> int:
    """Ends all workers of the cluster at once; how many there were."""
    found = [
        worker
        for worker in psutil.process_iter(["cmdline"])
        if " ".join(worker.info["cmdline"] or ()).startswith(WORKERS)
        and any(session in " ".join(parent.cmdline()) for parent in worker.parents())
    ]
    for worker in found:
        worker.kill()
    return len(found)


@pytest.mark.soak
def test_workers_of_the_cluster_that_are_killed(
    database: str, tmp_path: Path, cluster: RayExecutor, session: Any
) -> None:
    undisturbed(BODY)
    [job_id] = submit(database, tmp_path, BODY)
    watched = Watched(database, tmp_path, job_id)
    directory = f"roehub-ray-{os.getuid()}/{os.getpid()}"
    with (
        runner_thread(database, tmp_path, held(Paced(cluster, 0.15))),
        Looking(database) as looking,
    ):
        for moment in moments():
            until(lambda moment=moment: looking.spans() >= moment)
            assert until(lambda: kill_workers(directory)) > 0
            assert not looking.ended()
            watched.note()
        until(looking.ended)
    watched.note()
    told = judge(database, job_id, BODY)
    assert (told["attempt"], told["executor"]) == (1, "ray")
