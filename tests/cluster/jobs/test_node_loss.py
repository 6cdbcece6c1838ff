"""Nodes of a cluster that are lost while a job is spread over them."""

from __future__ import annotations

import shutil
import tempfile
from collections.abc import Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psutil
import pytest

from tests.cluster.jobs.running import Looking, judge, submit, undisturbed, until
from tests.cluster.jobs.test_faults import BODY, Watched, moments, process, stopped
from tests.cluster.problems import fine_lattice
from tests.cluster.test_two_nodes import HEAD, OTHER, environment, free_port, node


@pytest.fixture(autouse=True)
def many_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.executor.lattice", fine_lattice)


@contextmanager
def head() -> Iterator[str]:
    """The address of a head of one core."""
    directory = tempfile.mkdtemp(prefix="ray-", dir="/tmp")  # sockets need a short path
    address = f"{HEAD}:{free_port()}"
    try:
        with node(
            HEAD, "--head", f"--port={address.rpartition(':')[2]}", "--include-dashboard=false",
            f"--temp-dir={directory}",
        ):  # fmt: skip
            yield address
    finally:
        shutil.rmtree(directory, ignore_errors=True)


def raylet_of(address: str) -> psutil.Process | None:
    """The process that a node stands and falls with."""
    for found in psutil.process_iter(["name", "cmdline"]):
        if found.info["name"] == "raylet" and f"--node_ip_address={address}" in (
            found.info["cmdline"] or ()
        ):
            return found
    return None


@pytest.mark.soak
def test_nodes_that_are_killed(database: str, tmp_path: Path) -> None:
    undisturbed(BODY)
    [job_id] = submit(database, tmp_path, BODY)
    watched, log = Watched(database, tmp_path, job_id), tmp_path / "log"
    with ExitStack() as stack:
        address = stack.enter_context(head())
        nodes = stack.enter_context(ExitStack())
        nodes.enter_context(node(OTHER, f"--address={address}"))
        runner = stack.enter_context(
            process(database, tmp_path, log, address, environment(), pace=1.0)
        )
        looking = stack.enter_context(Looking(database))
        for moment in moments():
            until(lambda moment=moment: looking.spans() >= moment)
            raylet = raylet_of(OTHER)
            assert raylet is not None
            raylet.kill()
            raylet.wait(10)
            assert not looking.ended()
            nodes.close()
            watched.note()
            nodes.enter_context(node(OTHER, f"--address={address}"))
        until(looking.ended)
        stopped(runner)
    watched.note()
    assert judge(database, job_id, BODY)["executor"] == "ray"
