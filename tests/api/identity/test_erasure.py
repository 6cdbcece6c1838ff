"""Whoever is about to make something while his account is erased makes it before, or not at all."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from api.errors import Unauthorized
from api.identity.access_tokens import make_token
from api.identity.account import erase
from api.identity.service import Identity
from api.identity.users import logged_in
from api.jobs_account import JobAccount
from api.strategies_account import StrategyAccount
from cluster.postgres.errors import AccountErased
from tests.api.identity.people import SETTINGS
from tests.cluster.jobs import stored as jobs
from tests.live.strategies import stored as strategies

TABLES = (
    "backtest_jobs", "strategy_strategies", "strategy_runs", "strategy_events", "identity_users",
)  # fmt: skip


def test_nothing_is_made_for_an_erased_account(database: str) -> None:
    parts = {"jobs": JobAccount(), "strategies": StrategyAccount()}

    async def work(found: AsyncEngine) -> None:
        identity = Identity(found, SETTINGS, lambda: 0)
        for number in range(1, 6):
            async with found.begin() as connection:
                user = (await logged_in(connection, number)).user_id
            await strategies.started(found, user)
            _, *made = await asyncio.gather(
                erase(identity, parts, user),
                *(jobs.created(found, user) for _ in range(3)),
                *(strategies.created(found, user) for _ in range(3)),
                return_exceptions=True,
            )
            refused = [one for one in made if isinstance(one, BaseException)]
            assert all(isinstance(one, AccountErased) for one in refused), refused
            for table in TABLES:
                assert await strategies.fetch(found, f"select 1 from {table}") == [], table
            with pytest.raises(AccountErased) as caught:
                await strategies.created(found, user)
            assert caught.value.code == "unauthorized"
            with pytest.raises(AccountErased):
                await jobs.created(found, user)
            with pytest.raises(Unauthorized) as refusal:
                async with identity.transaction() as connection:
                    await make_token(connection, user, "n", ["read"], 1)
            assert refusal.value.details["error"] == "unknown_user"

    strategies.run(database, work)
