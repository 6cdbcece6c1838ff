"""A real PostgreSQL for tests: one server for each test process, a database for each test.

The fixtures are known everywhere, tests/conftest.py imports them. What they need is imported when
a test asks for it.
"""

from __future__ import annotations

import asyncio
import itertools
import os
import signal
import time
from collections.abc import Coroutine, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import TypeVar
from urllib.parse import urlsplit, urlunsplit

import pytest

T = TypeVar("T")

TEMPLATE = "template_roehub"
CHAIN = sorted(
    path.stem
    for path in (Path(__file__).parents[1] / "cluster/postgres/versions").glob("[0-9]*.py")
)
"""Names of the migrations, first to last."""
FAST = {"fsync": "off", "full_page_writes": "off"}
_numbers = itertools.count(1)


@pytest.fixture(scope="session")
def postgres_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of the test process's server."""
    return tmp_path_factory.getbasetemp() / "postgres"


@pytest.fixture(scope="session")
def postgres(postgres_directory: Path) -> Iterator[str]:
    """DSN of the test process's server, which has a migrated template of databases."""
    from cluster.postgres.schema import migrate
    from cluster.postgres.server import embedded_postgres

    with embedded_postgres(postgres_directory, FAST) as dsn:
        # A conftest that imports this fixture again gets the same server.
        if not rows(dsn, "SELECT 1 FROM pg_database WHERE datname = $1", TEMPLATE):
            execute(dsn, f"CREATE DATABASE {TEMPLATE}")
            migrate(of_database(dsn, TEMPLATE))
        yield dsn


@pytest.fixture
def database(postgres: str) -> Iterator[str]:
    """DSN of a migrated, empty database of this test's own."""
    name = f"test_{next(_numbers)}"
    execute(postgres, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    yield of_database(postgres, name)
    execute(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@pytest.fixture
def empty_database(postgres: str) -> Iterator[str]:
    """DSN of a database without tables."""
    name = f"test_{next(_numbers)}"
    execute(postgres, f"CREATE DATABASE {name}")
    yield of_database(postgres, name)
    execute(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


def of_database(dsn: str, name: str) -> str:
    """The DSN of another database of the same server."""
    return urlunsplit(urlsplit(dsn)._replace(path=f"/{name}"))


def execute(dsn: str, *statements: str) -> None:
    """Runs statements, each in a transaction of its own."""
    import asyncpg

    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            for statement in statements:
                await connection.execute(statement)
        finally:
            await connection.close()

    _answered(run())


def rows(dsn: str, query: str, *arguments: object) -> list[tuple[object, ...]]:
    """The rows of a query."""
    import asyncpg

    async def run() -> list[tuple[object, ...]]:
        connection = await asyncpg.connect(dsn)
        try:
            return [tuple(row) for row in await connection.fetch(query, *arguments)]
        finally:
            await connection.close()

    return _answered(run())


def _answered(work: Coroutine[None, None, T]) -> T:
    """What `work` returns, in a thread of its own: in this one a browser's loop may run."""
    with ThreadPoolExecutor(1) as thread:
        return thread.submit(asyncio.run, work).result()


def kill_server(directory: Path, number: int = signal.SIGKILL) -> int:
    """Ends the server over a directory under its users' hands; its keeper starts it again.

    Returns: the pid that was ended, for `await_server`.
    """
    from cluster.postgres.server import running

    found = running(directory)
    assert found is not None
    os.kill(found.server, number)
    return found.server


def await_server(directory: Path, ended: int, seconds: float = 60.0) -> None:
    """Returns when a server other than the one with pid `ended` takes connections."""
    from cluster.postgres.server import running

    until = time.monotonic() + seconds
    while True:
        found = running(directory)
        if found is not None and found.server != ended:
            return
        assert time.monotonic() < until, f"no new server over {directory}"
        time.sleep(0.02)
