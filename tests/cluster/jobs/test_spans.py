"""Spans on a real database: noted once, by whoever holds a job of the plan, for every such job."""

from __future__ import annotations

import asyncio
from dataclasses import replace

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.errors import LeaseLost
from cluster.jobs.spans import SpanRow, SpanStore
from tests.cluster.jobs.stored import claimed, created, fetch, leases, run


def rows(*starts: int, fold: int = 0, digest: str = "a") -> list[SpanRow]:
    return [SpanRow(fold, start, start + 10, digest * 64, 100 + start) for start in starts]


def test_spans_are_noted_once(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        job = await claimed(found, "host-1")
        spans = SpanStore(found)
        assert await spans.committed(job.plan_key, 0) == []
        await spans.commit(job, "host-1", [])
        await spans.commit(job, "host-1", rows(20, 0, 10))
        await spans.commit(job, "host-1", rows(5, fold=1))
        before = await fetch(found, "select cast(s as text) from backtest_spans s order by 1")
        await spans.commit(job, "host-1", rows(0, 10, 20))
        assert (
            await fetch(found, "select cast(s as text) from backtest_spans s order by 1") == before
        )
        await spans.commit(job, "host-1", rows(20, 30))
        assert await spans.committed(job.plan_key, 0) == rows(0, 10, 20, 30)
        assert await spans.committed(job.plan_key, 1) == rows(5, fold=1)
        assert await spans.committed("f" * 64, 0) == []
        await spans.commit(job, "host-1", rows(10, digest="b"))
        assert (await spans.committed(job.plan_key, 0))[1] == rows(10, digest="b")[0]

    run(database, work)


def test_a_commit_is_whole(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        job = await claimed(found, "host-1")
        spans = SpanStore(found)
        many = [SpanRow(0, n, n + 1, "a" * 64, 1) for n in range(2500)]
        with pytest.raises(IntegrityError):
            await spans.commit(job, "host-1", [*many, replace(many[0], start_at=2500, stop_at=1)])
        assert await spans.committed(job.plan_key, 0) == []
        await spans.commit(job, "host-1", many)
        assert await spans.committed(job.plan_key, 0) == many

    run(database, work)


def test_another_job_of_the_plan_finds_them(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        await created(found)
        first, second = await claimed(found, "host-1"), await claimed(found, "host-2")
        assert first.plan_key == second.plan_key
        spans = SpanStore(found)
        # Both compute the plan at the same time, in opposite orders.
        starts = list(range(0, 300, 10))
        await asyncio.gather(
            *(
                spans.commit(job, owner, rows(*some))
                for at in range(0, 30, 3)
                for job, owner, some in (
                    (first, "host-1", starts[at : at + 3]),
                    (second, "host-2", starts[::-1][at : at + 3]),
                )
            )
        )
        assert await spans.committed(first.plan_key, 0) == rows(*starts)
        await leases(found, "host-1").succeed(first, "c" * 64)
        with pytest.raises(LeaseLost):
            await spans.commit(first, "host-1", rows(1000))
        with pytest.raises(LeaseLost):
            await spans.commit(second, "host-1", rows(1000))
        assert await spans.committed(second.plan_key, 0) == rows(*starts)

    run(database, work)
