"""What happened to users and their secrets, for ever: rows are added, never changed or removed."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any
from uuid import UUID

from sqlalchemy import insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.identity.tables import AUDIT

Detail = str | int | bool | None


class AuditLog:
    """The log; it outlives the users in it, so nothing personal or secret goes into it."""

    async def record(
        self,
        connection: AsyncConnection,
        user_id: UUID | None,
        event: str,
        details: Mapping[str, Detail] | None = None,
    ) -> None:
        """Adds an event, `thing.happened`, in the caller's transaction: both are there, or neither.

        `details` are ids and numbers; no name, address, key, code or token.
        """
        await record(connection, user_id, event, details)

    async def of(self, connection: AsyncConnection, user_id: UUID) -> list[dict[str, Any]]:
        """The events of a user, oldest first: `{at, event, details}`."""
        query = select(AUDIT.c.at, AUDIT.c.event, AUDIT.c.details)
        query = query.where(AUDIT.c.user_id == user_id).order_by(AUDIT.c.event_id)
        return [dict(row._mapping) for row in await connection.execute(query)]


async def record(
    connection: AsyncConnection,
    user_id: UUID | None,
    event: str,
    details: Mapping[str, Detail] | None = None,
) -> None:
    """Adds an event in the caller's transaction; see `AuditLog.record`."""
    values = {"user_id": user_id, "event": event, "details": dict(details or {})}
    await connection.execute(insert(AUDIT).values(values))
