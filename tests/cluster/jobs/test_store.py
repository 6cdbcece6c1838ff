"""Jobs as their owners see them: creation, quota, keys, cancelling, deleting."""

from __future__ import annotations

import asyncio
import json
from uuid import UUID, uuid4

import pytest
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.errors import (
    IdempotencyConflict,
    JobActive,
    JobNotFound,
    QuotaExceeded,
    RejectedRequest,
)
from cluster.jobs.job import Job
from cluster.jobs.snapshot import backtest_of
from cluster.jobs.store import JobStore
from compute.keys import canonical_json
from tests.cluster.jobs.requests import explicit, made, request
from tests.cluster.jobs.stored import (
    ANN,
    BOB,
    claimed,
    created,
    execute,
    fetch,
    leases,
    run,
    small,
    stored_row,
    top_rows,
)


def test_a_new_job(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        job = await created(found, results_dir="/shared/results", max_attempts=4)
        assert (job.state, job.stage, job.attempt, job.max_attempts) == ("queued", "stage_a", 0, 4)
        assert (job.processed_units, job.total_units) == (0, 0)
        assert job.updated_at == job.created_at
        assert str(job.directory) == f"/shared/results/jobs/{job.job_id}"
        store = JobStore(found)
        assert await store.get(job.job_id) == job
        assert await store.get(uuid4()) is None
        assert await store.status(uuid4()) is None
        assert await store.top(job.job_id) == []
        status = await store.status(job.job_id)
        assert status is not None
        record = status.status()
        assert record == job.status()
        ours = ("attempt", "max_attempts", "eta_seconds")
        assert [name for name in record if name not in ours] == [
            "job_id", "mode", "state", "stage", "created_at", "updated_at", "started_at",
            "finished_at", "cancel_requested_at", "processed_units", "total_units",
            "progress_updated_at", "request_hash", "engine_params_hash",
            "backtest_runtime_config_hash", "spec_hash", "last_error", "last_error_json",
        ]  # fmt: skip
        assert json.loads(json.dumps(record)) == record
        assert record["created_at"].endswith("Z")

    run(database, work)


def test_a_stored_job_is_the_back_test_of_its_request(database: str) -> None:
    body = request()
    body["template"]["indicator_grids"].append(
        {
            "indicator_id": "trend.vortex",
            "params": {"window": explicit(14)},
        }
    )
    body["template"]["signal_grids"] = {
        "trend.vortex": {"abs_threshold": explicit(-0.0, 1e16, 0.1, 5e-324, 2**60, 3)}
    }
    body["template"]["execution"] = {"init_cash": 1e17, "fee_pct": -0.0}
    body["template"]["risk_grid"] = {"tp_enabled": True, "tp": explicit(3, -0.0, 1e18)}

    async def work(found: AsyncEngine) -> None:
        snapshot = made(body)
        job = await created(found, snapshot=snapshot)
        stored = await JobStore(found).get(job.job_id)
        assert stored is not None
        rebuilt = backtest_of(stored.effective_json, stored.hashes)
        assert rebuilt == snapshot.backtest
        assert repr(rebuilt) == repr(snapshot.backtest)
        assert canonical_json(stored.request_json) == canonical_json(snapshot.request_json)
        assert stored.plan_json == snapshot.plan_json

    run(database, work)


def test_concurrent_creations_stay_below_the_quota(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        stores = JobStore(found)

        async def create(user_id: UUID) -> Job | QuotaExceeded:
            try:
                return (await stores.create(small(), user_id, max_active=3, results_dir="/r"))[0]
            except QuotaExceeded as error:
                return error

        users: list[UUID] = []
        made_by: list[Job | QuotaExceeded] = []
        for round_ in range(5):
            users = [UUID(int=10 * round_ + 1), UUID(int=10 * round_ + 2)]
            made_by = await asyncio.gather(*(create(user) for user in users for _ in range(8)))
            for user in users:
                jobs = [job for job in made_by if isinstance(job, Job) and job.user_id == user]
                assert len(jobs) == 3
        refused = next(error for error in made_by if isinstance(error, QuotaExceeded))
        assert refused.message == "Active backtest jobs quota exceeded (max=3)"
        assert refused.errors == [
            {"path": "body", "code": "quota_exceeded", "message": refused.message}
        ]
        with pytest.raises(QuotaExceeded):
            await stores.check_quota(users[0], 3)
        await stores.check_quota(users[0], 4)
        first = next(job for job in made_by if isinstance(job, Job))
        await stores.cancel(first.job_id)
        await stores.check_quota(first.user_id, 3)
        assert isinstance(await create(first.user_id), Job)

    run(database, work)


def test_an_idempotency_key_makes_one_job(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = JobStore(found)

        async def create(
            key: str | None, user_id: UUID = ANN, windows: int = 3, max_active: int = 2
        ) -> tuple[Job, bool]:
            return await store.create(
                small(windows), user_id, max_active=max_active, results_dir="/r",
                idempotency_key=key,
            )  # fmt: skip

        made_by = await asyncio.gather(*(create("once") for _ in range(8)))
        assert sum(new for _, new in made_by) == 1
        assert len({job.job_id for job, _ in made_by}) == 1
        job = made_by[0][0]
        assert job.idempotency_key == "once"
        with pytest.raises(IdempotencyConflict) as refused:
            await create("once", windows=4)
        assert refused.value.code == "conflict"
        assert refused.value.details == {
            "error": "idempotency_key_reused",
            "job_id": str(job.job_id),
        }
        assert (await create("once", BOB))[1]
        # The earlier job is found though the quota is full by now, and when it has ended.
        await create(None)
        with pytest.raises(QuotaExceeded):
            await create("another")
        await store.cancel(job.job_id)
        again, new = await create("once")
        assert (again.job_id, again.state, new) == (job.job_id, "cancelled", False)
        for key in ("", "x" * 256, "a\nb", "ключ"):
            with pytest.raises(RejectedRequest) as bad:
                await create(key)
            assert bad.value.path == "header.Idempotency-Key"

    run(database, work)


def test_cancelling(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = JobStore(found)
        queued = await created(found)
        ended = await store.cancel(queued.job_id)
        assert ended.state == "cancelled"
        assert ended.finished_at == ended.cancel_requested_at
        before = await stored_row(found, queued)
        assert await store.cancel(queued.job_id) == ended
        assert await stored_row(found, queued) == before

        await created(found)
        running = await claimed(found)
        first = await store.cancel(running.job_id)
        assert (first.state, first.finished_at) == ("running", None)
        second = await store.cancel(running.job_id)
        assert first.cancel_requested_at is not None
        assert second.cancel_requested_at is not None
        assert second.cancel_requested_at > first.cancel_requested_at
        assert (await leases(found).heartbeat(running)).cancel_requested
        await leases(found).cancelled(running)
        assert (await store.cancel(running.job_id)).state == "cancelled"
        with pytest.raises(JobNotFound) as missing:
            await store.cancel(UUID(int=7))
        assert (missing.value.code, missing.value.details) == (
            "not_found",
            {"job_id": str(UUID(int=7))},
        )

    run(database, work)


def test_a_cancel_and_a_claim_of_one_job_both_take_effect(database: str) -> None:
    """Whichever comes first: never a cancelled job that runs, never a lost request."""

    async def work(found: AsyncEngine) -> None:
        store = JobStore(found)
        outcomes = set()
        for number in range(30):
            job = await created(found)
            claim, asked = leases(found).claim(), store.cancel(job.job_id)
            both = (claim, asked) if number % 2 else (asked, claim)
            await asyncio.gather(*both)
            after = await store.get(job.job_id)
            assert after is not None
            assert after.cancel_requested_at is not None
            outcomes.add(after.state)
            if after.state == "running":
                await leases(found).cancelled(after)
        assert outcomes <= {"running", "cancelled"}

    run(database, work)


def test_deleting(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        store = JobStore(found)
        job = await created(found)
        with pytest.raises(JobActive) as refused:
            await store.delete(job.job_id)
        assert (refused.value.code, refused.value.details["error"]) == ("conflict", "job_active")
        running = await claimed(found)
        with pytest.raises(JobActive):
            await store.delete(job.job_id)
        holder = leases(found)
        await holder.top(running, top_rows(3))
        await holder.shortlist(
            running, [2, 0], stage_a_variants_total=3, risk_total=2, preselect_used=2
        )
        await holder.succeed(running, "a" * 64)
        await store.delete(job.job_id)
        assert await stored_row(found, job) == []
        with pytest.raises(JobNotFound):
            await store.delete(job.job_id)

    run(database, work)


IMPOSSIBLE = (
    "state = 'done'",
    "stage = 'stage_c'",
    "mode = 'saved'",
    "attempt = -1",
    "processed_units = -1",
    "total_units = 1, processed_units = 2",
    "request_json = '[]'",
    "request_hash = 'ABC'",
    "spec_hash = repeat('a', 64)",
    "started_at = now()",
    "finished_at = now()",
    "state = 'running'",
    "state = 'failed', finished_at = now()",
    "state = 'cancelled'",
    "last_error = 'x'",
    "locked_by = 'x'",
    "updated_at = created_at - interval '1 second'",
)


def test_the_database_refuses_impossible_rows(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        for change in IMPOSSIBLE:
            with pytest.raises(IntegrityError, match="violates check constraint"):
                await execute(found, f"update backtest_jobs set {change}")

    run(database, work)


def test_creation_and_its_event_are_one(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        await created(found)
        kinds = await fetch(found, "select kind, data ->> 'state' from backtest_job_events")
        assert kinds == [("state", "queued")]

    run(database, work)
