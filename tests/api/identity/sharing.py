"""One database and one service for a file of tests; each test finds them empty."""

from __future__ import annotations

import itertools
from collections.abc import Iterator

import httpx
import pytest

from tests.api.identity.people import browser, user_service
from tests.postgres import TEMPLATE, execute, of_database, rows

_numbers = itertools.count(1)


@pytest.fixture(scope="module")
def shared(postgres: str) -> Iterator[tuple[str, str]]:
    """(DSN of the database, URL of the service) of the file."""
    name = f"identity_{next(_numbers)}"
    execute(postgres, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    dsn = of_database(postgres, name)
    with user_service(dsn) as url:
        yield dsn, url
    execute(postgres, f"DROP DATABASE {name} WITH (FORCE)")


@pytest.fixture
def database(shared: tuple[str, str]) -> str:
    """DSN of the file's database, empty."""
    dsn, _ = shared
    tables = rows(dsn, "SELECT tablename FROM pg_tables WHERE tablename LIKE 'identity%'")
    names = ", ".join(str(table) for (table,) in tables)
    # As a replica, so that the audit log lets itself be emptied.
    execute(dsn, f"SET session_replication_role = replica; TRUNCATE {names}")
    return dsn


@pytest.fixture
def url(shared: tuple[str, str], database: str) -> str:
    """URL of the file's service, over an empty database."""
    return shared[1]


@pytest.fixture
def ann(url: str) -> Iterator[httpx.Client]:
    """Ann, logged in."""
    with browser(url) as found:
        yield found
