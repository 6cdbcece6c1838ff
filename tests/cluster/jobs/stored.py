"""Jobs in a real database: an engine for a test's own loop, jobs of any state, what is stored."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.job import Job
from cluster.jobs.leases import Leases
from cluster.jobs.settings import JobSettings
from cluster.jobs.snapshot import Snapshot
from cluster.jobs.store import JobStore, TopRow
from cluster.postgres.engine import engine
from tests.cluster.jobs.requests import made, request

T = TypeVar("T")

ANN = UUID(int=1)
BOB = UUID(int=2)
SETTINGS = JobSettings(
    enabled=True,
    top_k_persisted_default=300,
    max_active_jobs_per_user=3,
    claim_poll_seconds=1.0,
    lease_seconds=60.0,
    heartbeat_seconds=15.0,
    parallel_workers=1,
)


def run(dsn: str, work: Callable[[AsyncEngine], Awaitable[T]], *, connections: int = 10) -> T:
    """What `work(engine)` returns, in an event loop of its own."""

    async def main() -> T:
        found = engine(dsn, connections=connections)
        try:
            async with asyncio.timeout(120):
                return await work(found)
        finally:
            await found.dispose()

    return asyncio.run(main())


@functools.cache
def small(windows: int = 3) -> Snapshot:
    """A snapshot of a small request, made once."""
    return made(request(windows))


async def created(found: AsyncEngine, user_id: UUID = ANN, **options: Any) -> Job:
    """A new queued job."""
    options = {"max_active": 1000, "results_dir": "/results"} | options
    snapshot = options.pop("snapshot", None) or small()
    job, new = await JobStore(found).create(snapshot, user_id, **options)
    assert new
    return job


def leases(found: AsyncEngine, owner: str = "host-1", settings: JobSettings = SETTINGS) -> Leases:
    return Leases(found, owner, settings)


async def claimed(found: AsyncEngine, owner: str = "host-1") -> Job:
    """The next job, which must be there."""
    job = await leases(found, owner).claim()
    assert job is not None
    return job


async def expire(found: AsyncEngine, job: Job) -> None:
    """Moves a job's lease into the past, as if its time had gone by."""
    await execute(
        found,
        "update backtest_jobs set locked_at = locked_at - interval '1 day',"
        " lease_expires_at = locked_at - interval '1 hour' where job_id = :job_id",
        job_id=job.job_id,
    )


async def execute(found: AsyncEngine, statement: str, **values: Any) -> None:
    async with found.begin() as connection:
        await connection.execute(text(statement), values)


async def fetch(found: AsyncEngine, query: str, **values: Any) -> list[tuple[Any, ...]]:
    async with found.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query), values)]


async def stored_row(found: AsyncEngine, job: Job) -> list[tuple[Any, ...]]:
    """Everything the database holds of a job, to see that nothing of it changed."""
    tables = ("backtest_jobs", "backtest_job_top_variants", "backtest_job_stage_a_shortlist",
              "backtest_job_events")  # fmt: skip
    return [
        row
        for table in tables
        for row in await fetch(
            found,
            f"select cast(t as text) from {table} t where job_id = :job_id order by 1",
            job_id=job.job_id,
        )
    ]


def top_rows(count: int, first: float = 9.0) -> list[TopRow]:
    return [
        TopRow(
            rank=rank,
            variant_key=f"{rank:064x}",
            indicator_variant_key=f"{rank % 3:064x}",
            variant_index=(1 << 40) + rank,
            total_return_pct=first - rank,
            payload={"indicator_selections": [], "rank": rank},
        )
        for rank in range(1, count + 1)
    ]
