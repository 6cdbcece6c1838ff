"""Rows of tables as dataclasses, and the times of the database."""

from __future__ import annotations

from dataclasses import fields
from datetime import UTC, datetime
from functools import cache
from typing import Any, TypeVar

from sqlalchemy import func, select
from sqlalchemy.ext.asyncio import AsyncConnection

K = TypeVar("K")


@cache
def columns(kind: type[Any]) -> tuple[str, ...]:
    """The columns that the dataclass `kind` is made of."""
    return tuple(item.name for item in fields(kind))


def row_of(kind: type[K], row: Any) -> K:
    """The `kind` that a row of its columns holds."""
    values = row._mapping  # made anew each time
    return kind(**{name: values[name] for name in columns(kind)})


def moment(at: datetime | None) -> str | None:
    """ISO 8601 text of a time in UTC, with `Z`."""
    return None if at is None else at.astimezone(UTC).isoformat().replace("+00:00", "Z")


async def now(connection: AsyncConnection) -> datetime:
    """The time of the database, which is the same for all processes; ask when locks are held."""
    return (await connection.execute(select(func.clock_timestamp()))).scalar_one()
