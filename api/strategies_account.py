"""Strategies as a part of their user's account."""

from __future__ import annotations

from typing import Any
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncConnection

from live.strategies.of_user import forget_strategies, strategies_of_user


class StrategyAccount:
    """An `AccountPart`: a user's strategies, their runs, and what happened to both."""

    async def export(self, connection: AsyncConnection, user_id: UUID) -> Any:
        """The strategies, deleted ones too, each with its runs and events."""
        return await strategies_of_user(connection, user_id)

    async def erase(self, connection: AsyncConnection, user_id: UUID) -> None:
        """Removes them all; those that run are gone for their runner."""
        await forget_strategies(connection, user_id)
