"""`roehub up` as a user runs it: processes of its own, killed and stopped, jobs that go on."""

from __future__ import annotations

import contextlib
import os
import re
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import httpx
import psutil
import pytest

from api.client import Client
from compute.results import canonical_result
from tests.api.service.job_service import axis
from tests.api.service.market import store_directory
from tests.cluster.cli import ROOT

__all__ = ["store_directory"]
pytestmark = pytest.mark.soak

STARTS_S, STOPS_S = 180, 30


def until(condition: Callable[[], Any], seconds: float, what: str | Callable[[], Any]) -> Any:
    deadline = time.monotonic() + seconds
    while not (found := condition()):
        assert time.monotonic() < deadline, what() if callable(what) else what
        time.sleep(0.05)
    return found


class Running:
    """A `roehub up` over a directory, and all the processes that belong to it."""

    def __init__(self, directory: Path, *options: str) -> None:
        self.directory = directory
        self.output = directory / f"output-{time.monotonic_ns()}"
        with self.output.open("wb") as output:
            self.process = subprocess.Popen(
                [sys.executable, "-m", "api.cli", "up", "--port", "0", *options],
                cwd=ROOT,
                env=environment(directory),
                stdout=output,
                stderr=subprocess.STDOUT,
            )

    @property
    def said(self) -> str:
        return self.output.read_text()

    def url(self) -> str:
        """Waits until it is up."""

        def found() -> str | None:
            assert self.process.poll() is None, self.said
            match = re.search(r"API +(http://\S+)", self.said)
            return match[1] if match and "try: roehub submit" in self.said else None

        return until(found, STARTS_S, "roehub up did not start")

    def family(self) -> list[psutil.Process]:
        """All its processes, found by the directory in their environment."""
        mark = f"ROEHUB_DATA_DIR={self.directory}".encode()
        found = []
        for process in psutil.process_iter():
            with contextlib.suppress(OSError, psutil.Error):
                if mark in Path(f"/proc/{process.pid}/environ").read_bytes().split(b"\0"):
                    found.append(process)
        return found

    def end(self, number: int) -> int:
        """Its exit status after a signal, when nothing of it is left."""
        family = self.family()
        assert len(family) > 3
        self.process.send_signal(number)
        status = self.process.wait(STOPS_S)
        until(
            lambda: not [one for one in family if alive(one)],
            STOPS_S,
            lambda: [(one.pid, one.cmdline()) for one in family if alive(one)],
        )
        assert not self.family()
        return status


def alive(process: psutil.Process) -> bool:
    try:
        return process.is_running() and process.status() != psutil.STATUS_ZOMBIE
    except psutil.NoSuchProcess:
        return False


def environment(directory: Path) -> dict[str, str]:
    return {**os.environ, "ROEHUB_DATA_DIR": str(directory), "ROEHUB_ENV": "test"}


@pytest.fixture
def directory(
    store_directory: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> Iterator[Path]:
    """A data directory with candles, in which clients of this process find the operator's token.

    Whatever a failed test leaves running is ended.
    """
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path / "data"))
    shutil.copytree(store_directory, tmp_path / "data" / "clickhouse", symlinks=True)
    yield tmp_path / "data"
    mark = str(tmp_path / "data")
    for process in psutil.process_iter():
        with contextlib.suppress(OSError, psutil.Error):
            if mark in Path(f"/proc/{process.pid}/environ").read_text():
                process.kill()


def slow_request() -> dict[str, Any]:
    """A grid whose Stage A takes some seconds: it is ranked by drawdown over one-minute bars."""
    run = {"mode": "range", "start": 5, "stop_incl": 54, "step": 1}
    return {
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-11T00:00:00Z"},
        "template": {
            "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
            "timeframe": "1m",
            "indicator_grids": [
                {"indicator_id": "ma.sma", "source": axis("close"), "params": {"window": run}},
                {
                    "indicator_id": "momentum.rsi",
                    "source": axis("close"),
                    "params": {"window": run},
                },
            ],
            "signal_grids": {
                "momentum.rsi": {
                    "long_threshold": axis(48, 50, 52, 54, 56),
                    "short_threshold": axis(44, 46, 48, 50, 52),
                }
            },
        },
        "ranking": {"primary_metric": "return_over_max_drawdown"},
        "warmup_bars": 200,
        "top_k": 5,
        "preselect": 20,
        "top_trades_n": 1,
    }


def test_a_job_killed_with_everything_goes_on_where_it_was(directory: Path) -> None:
    first = Running(directory)
    with Client(first.url()) as client:
        job_id = client.submit(slow_request())["job_id"]

        def midway() -> bool:
            job = client.job(job_id)
            assert job["state"] in ("queued", "running"), "the job was too quick to be killed"
            return job["stage"] == "stage_a" and job["processed_units"] > 0.3 * 62_500

        until(midway, 120, "no progress")
    first.end(signal.SIGKILL)

    second = Running(directory)
    with Client(second.url()) as client:
        assert f"job {job_id} was left by a runner that is gone; it goes on" in second.said
        states = [e.data for e in client.follow(job_id) if e.kind == "state"]
        assert states[-1]["state"] == "succeeded"
        assert states[-1]["attempt"] == 2
        interrupted = client.result(job_id)
        log = (directory / "logs" / "runner-1.log").read_text()
        folds = re.findall(r"event=fold .*?attempt=2 .*?number=0 spans=(\d+) reused=(\d+)", log)
        assert folds, log[-3000:]
        spans, reused = map(int, folds[0])
        assert 0 < reused < spans

        # The same plan over the same candles: nothing is left to compute.
        again = client.submit(slow_request())["job_id"]
        list(client.follow(again))
        assert canonical_result(client.result(again)) == canonical_result(interrupted)
    assert second.end(signal.SIGTERM) == 0
    assert "everything is stopped" in second.said


def test_what_dies_is_started_again_and_a_second_one_is_refused(directory: Path) -> None:
    up = Running(directory, "--runners", "2", "--threads", "1")
    url = up.url()
    assert httpx.get(f"{url}/ready").json()["status"] == "ready"
    assert httpx.get(f"{url}/docs").status_code == 200
    second = subprocess.run(
        [sys.executable, "-m", "api.cli", "up", "--port", "0"],
        cwd=ROOT, env=environment(directory), capture_output=True, text=True, timeout=60,
        check=False,
    )  # fmt: skip
    assert second.returncode == 2
    assert f"(pid {up.process.pid}, API at {url})" in second.stderr
    assert "Traceback" not in second.stderr

    def runners() -> list[psutil.Process]:
        return [one for one in up.family() if "--metrics-port" in one.cmdline()]

    for one in until(lambda: found if len(found := runners()) == 2 else None, 60, "no runners"):
        one.kill()
    until(lambda: up.said.count("was ended by SIGKILL; starting it again") == 2, 30, up.said)
    until(lambda: len(runners()) == 2, 60, "the runners did not come back")
    host = next(one for one in up.family() if "api.ray_host" in one.cmdline())
    host.kill()
    until(lambda: "Ray was ended by SIGKILL; starting it again" in up.said, 30, up.said)
    small = slow_request()
    small["template"]["indicator_grids"][0]["params"]["window"] = axis(5, 6)
    with Client(url) as client:
        job_id = client.submit(small)["job_id"]
        states = [e.data["state"] for e in client.follow(job_id) if e.kind == "state"]
        assert states[-1] == "succeeded", (directory / "logs" / "runner-1.log").read_text()[-3000:]
    began = time.monotonic()
    assert up.end(signal.SIGINT) == 0
    assert time.monotonic() - began < 30


def test_what_is_left_of_a_start_that_is_stopped(directory: Path) -> None:
    up = Running(directory)
    until(lambda: (directory / "logs" / "ray.log").exists(), 60, "nothing began")
    up.process.send_signal(signal.SIGTERM)
    up.process.wait(STOPS_S)
    until(lambda: not up.family(), STOPS_S, "something is left")


def test_the_port_that_is_taken_is_named(directory: Path) -> None:
    from api.server import listening

    with listening("127.0.0.1", 0) as taken:
        port = taken.getsockname()[1]
        done = subprocess.run(
            [sys.executable, "-m", "api.cli", "up", "--port", str(port)],
            cwd=ROOT, env=environment(directory), capture_output=True, text=True, timeout=60,
            check=False,
        )  # fmt: skip
    assert done.returncode == 2
    assert f"cannot listen on 127.0.0.1:{port}" in done.stderr
    assert done.stdout == ""
