"""`roehub jobs` as one calls it: a process, its exit codes, its log and its metrics."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import urllib.request
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from cluster.jobs.durable import results_directory
from cluster.jobs.runner import cluster_failure
from compute.errors import InvalidInput
from tests.cluster.cli import call
from tests.cluster.jobs.running import Looking, judge, submit, until
from tests.cluster.problems import request

ROOT = Path(__file__).parents[3]


@contextmanager
def jobs(directory: Path, dsn: str) -> Iterator[tuple[subprocess.Popen[bytes], Path]]:
    """(the process, its log) of a runner on threads; killed at the end, if it lives."""
    log = directory / "log"
    with log.open("wb") as said:
        started = subprocess.Popen(
            [sys.executable, "-m", "api.cli", "jobs", "--executor", "local", "--threads", "1",
             "--metrics-port", "0"],
            cwd=ROOT, stdout=said, stderr=said,
            env={**os.environ, "STRATEGY_PG_DSN": dsn,
                 "ROEHUB_RESULTS_DIR": str(directory / "results")},
        )  # fmt: skip
    try:
        yield started, log
    finally:
        if started.poll() is None:
            started.kill()
        started.wait()


def fetched(port: str, path: str) -> str:
    with urllib.request.urlopen(f"http://127.0.0.1:{port}{path}", timeout=10) as answer:
        return answer.read().decode()


@pytest.mark.slow
def test_it_runs_what_waits_and_stops_when_told(database: str, tmp_path: Path) -> None:
    body = request(windows=4, periods=4)
    [job_id] = submit(database, tmp_path / "results", body)
    with jobs(tmp_path, database) as (runner, log), Looking(database) as looking:
        until(looking.ended)
        until(lambda: "event=job_processed" in log.read_text())
        found = re.search(r"event=metrics_started host=127\.0\.0\.1 port=(\d+)", log.read_text())
        assert found is not None
        assert '"database": "ok"' in fetched(found[1], "/ready")
        metrics = fetched(found[1], "/metrics")
        runner.terminate()
        assert runner.wait(60) == 0
    judge(database, job_id, body)
    for line in (
        "backtest_job_runner_claim_total 1.0",
        "backtest_job_runner_succeeded_total 1.0",
        "backtest_job_runner_failed_total 0.0",
        "backtest_job_runner_cancelled_total 0.0",
        "backtest_job_runner_lease_lost_total 0.0",
        "backtest_job_runner_active_claimed_jobs 0.0",
        "backtest_job_runner_job_duration_seconds_count 1.0",
        'backtest_job_runner_stage_duration_seconds_bucket{le="900.0",stage="stage_b"} 1.0',
        'backtest_job_runner_stage_duration_seconds_count{stage="finalizing"} 1.0',
    ):
        assert line in metrics.splitlines()
    said = next(line for line in log.read_text().splitlines() if "event=job_processed" in line)
    assert re.search(
        rf"job_id={job_id} attempt=1 locked_by=\S+-{runner.pid} stage=finalizing status=succeeded",
        said,
    )


def test_jobs_that_are_not_enabled(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    file = tmp_path / "backtest.yaml"
    shipped = (ROOT / "configs" / "dev" / "backtest.yaml").read_text()
    file.write_text(shipped.replace("enabled: true", "enabled: false"))
    monkeypatch.setenv("ROEHUB_BACKTEST_CONFIG", str(file))
    done = call("jobs")
    assert done.status == 0
    assert "component=backtest-job-runner status=disabled" in done.stderr


def test_a_database_of_another_version_is_refused(
    empty_database: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATEGY_PG_DSN", empty_database)
    monkeypatch.setenv("ROEHUB_RESULTS_DIR", str(tmp_path / "results"))
    done = call("jobs", "--executor", "local", "--metrics-port", 0)
    assert done.status == 2
    assert "roehub db migrate" in done.stderr


def test_the_directory_of_results(tmp_path: Path) -> None:
    data, named = tmp_path / "data", tmp_path / "named"
    assert results_directory({"ROEHUB_DATA_DIR": str(data)}) == data / "results"
    assert (data / "results").is_dir()
    both = {"ROEHUB_DATA_DIR": str(data), "ROEHUB_RESULTS_DIR": str(named)}
    assert results_directory(both) == named
    (tmp_path / "file").touch()
    with pytest.raises(InvalidInput, match="ROEHUB_RESULTS_DIR"):
        results_directory({"ROEHUB_RESULTS_DIR": str(tmp_path / "file" / "below")})


def test_a_failure_of_the_cluster_is_not_one_of_the_job() -> None:
    from ray.exceptions import RaySystemError

    from cluster.errors import ClusterLost, ClusterMemory

    assert cluster_failure(ClusterLost("gone"))
    assert cluster_failure(RaySystemError("gone"))
    assert not cluster_failure(ClusterMemory("too large"))
    assert not cluster_failure(ValueError("a mistake of ours"))
