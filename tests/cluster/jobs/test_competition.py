"""Runners that compete for jobs on a real database: each job is claimed once, none is missed."""

from __future__ import annotations

import asyncio
import random

import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.job import Job
from cluster.postgres.engine import engine
from tests.cluster.jobs.stored import claimed, created, expire, fetch, leases, run


@pytest.mark.parametrize("runners", [2, 4])
def test_competing_runners_claim_every_job_once(database: str, runners: int) -> None:
    """Each with connections of its own, at random moments."""

    async def work(found: AsyncEngine) -> None:
        jobs = [await created(found) for _ in range(20)]
        engines = [engine(database, connections=2) for _ in range(runners)]
        chance = random.Random(runners)

        async def runner(number: int) -> list[Job]:
            held = leases(engines[number], f"host-{number}")
            taken: list[Job] = []
            while (job := await held.claim()) is not None:
                taken.append(job)
                await held.progress(job, "stage_a", 1, 3)
                await asyncio.sleep(chance.random() / 100)
                await held.succeed(job, "e" * 64)
            return taken

        try:
            async with asyncio.TaskGroup() as group:
                tasks = [group.create_task(runner(number)) for number in range(runners)]
        finally:
            for one in engines:
                await one.dispose()
        taken = [job for task in tasks for job in task.result()]
        assert sorted(job.job_id for job in taken) == sorted(job.job_id for job in jobs)
        assert {job.attempt for job in taken} == {1}
        assert all(task.result() for task in tasks)
        states = await fetch(found, "select state, count(*) from backtest_jobs group by state")
        assert states == [("succeeded", 20)]

    run(database, work)


def test_runners_that_reclaim_at_once_get_one_each(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        for _ in range(3):
            await created(found)
        for job in [await claimed(found) for _ in range(3)]:
            await expire(found, job)
        claims = await asyncio.gather(*(leases(found, f"host-{n}").claim() for n in range(8)))
        jobs = [job for job in claims if job is not None]
        assert len(jobs) == len({job.job_id for job in jobs}) == 3
        assert {job.attempt for job in jobs} == {2}

    run(database, work)


def test_a_claim_passes_a_locked_job_by(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        first, second = await created(found), await created(found)
        async with found.begin() as other:
            await other.execute(
                text("select 1 from backtest_jobs where job_id = :job_id for update"),
                {"job_id": first.job_id},
            )
            assert (await claimed(found)).job_id == second.job_id
            assert await leases(found).claim() is None
        assert (await claimed(found)).job_id == first.job_id

    run(database, work)
