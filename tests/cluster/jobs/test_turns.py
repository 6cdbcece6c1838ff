"""Whose job is next: turns between users, and between new jobs and those that lost a runner."""

from __future__ import annotations

import asyncio
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.job import Job
from tests.cluster.jobs.stored import ANN, BOB, claimed, created, execute, expire, leases, run

CEM = UUID(int=3)


async def _finish(found: AsyncEngine, job: Job) -> None:
    held = leases(found, job.locked_by or "")
    await held.succeed(job, "a" * 64)


def test_a_hundred_jobs_of_one_user_beside_one_of_another(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        for _ in range(100):
            await created(found, ANN)
        running = await claimed(found)
        assert running.user_id == ANN
        only = await created(found, BOB)
        await _finish(found, running)
        following = await claimed(found)
        assert following.job_id == only.job_id  # at the first free slot, of one
        await _finish(found, following)
        assert (await claimed(found)).user_id == ANN

    run(database, work)


def test_the_user_with_fewest_running_jobs_is_next(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        for user in (ANN, ANN, ANN, ANN, BOB, BOB, CEM):
            await created(found, user)
        order = [(await claimed(found)).user_id for _ in range(7)]
        assert order == [ANN, BOB, CEM, ANN, BOB, ANN, ANN]

    run(database, work)


def test_users_with_nothing_running_take_turns(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        for user in (ANN, ANN, ANN, BOB, BOB, CEM):
            await created(found, user)
        order = []
        for _ in range(6):
            job = await claimed(found)
            order.append(job.user_id)
            await _finish(found, job)
        assert order == [ANN, BOB, CEM, ANN, BOB, ANN]

    run(database, work)


def test_claims_of_one_moment_go_to_different_users(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        for user in (ANN, BOB, CEM):
            for _ in range(10):
                await created(found, user)
        for _ in range(3):
            jobs = await asyncio.gather(*(claimed(found, f"host-{n}") for n in range(3)))
            for job in jobs:
                await _finish(found, job)
            # A claim sees what was committed when it began, so two may count alike at worst.
            assert len({job.user_id for job in jobs}) >= 2

    run(database, work)


def test_a_lost_job_is_not_held_up_by_new_ones(database: str) -> None:
    """The queue never drains, and every new job is of a user who was never served."""

    async def work(found: AsyncEngine) -> None:
        await created(found, ANN)
        lost = await claimed(found)
        await expire(found, lost)
        for number in range(50):
            await created(found, UUID(int=100 + number))
        assert (await claimed(found)).job_id == lost.job_id

    run(database, work)


def test_new_jobs_are_not_held_up_by_lost_ones(database: str) -> None:
    """A job that loses its runner again and again lets the others through in between."""

    async def work(found: AsyncEngine) -> None:
        await created(found, ANN, max_attempts=3)
        others = {(await created(found, BOB)).job_id for _ in range(3)}
        seen = []
        for _ in range(6):
            job = await claimed(found)
            seen.append(job.job_id)
            if job.user_id == ANN:
                await expire(found, job)
            else:
                await _finish(found, job)
        assert set(seen[3:]) == others
        assert await leases(found).claim() is None

    run(database, work)


def test_a_turn_is_forgotten_after_an_hour(database: str) -> None:
    """So users who were never served cannot hold up the one who was for longer than that."""

    async def work(found: AsyncEngine) -> None:
        await created(found, ANN)
        await _finish(found, await claimed(found))
        waiting = await created(found, ANN)
        fresh = [await created(found, UUID(int=100 + number)) for number in range(3)]
        assert (await claimed(found)).job_id == fresh[0].job_id
        await execute(
            found,
            "update backtest_jobs set started_at = started_at - interval '61 minutes'"
            " where user_id = :user and started_at is not null",
            user=ANN,
        )
        assert (await claimed(found)).job_id == waiting.job_id

    run(database, work)
