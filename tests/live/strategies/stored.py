"""Strategies in a real database, and runs moved along, in an event loop of a test's own."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from typing import Any, TypeVar
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.postgres.engine import engine
from compute.settings import Defaults
from live.strategies.run_store import RunStore
from live.strategies.runs import Run
from live.strategies.settings import StrategySettings
from live.strategies.spec import SpecRules, spec_of
from live.strategies.store import Draft, Strategy, StrategyStore

T = TypeVar("T")

ANN = UUID(int=1)
BOB = UUID(int=2)
RULES = SpecRules(StrategySettings(), Defaults())
BODY: dict[str, Any] = {
    "schema_version": 2,
    "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
    "timeframe": "1h",
    "indicators": [{"id": "ma.sma", "inputs": {"source": "close"}, "params": {"window": 20}}],
}


def run(dsn: str, work: Callable[[AsyncEngine], Awaitable[T]], *, connections: int = 10) -> T:
    """What `work(engine)` returns."""

    async def main() -> T:
        found = engine(dsn, connections=connections)
        try:
            async with asyncio.timeout(120):
                return await work(found)
        finally:
            await found.dispose()

    return asyncio.run(main())


async def created(found: AsyncEngine, user_id: UUID = ANN) -> Strategy:
    """A new strategy."""
    draft = Draft(spec_of(BODY, RULES))
    strategy, new = await StrategyStore(found).create(draft, user_id, most=1000)
    assert new
    return strategy


async def started(found: AsyncEngine, user_id: UUID = ANN) -> Run:
    """A starting run of a new strategy."""
    strategy = await created(found, user_id)
    made, _ = await RunStore(found).start(strategy.strategy_id, user_id, most=1000)
    return made


async def fetch(found: AsyncEngine, query: str, **values: Any) -> list[tuple[Any, ...]]:
    async with found.connect() as connection:
        return [tuple(row) for row in await connection.execute(text(query), values)]


async def execute(found: AsyncEngine, statement: str, **values: Any) -> None:
    async with found.begin() as connection:
        await connection.execute(text(statement), values)
