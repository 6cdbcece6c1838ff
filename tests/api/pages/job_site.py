"""The site of one user, and jobs of hers."""

from __future__ import annotations

from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import httpx
import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from ingest.stores.clickhouse import ClickHouse
from tests.api.pages.conftest import site
from tests.api.service.job_service import request
from tests.api.service.market import CLIENT_S
from tests.cluster.jobs.stored import run

__all__ = ["ann", "at", "does", "made"]


@pytest.fixture
def ann(store: ClickHouse, database: str, tmp_path: Path) -> Iterator[httpx.Client]:
    """The local operator of a site, without a browser."""
    with (
        site(store, database, tmp_path) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as client,
    ):
        yield client


def made(client: httpx.Client, **members: Any) -> str:
    """Id of a job that she asked for."""
    answer = client.post("/backtests/jobs", json=request(**members))
    assert answer.status_code == 201, answer.text
    return answer.json()["job_id"]


def at(client: httpx.Client, path: str) -> str:
    """Address of a path of her site."""
    return f"{str(client.base_url).rstrip('/')}{path}"


def does(database: str, work: Callable[[AsyncEngine], Awaitable[Any]]) -> Any:
    """What `work` on the database returns; of a browser's test, which has its thread's loop."""
    with ThreadPoolExecutor(1) as pool:
        return pool.submit(run, database, work).result()
