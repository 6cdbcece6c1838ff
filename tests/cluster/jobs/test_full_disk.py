"""A disk that is full in the middle of a job: it fails with the cure, and what it had committed is
where the next one goes on."""

from __future__ import annotations

from pathlib import Path

import pytest

from compute.executor import LocalExecutor
from tests.cluster.jobs.runner_process import Paced
from tests.cluster.jobs.running import (
    Looking,
    job_of,
    judge,
    runner_thread,
    submit,
    undisturbed,
    until,
)
from tests.cluster.jobs.test_committed import largest_file
from tests.cluster.jobs.test_faults import BODY, Watched, held, moments
from tests.cluster.problems import fine_lattice


def test_a_disk_that_is_full_for_a_while(
    database: str, tmp_path: Path, local: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("compute.executor.lattice", fine_lattice)
    monkeypatch.setattr("cluster.jobs.committed.LEAST_NS", 0.0)
    undisturbed(BODY)
    [first] = submit(database, tmp_path, BODY)
    watched = Watched(database, tmp_path, first)
    with (
        runner_thread(database, tmp_path, held(Paced(local, 0.01))),
        Looking(database) as looking,
    ):
        until(lambda: looking.spans() >= moments()[0])
        with largest_file(1500):
            until(looking.ended)
        job = job_of(database, first)
        assert job.state == "failed"
        assert job.last_error_json is not None
        assert job.last_error_json["details"]["error"] == "results_unwritable"
        kept = watched.note()
        [second] = submit(database, tmp_path, BODY)
        until(looking.ended)
    total = watched.note()
    told = judge(database, second, BODY)
    assert (told["spans_reused"], told["spans_computed"]) == (kept, total - kept)
