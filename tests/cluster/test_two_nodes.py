"""A real cluster of two nodes on loopback addresses: joined, used, and one node lost."""

from __future__ import annotations

import os
import pickle
import shutil
import socket
import subprocess
import sys
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from compute.account import ALL_IN
from compute.control import Control, Meter
from compute.executor import LocalExecutor
from compute.ranking import RETURN
from compute.selection import Scan
from tests.cluster.problems import Problem, fine_lattice, outcome_bytes, request

ROOT = Path(__file__).parents[2]
HEAD, OTHER = "127.0.0.2", "127.0.0.3"
STORE_BYTES = 100 << 20
PATIENCE_SECONDS = 240
ENVIRONMENT = {
    "RAY_AUTH_MODE": "token",
    "RAY_AUTH_TOKEN": "7" * 64,
    "RAY_USAGE_STATS_ENABLED": "0",
    # A node that is gone is missed after seconds instead of a quarter of a minute.
    "RAY_health_check_initial_delay_ms": "500",
    "RAY_health_check_period_ms": "500",
    "RAY_health_check_failure_threshold": "3",
    "PYTHONPATH": str(ROOT),
}


def environment() -> dict[str, str]:
    kept = {name: v for name, v in os.environ.items() if not name.startswith("RAY_")}
    return {**kept, **ENVIRONMENT}


def free_port() -> int:
    with socket.create_server((HEAD, 0)) as server:
        return server.getsockname()[1]


@contextmanager
def node(address: str, *options: str) -> Iterator[None]:
    """A Ray node of one core at `address`, in processes of its own."""
    process = subprocess.Popen(
        [sys.executable, "-m", "ray.scripts.scripts", "start", "--block", "--num-cpus=1",
         f"--node-ip-address={address}", f"--object-store-memory={STORE_BYTES}",
         "--disable-usage-stats", *options],
        env=environment(), stdout=subprocess.PIPE, stderr=subprocess.STDOUT, text=True,
    )  # fmt: skip
    said: list[str] = []
    try:
        assert process.stdout is not None
        for line in process.stdout:
            said.append(line)
            if "--block" in line:  # the last thing it says before it waits
                break
        else:
            pytest.fail("Ray did not start:\n" + "".join(said))
        yield
    finally:
        family = []
        if process.poll() is None:
            parent = psutil.Process(process.pid)
            family = [*parent.children(recursive=True), parent]
        process.terminate()
        _, alive = psutil.wait_procs(family, 15)
        for left in alive:
            left.kill()
        process.communicate()


@pytest.fixture
def head() -> Iterator[str]:
    """The address of a head with a second node."""
    directory = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets need a short path
    address = f"{HEAD}:{free_port()}"
    port = address.rpartition(":")[2]
    with ExitStack() as stack:
        stack.callback(shutil.rmtree, directory, ignore_errors=True)
        stack.enter_context(
            node(HEAD, "--head", f"--port={port}", "--include-dashboard=false",
                 f"--temp-dir={directory}")
        )  # fmt: skip
        stack.enter_context(node(OTHER, f"--address={address}"))
        yield address


@pytest.mark.slow
def test_two_nodes_and_the_loss_of_one(
    head: str, local: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    driver = subprocess.run(
        [sys.executable, "-m", "tests.cluster.two_node_driver", head, str(tmp_path)],
        cwd=ROOT, env=environment(), capture_output=True, text=True, timeout=PATIENCE_SECONDS,
    )  # fmt: skip
    assert driver.returncode == 0, driver.stderr
    found = pickle.loads((tmp_path / "found.pickle").read_bytes())
    assert found["started"] is False
    assert found["workers"] == 2
    assert found["nodes"] == {HEAD, OTHER}
    assert (tmp_path / "killed").exists()

    monkeypatch.setattr("compute.executor.lattice", fine_lattice)
    problem = Problem(request())
    expected = outcome_bytes(problem.outcome(local))
    assert found["both"] == expected
    assert found["survivor"] == expected
    stage = problem.stage(local)
    scan = Scan(10, RETURN, ALL_IN, 0)
    best = local.fold(stage, scan, [(0, stage.total)], Meter(stage.name, 0), Control())
    rows = sorted(zip(best.index.tolist(), best.merit.tolist(), strict=True))
    assert [row for row in found["scanned"] if row in rows] == rows
