"""All strategies of a user: told with their runs and log, and forgotten even while one runs."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy import text
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from live.strategies.errors import RunChanged, StrategyNotFound
from live.strategies.of_user import forget_strategies, strategies_of_user
from live.strategies.run_store import RunStore
from live.strategies.store import StrategyStore
from tests.live.strategies.stored import ANN, BOB, created, fetch, run, started

TABLES = ("strategy_events", "strategy_runs", "strategy_strategies")


def test_strategies_are_told_with_runs_and_log(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        running, deleted = await started(found), await created(found)
        await started(found, BOB)
        await StrategyStore(found).delete(deleted.strategy_id, ANN)
        async with found.connect() as connection:
            first, second = await strategies_of_user(connection, ANN)
        assert first["strategy_id"] == str(running.strategy_id)
        assert first["spec"]["indicators"][0]["params"] == {"window": 20}
        assert first["runs"] == [running.record() | {"account": None, "trades": []}]
        types = [[event["event_type"] for event in one["events"]] for one in (first, second)]
        assert types == [
            ["strategy_created", "run_started"], ["strategy_created", "strategy_deleted"]
        ]  # fmt: skip
        assert (second["is_deleted"], second["runs"]) == (True, [])

    run(database, work)


def test_a_user_is_forgotten_and_nobody_else_is(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        mine = await started(found, ANN)
        theirs = await started(found, BOB)
        async with found.begin() as connection:
            await forget_strategies(connection, ANN)
            with pytest.raises(DBAPIError):
                async with connection.begin_nested():
                    await connection.execute(text("delete from strategy_events"))
        for table in TABLES:
            assert {row[0] for row in await fetch(found, f"select user_id from {table}")} == {BOB}
        assert await RunStore(found).get(theirs.strategy_id, theirs.run_id, BOB) == theirs
        with pytest.raises(RunChanged, match="gone"):
            await RunStore(found).move(mine, "warming_up")

    run(database, work)


def test_what_happens_at_the_same_time_is_forgotten_with_the_rest(database: str) -> None:
    """Runs that start, move and stop while their user goes do so before it, or find nothing."""

    async def work(found: AsyncEngine) -> None:
        runs = RunStore(found)
        for _ in range(5):
            moving, stopping = await started(found), await started(found)
            starting = await created(found)

            async def forgotten() -> None:
                async with found.begin() as connection:
                    await forget_strategies(connection, ANN)

            done = await asyncio.gather(
                runs.move(moving, "warming_up"),
                runs.stop(stopping.strategy_id, ANN),
                forgotten(),
                runs.start(starting.strategy_id, ANN, most=1000),
                return_exceptions=True,
            )
            assert done[2] is None
            refused = [one for one in done if isinstance(one, BaseException)]
            assert all(isinstance(one, RunChanged | StrategyNotFound) for one in refused), refused
            for table in TABLES:
                assert await fetch(found, f"select 1 from {table}") == []

    run(database, work)
