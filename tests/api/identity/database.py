"""Coroutines over an engine of their own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import TypeVar

from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.postgres.engine import engine

T = TypeVar("T")


def with_engine(dsn: str, work: Callable[[AsyncEngine], Awaitable[T]]) -> T:
    """What `work` returns, run to its end in an event loop of its own."""

    async def run() -> T:
        found = engine(dsn)
        try:
            return await work(found)
        finally:
            await found.dispose()

    return asyncio.run(run())
