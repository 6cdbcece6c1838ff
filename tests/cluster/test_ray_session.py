"""Sessions: what they start, what they leave behind (nothing), what they refuse."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import textwrap
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from types import SimpleNamespace

import psutil
import pytest
import ray

from cluster.errors import ClusterUnavailable
from cluster.ray_executor import RayExecutor
from cluster.ray_session import RaySession, check_shared_memory, ray_session

ROOT = Path(__file__).parents[2]
GONE_SECONDS = 60

DRIVER = """
    import sys, time
    from cluster.ray_executor import RayExecutor
    from cluster.ray_session import ray_session
    with ray_session(num_cpus=1), RayExecutor() as executor:
        print("ready", flush=True)
        time.sleep(600)
"""


def test_a_session_inside_another_is_the_same_cluster(session: RaySession) -> None:
    with ray_session("10.255.255.1:1") as inner:
        assert inner.address == session.address
        assert not inner.started
    assert ray.is_initialized()


def test_a_session_is_private(session: RaySession) -> None:
    assert session.started
    assert session.dashboard_url is None
    assert os.environ["RAY_AUTH_MODE"] == "token"
    assert len(os.environ["RAY_AUTH_TOKEN"]) >= 32
    directory = Path("/tmp") / f"roehub-ray-{os.getuid()}" / str(os.getpid())
    assert directory.is_dir()
    assert directory.parent.stat().st_mode & 0o077 == 0


def test_workers_compute_with_one_thread_and_the_drivers_kernels(session: RaySession) -> None:
    from compute.jit import CACHE_DIR

    @ray.remote
    def environment() -> dict[str, str]:
        return dict(os.environ)

    found = ray.get(environment.remote())
    assert found["NUMBA_NUM_THREADS"] == "1"
    assert found["NUMBA_CACHE_DIR"] == str(CACHE_DIR)
    assert found["PYTHONPATH"].split(os.pathsep)[0] == str(ROOT)


def test_too_little_shared_memory_is_refused(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(shutil, "disk_usage", lambda path: SimpleNamespace(free=64 << 20))
    with pytest.raises(ClusterUnavailable, match=r"256 MiB free, there are 64 MiB.*--shm-size"):
        check_shared_memory()


def test_an_executor_needs_a_session(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ray, "is_initialized", lambda: False)
    with pytest.raises(ClusterUnavailable, match=r"enter cluster\.ray_session"):
        RayExecutor()


@contextmanager
def driver(text: str) -> Iterator[subprocess.Popen[str]]:
    """A driver in a process group of its own that has said "ready"."""
    environment = {name: v for name, v in os.environ.items() if not name.startswith("RAY_")}
    process = subprocess.Popen(
        [sys.executable, "-c", textwrap.dedent(text)],
        cwd=ROOT,
        env={**environment, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        text=True,
        start_new_session=True,
    )
    try:
        assert process.stdout is not None
        assert process.stdout.readline() == "ready\n"
        yield process
    finally:
        process.kill()
        process.communicate()


def interrupted(pid: int) -> None:
    """Ctrl-C: the terminal signals the whole group."""
    os.killpg(pid, signal.SIGINT)


def killed(pid: int) -> None:
    os.kill(pid, signal.SIGKILL)


@pytest.mark.slow
@pytest.mark.parametrize("end", [pytest.param(interrupted, marks=pytest.mark.soak), killed])
def test_nothing_outlives_the_driver(end: Callable[[int], None]) -> None:
    with driver(DRIVER) as process:
        children = psutil.Process(process.pid).children(recursive=True)
        assert any("raylet" in child.name() for child in children)
        if end is killed:  # then Ray's agents notice it only after a minute, and end as well
            children = [
                child for child in children if "agent" not in "".join(child.cmdline()).lower()
            ]
        end(process.pid)
        process.wait(GONE_SECONDS)
        _, alive = psutil.wait_procs(children, GONE_SECONDS)
        assert not alive
