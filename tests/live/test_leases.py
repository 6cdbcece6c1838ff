"""Instruments shared among runners over a real database."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from datetime import timedelta

import pytest
from sqlalchemy import func, select, text, update
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.postgres.engine import engine
from live.leases import LeaseLost, Leases
from live.tables import LEASES
from tests.live.stage import expire

KEYS = [f"binance:spot:S{number}" for number in range(7)]


def on(dsn: str, work: Callable[[AsyncEngine], Awaitable[None]]) -> None:
    async def run() -> None:
        opened = engine(dsn, application="test")
        try:
            await work(opened)
        finally:
            await opened.dispose()

    asyncio.run(run())


def test_runners_share_and_one_that_comes_late_gets_its_part(database: str) -> None:
    async def work(opened: AsyncEngine) -> None:
        one, two = (Leases(opened, name, 60) for name in ("one", "two"))
        assert sorted(await one.share(KEYS)) == KEYS
        assert await two.share(KEYS) == {}
        kept = await one.share(KEYS)
        assert len(kept) == 4
        assert sorted([*kept, *await two.share(KEYS)]) == KEYS
        assert await one.share(KEYS) == kept

    on(database, work)


def test_what_is_given_back_or_left_by_the_dead_is_taken(database: str) -> None:
    async def work(opened: AsyncEngine) -> None:
        one, two = (Leases(opened, name, 60) for name in ("one", "two"))
        await two.share([])
        first = await one.share(KEYS)
        assert len(first) == 4
        await expire(opened, "one")
        second = await two.share(KEYS)
        assert sorted(second) == KEYS
        for key, lease in first.items():
            assert second[key].token == lease.token + 1
            with pytest.raises(LeaseLost):
                async with opened.begin() as connection:
                    await lease.fence(connection)
            async with opened.begin() as connection:
                await second[key].fence(connection)
        await two.release()
        assert sorted(await one.share(KEYS)) == KEYS

    on(database, work)


def test_a_lease_that_ended_and_was_taken_again_by_its_runner_is_another(database: str) -> None:
    async def work(opened: AsyncEngine) -> None:
        one = Leases(opened, "one", 60)
        before = (await one.share(KEYS[:1]))[KEYS[0]]
        await expire(opened, "one")
        after = (await one.share(KEYS[:1]))[KEYS[0]]
        assert after.token == before.token + 1

    on(database, work)


def test_an_instrument_that_nobody_wants_is_given_back(database: str) -> None:
    async def work(opened: AsyncEngine) -> None:
        one, two = (Leases(opened, name, 60) for name in ("one", "two"))
        await one.share(KEYS[:2])
        assert list(await one.share(KEYS[1:2])) == KEYS[1:2]
        assert list(await two.share(KEYS[:1])) == KEYS[:1]

    on(database, work)


def test_a_fenced_write_holds_off_whoever_would_take_over(database: str) -> None:
    async def work(opened: AsyncEngine) -> None:
        lease = (await Leases(opened, "one", 60).share(KEYS[:1]))[KEYS[0]]
        async with opened.begin() as connection:
            await lease.fence(connection)
            async with opened.connect() as other:
                await other.execute(text("SET LOCAL lock_timeout = '20ms'"))
                with pytest.raises(DBAPIError, match="lock timeout"):
                    await other.execute(update(LEASES).values(owner="two"))

    on(database, work)


def test_leases_are_renewed_and_shared_while_one_is_committed(database: str) -> None:
    async def work(opened: AsyncEngine) -> None:
        one, two = (Leases(opened, name, 60) for name in ("one", "two"))
        held = await one.share(KEYS)
        async with asyncio.timeout(5), opened.begin() as connection:
            await held[KEYS[0]].fence(connection)
            assert await one.share(KEYS) == held
            assert await two.share(KEYS) == {}
            assert await one.share(KEYS) == {key: held[key] for key in KEYS[:4]}
            assert sorted(await two.share(KEYS)) == KEYS[4:]
            # What is being committed is given back later.
            assert sorted(await one.share(KEYS[1:])) == KEYS[1:4]
        assert sorted(await two.share(KEYS)) == KEYS[4:]
        await one.share(KEYS[1:])
        await expire(opened, "two")
        assert (await one.share(KEYS[:1]))[KEYS[0]].token == held[KEYS[0]].token + 1

    on(database, work)


def test_a_commit_renews_its_lease(database: str) -> None:
    async def work(opened: AsyncEngine) -> None:
        lease = (await Leases(opened, "one", 60).share(KEYS[:1]))[KEYS[0]]
        soon = func.clock_timestamp() + timedelta(seconds=5)
        async with opened.begin() as connection:
            await connection.execute(update(LEASES).values(lease_until=soon))
        async with opened.begin() as connection:
            await lease.fence(connection)
        left = LEASES.c.lease_until - func.clock_timestamp()
        async with opened.connect() as connection:
            assert (await connection.execute(select(left))).scalar_one() > timedelta(seconds=50)

    on(database, work)


def test_what_was_given_back_is_another_lease_when_it_is_taken_again(database: str) -> None:
    async def work(opened: AsyncEngine) -> None:
        one = Leases(opened, "one", 60)
        before = (await one.share(KEYS[:1]))[KEYS[0]]
        await one.release()
        after = (await one.share(KEYS[:1]))[KEYS[0]]
        assert after.token == before.token + 1
        with pytest.raises(LeaseLost):
            async with opened.begin() as connection:
                await before.fence(connection)

    on(database, work)
