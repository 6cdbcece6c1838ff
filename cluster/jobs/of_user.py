"""All jobs of a user: told, and forgotten."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.jobs.events import CHANNEL
from cluster.jobs.tables import JOBS, TOP_VARIANTS


async def jobs_of_user(connection: AsyncConnection, user_id: UUID) -> list[dict[str, Any]]:
    """The jobs of a user, oldest first: what was asked, how it ended, its best variants."""
    query = (
        select(
            JOBS.c.job_id, JOBS.c.state, JOBS.c.created_at, JOBS.c.finished_at, JOBS.c.request_json
        )
        .where(JOBS.c.user_id == user_id)
        .order_by(JOBS.c.created_at, JOBS.c.job_id)
    )
    jobs = [dict(row._mapping) | {"top": []} for row in await connection.execute(query)]
    by_id = {job["job_id"]: job for job in jobs}
    rows = (
        select(
            TOP_VARIANTS.c.job_id,
            TOP_VARIANTS.c.rank,
            TOP_VARIANTS.c.total_return_pct,
            TOP_VARIANTS.c.payload_json,
        )
        .join(JOBS, JOBS.c.job_id == TOP_VARIANTS.c.job_id)
        .where(JOBS.c.user_id == user_id)
        .order_by(TOP_VARIANTS.c.job_id, TOP_VARIANTS.c.rank)
    )
    for row in await connection.execute(rows):
        top = {"rank": row.rank, "total_return_pct": row.total_return_pct}
        by_id[row.job_id]["top"].append(top | {"payload": row.payload_json})
    return jobs


async def forget_jobs(connection: AsyncConnection, user_id: UUID) -> None:
    """Removes all jobs of a user, in the caller's transaction.

    Whoever runs one loses its lease and stops; the files go with the next sweep.
    """
    query = delete(JOBS).where(JOBS.c.user_id == user_id).returning(JOBS.c.job_id)
    for row in (await connection.execute(query)).all():
        await connection.execute(select(func.pg_notify(CHANNEL, str(row.job_id))))
