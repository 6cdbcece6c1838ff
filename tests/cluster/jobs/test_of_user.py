"""All jobs of a user: told with what they found, and forgotten even while one runs."""

from __future__ import annotations

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.errors import LeaseLost
from cluster.jobs.of_user import forget_jobs, jobs_of_user
from tests.cluster.jobs.stored import (
    ANN,
    BOB,
    claimed,
    created,
    fetch,
    leases,
    run,
    small,
    stored_row,
    top_rows,
)


def test_jobs_are_told_with_their_best_rows(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        first, second = await created(found), await created(found)
        await created(found, BOB)
        job = await claimed(found)
        await leases(found).top(job, top_rows(2))
        await leases(found).succeed(job, "0" * 64)
        async with found.connect() as connection:
            told = await jobs_of_user(connection, ANN)
        assert [one["job_id"] for one in told] == [first.job_id, second.job_id]
        assert [one["state"] for one in told] == ["succeeded", "queued"]
        assert told[0]["request_json"] == small().request_json
        assert [one["rank"] for one in told[0]["top"]] == [1, 2]
        assert told[1]["top"] == []

    run(database, work)


def test_a_user_is_forgotten_and_whoever_runs_his_job_stops(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        running = await claimed(found)
        await created(found)
        theirs = await created(found, BOB)
        before = await stored_row(found, theirs)
        async with found.begin() as connection:
            await forget_jobs(connection, ANN)
        assert await fetch(found, "select user_id from backtest_jobs") == [(BOB,)]
        assert await fetch(found, "select distinct job_id from backtest_job_events") == [
            (theirs.job_id,)
        ]
        with pytest.raises(LeaseLost):
            await leases(found).heartbeat(running)
        assert await stored_row(found, theirs) == before

    run(database, work)
