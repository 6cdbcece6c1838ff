"""Jobs as a part of their user's account."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.jobs.of_user import forget_jobs, jobs_of_user


class JobAccount:
    """An `AccountPart`: what a user asked of jobs, and their best rows."""

    async def export(self, connection: AsyncConnection, user_id: UUID) -> Any:
        """The jobs, without the files of their results."""
        return await jobs_of_user(connection, user_id)

    async def erase(self, connection: AsyncConnection, user_id: UUID) -> None:
        """Removes them all; those that run are stopped."""
        await forget_jobs(connection, user_id)
