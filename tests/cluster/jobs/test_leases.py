"""Leases on a real database: who gets which job, what an owner may write, when it may not."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.errors import LeaseLost
from cluster.jobs.job import Job, JobStatus
from cluster.jobs.leases import Leases
from cluster.jobs.spans import SpanRow, SpanStore
from cluster.jobs.store import JobStore
from compute.errors import Cancelled, GuardExceeded
from tests.cluster.jobs.stored import (
    SETTINGS,
    claimed,
    created,
    execute,
    expire,
    fetch,
    leases,
    run,
    stored_row,
    top_rows,
)

Write = Callable[[Leases, Job], Awaitable[Any]]
WRITES: dict[str, Write] = {
    "heartbeat": lambda held, job: held.heartbeat(job),
    "progress": lambda held, job: held.progress(job, "stage_a", 1, 3, 0.5),
    "shortlist": lambda held, job: held.shortlist(
        job, [1, 0], stage_a_variants_total=3, risk_total=2, preselect_used=2
    ),
    "top": lambda held, job: held.top(job, top_rows(2)),
    "succeed": lambda held, job: held.succeed(job, "a" * 64),
    "fail": lambda held, job: held.fail(job, ValueError("x")),
    "cancelled": lambda held, job: held.cancelled(job),
    "release": lambda held, job: held.release(job),
    "spans": lambda held, job: SpanStore(held._engine).commit(
        job, held.owner, [SpanRow(0, 0, 5, "b" * 64, 9)]
    ),
}


async def _now(found: AsyncEngine, job: Job) -> Job:
    row = await JobStore(found).get(job.job_id)
    assert row is not None
    return row


def test_a_claim(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        assert await leases(found).claim() is None
        first, second = await created(found), await created(found)
        job = await claimed(found, "host-7")
        assert job.job_id == first.job_id
        assert (job.state, job.stage, job.attempt) == ("running", "stage_a", 1)
        assert (job.locked_by, job.finished_at) == ("host-7", None)
        assert job.started_at == job.locked_at == job.heartbeat_at
        assert job.lease_expires_at is not None
        assert job.locked_at is not None
        assert (job.lease_expires_at - job.locked_at).total_seconds() == 60
        assert job == await _now(found, job)
        assert (await claimed(found)).job_id == second.job_id
        assert await leases(found).claim() is None

    run(database, work)


def test_a_lost_job_is_claimed_again(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        first = await claimed(found, "host-1")
        await WRITES["top"](leases(found), first)
        await leases(found).progress(first, "stage_b", 4, 6, 1.0)
        await expire(found, first)
        second = await claimed(found, "host-2")
        assert (second.job_id, second.attempt, second.locked_by) == (first.job_id, 2, "host-2")
        assert second.started_at == first.started_at
        assert (second.stage, second.processed_units, second.total_units) == ("stage_a", 0, 0)
        assert second.eta_seconds is None
        assert len(await JobStore(found).top(first.job_id)) == 2

    run(database, work)


async def _lost(found: AsyncEngine, loss: str) -> Job:
    """A job that `host-1` held."""
    await created(found)
    job = await claimed(found, "host-1")
    if loss in ("expired", "another", "again"):
        await expire(found, job)
    if loss == "another":
        await claimed(found, "host-2")
    if loss == "again":  # the same owner, in a later attempt
        await claimed(found, "host-1")
    if loss in ("ended", "deleted"):
        await leases(found, "host-1").succeed(job, "c" * 64)
    if loss == "deleted":
        await JobStore(found).delete(job.job_id)
    return job


@pytest.mark.parametrize("loss", ["expired", "another", "again", "ended", "deleted"])
def test_no_write_without_the_lease(database: str, loss: str) -> None:
    async def work(found: AsyncEngine) -> None:
        for name, write in WRITES.items():
            job = await _lost(found, loss)
            before = await stored_row(found, job)
            try:
                await write(leases(found, "host-1"), job)
            except LeaseLost:
                pass
            else:
                pytest.fail(f"{name} was written")
            assert await stored_row(found, job) == before, name
            assert await fetch(found, "select * from backtest_spans") == []
            await execute(found, "delete from backtest_jobs")

    run(database, work)


def test_every_write_of_the_owner_takes_effect(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        for name, write in WRITES.items():
            await created(found)
            job = await claimed(found)
            before = await stored_row(found, job)
            await write(leases(found), job)
            if name == "spans":
                assert len(await SpanStore(found).committed(job.plan_key, 0)) == 1
            else:
                assert await stored_row(found, job) != before, name
            await execute(found, "delete from backtest_jobs")

    run(database, work)


def test_a_heartbeat_extends_the_lease(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        job = await claimed(found)
        seen = await leases(found).heartbeat(job)
        assert not seen.cancel_requested
        assert job.lease_expires_at is not None
        assert seen.lease_expires_at > job.lease_expires_at
        row = await _now(found, job)
        assert row.lease_expires_at == seen.lease_expires_at
        assert row.locked_at == job.locked_at
        await JobStore(found).cancel(job.job_id)
        assert (await leases(found).heartbeat(job)).cancel_requested

    run(database, work)


def test_progress(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        job = await claimed(found)
        held = leases(found)

        async def shown(*sent: Any) -> tuple[Any, ...]:
            await held.progress(job, *sent)
            row = await _now(found, job)
            assert row.progress_updated_at is not None
            return row.stage, row.processed_units, row.total_units, row.eta_seconds

        assert await shown("stage_a", 0, 12) == ("stage_a", 0, 12, None)
        assert await shown("stage_a", 10, 12, 3.5) == ("stage_a", 10, 12, 3.5)
        assert await shown("stage_a", 4, 12) == ("stage_a", 10, 12, None)
        for senseless in (float("inf"), float("nan"), -1.0):
            assert await shown("stage_a", 11, 12, senseless) == ("stage_a", 11, 12, None)
        assert await shown("stage_b", 0, 1 << 40) == ("stage_b", 0, 1 << 40, None)
        assert await shown("finalizing", 0, 1) == ("finalizing", 0, 1, None)
        for bad in (("stage_a", 1, 12), ("stage_d", 1, 2), ("finalizing", 3, 2), ("x", -1, 2)):
            with pytest.raises(ValueError):  # noqa: PT011
                await held.progress(job, *bad)
        assert await shown("finalizing", 1, 1) == ("finalizing", 1, 1, None)

    run(database, work)


def test_the_top_is_replaced_whole(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        job = await claimed(found)
        held, store = leases(found), JobStore(found)
        for rows in (top_rows(3), top_rows(3, 20.0), top_rows(300), [], top_rows(1)):
            await held.top(job, rows)
            assert await store.top(job.job_id) == rows
        await held.top(job, top_rows(30))
        assert [row.rank for row in await store.top(job.job_id, 4)] == [1, 2, 3, 4]
        nulls = await fetch(
            found,
            "select count(*) from backtest_job_top_variants"
            " where report_table_md is null and trades_json is null",
        )
        assert nulls == [(30,)]

    run(database, work)


def test_the_shortlist_is_kept_once(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        job = await claimed(found)
        held = leases(found)
        for indexes in ([3, 1], [0, 1, 8, 9, 1 << 40], []):
            await held.shortlist(
                job, indexes, stage_a_variants_total=12, risk_total=6, preselect_used=5
            )
        stored = await fetch(
            found,
            "select stage_a_indexes_json, stage_a_variants_total, risk_total, preselect_used"
            " from backtest_job_stage_a_shortlist",
        )
        assert [tuple(row) for row in stored] in (
            [([0, 1, 8, 9, 1 << 40], 12, 6, 5)],
            [("[0, 1, 8, 9, 1099511627776]", 12, 6, 5)],
        )

    run(database, work)


def test_the_three_ends(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        held = leases(found)

        async def ended(end: Callable[[Job], Awaitable[JobStatus]]) -> Job:
            await created(found)
            job = await claimed(found)
            await held.progress(job, "stage_b", 2, 6, 1.0)
            after = await end(job)
            row = await _now(found, job)
            assert after.status() == row.status()
            assert row.finished_at is not None
            lease = (row.locked_by, row.locked_at, row.lease_expires_at, row.heartbeat_at)
            assert lease == (None, None, None, None)
            return row

        good = await ended(lambda job: held.succeed(job, "d" * 64))
        assert (good.state, good.stage, good.result_digest) == ("succeeded", "finalizing", "d" * 64)
        assert (good.processed_units, good.total_units) == (1, 1)
        stopped = await ended(held.cancelled)
        assert (stopped.state, stopped.stage, stopped.processed_units) == (
            "cancelled",
            "stage_b",
            2,
        )
        guard = GuardExceeded("too much", details={"error": "limit", "ratio": float("inf")})
        typed = await ended(lambda job: held.fail(job, guard))
        assert (typed.state, typed.last_error) == ("failed", "too much")
        assert typed.last_error_json == {
            "code": "validation_error",
            "message": "too much",
            "details": {
                "error": "limit", "ratio": None, "stage": "stage_b",
                "exception_type": "GuardExceeded",
            },
        }  # fmt: skip
        crash = await ended(lambda job: held.fail(job, MemoryError("no\0 room \ud800")))
        assert crash.last_error_json == {
            "code": "backtest_job_runner_failed",
            "message": "no\ufffd room ?",
            "details": {"stage": "stage_b", "exception_type": "MemoryError"},
        }
        silent = await ended(lambda job: held.fail(job, Cancelled("x", "stage_b")))
        assert silent.last_error

    run(database, work)


def test_a_released_job_is_free_at_once_and_no_attempt_is_lost(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found, max_attempts=1)
        for attempt in range(1, 5):
            job = await claimed(found)
            assert job.attempt == attempt
            await leases(found).release(job)
        last = await claimed(found)
        await expire(found, last)
        assert await leases(found).claim() is None
        assert (await _now(found, last)).state == "failed"

    run(database, work)


def test_a_job_that_ends_its_runners_fails_with_the_reason(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found, max_attempts=2)
        other = await created(found, max_attempts=2)
        for attempt in (1, 2):
            job = await claimed(found, f"host-{attempt}")
            assert job.attempt == attempt
            assert job.job_id != other.job_id
            await expire(found, job)
        healthy = await claimed(found, "host-3")
        assert healthy.job_id == other.job_id
        row = await _now(found, job)
        assert (row.state, row.attempt) == ("failed", 2)
        assert row.last_error is not None
        assert "max_attempts=2" in row.last_error
        assert "host-2" in row.last_error
        assert row.last_error_json is not None
        assert row.last_error_json["details"]["error"] == "max_attempts_exceeded"
        states = await fetch(
            found,
            "select data ->> 'state' from backtest_job_events where job_id = :job_id"
            " order by event_id",
            job_id=job.job_id,
        )
        assert states == [("queued",), ("running",), ("running",), ("failed",)]
        # Whoever asked for its end gets that one.
        await JobStore(found).cancel(healthy.job_id)
        await execute(found, "update backtest_jobs set attempt = 2 where state = 'running'")
        await expire(found, healthy)
        assert await leases(found).claim() is None
        assert (await _now(found, healthy)).state == "cancelled"

    run(database, work)


def test_the_lease_ends_by_the_clock_of_the_database(database: str) -> None:
    """A lease of a tenth of a second, awaited in the database; no clock of ours has a say."""
    short = replace(SETTINGS, lease_seconds=0.1, heartbeat_seconds=0.04)

    async def work(found: AsyncEngine) -> None:
        await created(found)
        job = await leases(found, "host-1", short).claim()
        assert job is not None
        await fetch(found, "select pg_sleep(0.15)")
        with pytest.raises(LeaseLost):
            await leases(found, "host-1", short).heartbeat(job)
        assert (await claimed(found, "host-2")).job_id == job.job_id

    run(database, work)
