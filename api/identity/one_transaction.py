"""One transaction from code that has no event loop and no engine: commands."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, TypeVar

from cluster.postgres.engine import engine, typed
from cluster.postgres.schema import require_schema

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

T = TypeVar("T")


def transacted(dsn: str, work: Callable[[AsyncConnection], Awaitable[T]]) -> T:
    """What `work` returns, committed in the database of `dsn`.

    Raises: SchemaOutdated, DatabaseUnavailable, DatabaseFailed, and what `work` does.
    """

    async def run() -> T:
        found = engine(dsn, connections=1, application="roehub")
        try:
            await require_schema(found)
            with typed():
                async with found.begin() as connection:
                    return await work(connection)
        finally:
            await found.dispose()

    return asyncio.run(run())
