"""What every test may use: reproducible property tests, real candles where there are some, and no
store but its own."""

from __future__ import annotations

import functools
import gc
import os
import subprocess
import sys
import tempfile
from collections.abc import Generator
from pathlib import Path
from typing import Any

import httpx
import pytest
from hypothesis import HealthCheck, settings
from xdist.scheduler import LoadScopeScheduling

from tests.postgres import database, empty_database, postgres, postgres_directory

__all__ = ["database", "empty_database", "postgres", "postgres_directory"]

# No deadline: the first example of a kernel includes its compilation.
settings.register_profile(
    "fixed", deadline=None, derandomize=True, suppress_health_check=[HealthCheck.too_slow]
)
settings.register_profile(
    "thorough", settings.get_profile("fixed"), derandomize=False, max_examples=2_000
)
settings.load_profile(os.environ.get("HYPOTHESIS_PROFILE", "fixed"))


# No test may find the store of whoever runs it, on a server or in the home directory.
_SERVERS = ("CH_", "CLICKHOUSE_", "REDIS_", "PG", "POSTGRES_", "STRATEGY_PG_")
for _name in [name for name in os.environ if name.startswith(_SERVERS)]:
    del os.environ[_name]
os.environ["ROEHUB_DATA_DIR"] = os.path.join(
    tempfile.gettempdir(), f"roehub-no-store-{os.getpid()}"
)

# Each client reads all authorities there are: 20 ms of CPU, and there are thousands of clients.
_transports: Any = httpx._transports.default
_transports.create_ssl_context = functools.cache(_transports.create_ssl_context)


STARTS_RAY = (
    "tests/cluster/test_ray_address",
    "tests/cluster/test_ray_cluster_yaml",
    "tests/cluster/test_ray_session",
    "tests/cluster/test_ray_executor",
    "tests/cluster/test_two_nodes",
    "tests/cluster/jobs/test_node_loss",
    "tests/cluster/jobs/test_on_ray",
    "tests/api/service/test_up",
    "tests/api/test_cli",
    "tests/cluster/test_cli_backtest",
)
"""In the order they run: what needs no kernels while other processes compile them, and what is long
before what is short, for the next file is given out when two tests of this group are left."""


class ByFile(LoadScopeScheduling):
    """Tests spread over processes a file at a time, and all that start Ray in one of them.

    A file shares its compiled kernels and stores. Two local clusters beside each other would each
    think that the whole machine is theirs.
    """

    def _split_scope(self, nodeid: str) -> str:
        file = nodeid.split("::", 1)[0]
        return "ray" if file.startswith(STARTS_RAY) else file


@pytest.hookimpl(wrapper=True)
def pytest_runtestloop(session: pytest.Session) -> Generator[None, object, object]:
    """Where tests are spread, one process compiles the kernels that most of them will ask for.

    Else each of many would, at the same time: with an empty cache that is half a minute of each.
    """
    if not session.config.getoption("numprocesses", None):  # none in a process of tests
        return (yield)
    compiler = subprocess.Popen(
        [sys.executable, "-m", "tests.kernels"], cwd=session.config.rootpath,
        stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL,
    )  # fmt: skip
    try:
        return (yield)
    finally:
        compiler.kill()
        compiler.wait()


@pytest.hookimpl(wrapper=True)
def pytest_collection() -> Generator[None, object, object]:
    """What is collected lives to the end: the collector of garbage never looks at it."""
    gc.disable()
    try:
        return (yield)
    finally:
        gc.freeze()
        gc.enable()


@pytest.hookimpl(trylast=True)
def pytest_collection_modifyitems(config: pytest.Config, items: list[pytest.Item]) -> None:
    """Where tests are spread, the longest group begins first."""
    if hasattr(config, "workerinput"):
        items.sort(key=lambda item: _turn(item.nodeid))


def _turn(nodeid: str) -> int:
    starts = (turn for turn, file in enumerate(STARTS_RAY) if nodeid.startswith(file))
    return next(starts, len(STARTS_RAY))


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: object) -> LoadScopeScheduling:
    return ByFile(config, log)  # type: ignore[arg-type]  # the producer's type is not public


@pytest.fixture(scope="session")
def candles_dir() -> Path:
    """Directory of real candle files, from ROEHUB_CANDLES_DIR; the test is skipped without it."""
    value = os.environ.get("ROEHUB_CANDLES_DIR")
    if not value:
        pytest.skip("real candles: set ROEHUB_CANDLES_DIR to a directory of Parquet files")
    path = Path(value)
    if not path.is_dir():
        pytest.fail(f"ROEHUB_CANDLES_DIR is not a directory: {value}")
    return path
