"""Jobs as runners see them: claimed under a lease, written only while the lease lives.

All times are those of the database, so that runners may have any clock they like. A write locks the
job's row, checks owner, attempt and lease, and is committed with its event; a claim passes locked
rows by, so no job can be taken over in the middle of a write.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final

from sqlalchemy import delete, func, insert, select
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cluster.jobs.claims import CLAIM, EXHAUSTED, REWOUND
from cluster.jobs.errors import LeaseLost
from cluster.jobs.events import append
from cluster.jobs.job import STAGES, Job, JobStatus, Record, columns
from cluster.jobs.settings import JobSettings
from cluster.jobs.store import NOW, TopRow, changed, row_of
from cluster.jobs.tables import JOBS, SHORTLIST, TOP_VARIANTS
from compute.errors import RoehubError

FAILED: Final = "backtest_job_runner_failed"
BEST_ROWS: Final = 5  # of an event; the whole table is the job's top
_RELEASED: Final[dict[str, None]] = dict.fromkeys(
    ("locked_by", "locked_at", "lease_expires_at", "heartbeat_at")
)


_LOCKED_AT: Final = func.least(JOBS.c.locked_at, NOW - timedelta(microseconds=1))
"""Before now, though the database's clock may have been put back since the claim."""


@dataclass(frozen=True, slots=True)
class Seen:
    """What a heartbeat saw: whether the job is to stop, and until when it is leased."""

    cancel_requested: bool
    lease_expires_at: datetime


class Leases:
    """The jobs that one runner holds; `owner` names it, like `<hostname>-<pid>`.

    Every method but `claim` raises LeaseLost when the job is not this runner's any more; nothing
    was written then, and nothing may be afterwards.
    """

    def __init__(self, engine: AsyncEngine, owner: str, settings: JobSettings) -> None:
        self._engine = engine
        self.owner = owner
        self.settings = settings
        self._lease = timedelta(seconds=settings.lease_seconds)

    async def claim(self) -> Job | None:
        """The next job, running and leased to this runner; None when there is none to run.

        Users take turns: the one with the fewest running jobs, then the one served longest ago,
        then the oldest job. A job whose lease expired as often as it may be tried is failed on the
        way, for it probably ends whoever runs it.
        """
        await self._fail_exhausted()
        async with self._engine.begin() as connection:
            found = await connection.execute(CLAIM, {"owner": self.owner, "lease": self._lease})
            row = found.one_or_none()
            if row is None:
                return None
            job = row_of(Job, row)
            await append(connection, job.job_id, "state", job.status())
            return job

    async def heartbeat(self, job: Job) -> Seen:
        """Makes the lease last for its whole length from now on."""
        async with self._engine.begin() as connection:
            await self._fence(connection, job)
            query = (
                JOBS.update()
                .where(JOBS.c.job_id == job.job_id)
                .values(heartbeat_at=NOW, lease_expires_at=NOW + self._lease, locked_at=_LOCKED_AT)
                .returning(JOBS.c.cancel_requested_at, JOBS.c.lease_expires_at)
            )
            asked_at, until = (await connection.execute(query)).one()
        return Seen(asked_at is not None, until)

    async def progress(
        self, job: Job, stage: str, done: int, total: int, eta_seconds: float | None = None
    ) -> None:
        """Says how far a stage is; `eta_seconds` are those it will still take.

        Units of a stage do not fall within an attempt. Raises: ValueError for an earlier stage.
        """
        if not 0 <= done <= total:
            raise ValueError(f"progress {done} of {total}")
        async with self._engine.begin() as connection:
            now = await self._fence(connection, job)
            if STAGES.index(stage) < STAGES.index(now.stage):
                raise ValueError(f"stage {stage} comes before {now.stage}")
            if stage == now.stage and total == now.total_units:
                done = max(done, now.processed_units)
            changes = {
                "stage": stage,
                "processed_units": done,
                "total_units": total,
                "eta_seconds": _duration(eta_seconds),
                "progress_updated_at": NOW,
            }
            after = await changed(connection, job.job_id, changes)
            await append(connection, job.job_id, "progress", _progress_record(after))

    async def shortlist(
        self,
        job: Job,
        stage_a_indexes: Sequence[int],
        *,
        stage_a_variants_total: int,
        risk_total: int,
        preselect_used: int,
    ) -> None:
        """Keeps Stage A's shortlist, by rank; an empty one is not kept."""
        values = {
            "stage_a_indexes_json": [int(index) for index in stage_a_indexes],
            "stage_a_variants_total": stage_a_variants_total,
            "risk_total": risk_total,
            "preselect_used": preselect_used,
            "updated_at": NOW,
        }
        async with self._engine.begin() as connection:
            await self._fence(connection, job)
            if stage_a_indexes:
                query = upsert(SHORTLIST).values(job_id=job.job_id, **values)
                await connection.execute(
                    query.on_conflict_do_update(index_elements=["job_id"], set_=values)
                )

    async def top(self, job: Job, rows: Sequence[TopRow]) -> None:
        """Replaces the best variants by these, all at once."""
        async with self._engine.begin() as connection:
            await self._fence(connection, job)
            gone = delete(TOP_VARIANTS).where(TOP_VARIANTS.c.job_id == job.job_id)
            await connection.execute(gone)
            if rows:
                made = insert(TOP_VARIANTS).values(updated_at=NOW)
                await connection.execute(made, [_stored(job, row) for row in rows])
            items = [_clean(row.record()) for row in rows[:BEST_ROWS]]
            best = {"count": len(rows), "items": items}
            await append(connection, job.job_id, "best", best)

    async def succeed(self, job: Job, result_digest: str) -> JobStatus:
        """Ends the job well; `result_digest` names the result that its files hold."""
        return await self._end(
            job,
            "succeeded",
            stage="finalizing",
            processed_units=1,
            total_units=1,
            progress_updated_at=NOW,
            eta_seconds=0.0,
            result_digest=result_digest,
        )

    async def fail(self, job: Job, error: BaseException) -> JobStatus:
        """Ends the job with what went wrong, code and details of a typed error included."""
        async with self._engine.begin() as connection:
            now = await self._fence(connection, job)
            found = error_record(error, now.stage)
            changes = {"last_error": found["message"], "last_error_json": found}
            return await _ended(connection, job, "failed", changes)

    async def cancelled(self, job: Job) -> JobStatus:
        """Ends the job as its owner asked; what it found so far stays."""
        return await self._end(job, "cancelled")

    async def release(self, job: Job) -> None:
        """Gives the job up unfinished: another runner may claim it at once.

        The attempt does not count against the job; a runner that is told to stop did not fail.
        """
        async with self._engine.begin() as connection:
            now = await self._fence(connection, job)
            changes = {
                "lease_expires_at": NOW,
                "locked_at": _LOCKED_AT,
                "max_attempts": now.max_attempts + 1,
            }
            await changed(connection, job.job_id, changes)

    async def _fence(self, connection: AsyncConnection, job: Job) -> JobStatus:
        return await fenced(connection, job, self.owner)

    async def _end(self, job: Job, state: str, **changes: Any) -> JobStatus:
        async with self._engine.begin() as connection:
            await self._fence(connection, job)
            return await _ended(connection, job, state, changes)

    async def _fail_exhausted(self) -> None:
        async with self._engine.begin() as connection:
            await connection.execute(REWOUND)
            for row in (await connection.execute(EXHAUSTED)).all():
                job = row_of(Job, row)
                state = "failed" if job.cancel_requested_at is None else "cancelled"
                changes = _exhausted(job) if state == "failed" else {}
                await _ended(connection, job, state, changes)


async def fenced(connection: AsyncConnection, job: Job, owner: str) -> JobStatus:
    """The row of a job that `owner` holds, locked for the transaction. Raises: LeaseLost."""
    query = (
        select(*(JOBS.c[name] for name in columns(JobStatus)))
        .where(
            JOBS.c.job_id == job.job_id,
            JOBS.c.state == "running",
            JOBS.c.locked_by == owner,
            JOBS.c.attempt == job.attempt,  # the same owner may have claimed it again
            JOBS.c.lease_expires_at > func.clock_timestamp(),
        )
        .with_for_update()
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise LeaseLost(job.job_id, owner, job.attempt)
    return row_of(JobStatus, row)


async def _ended(
    connection: AsyncConnection, job: Job, state: str, changes: Mapping[str, Any]
) -> JobStatus:
    ended = {"state": state, "finished_at": NOW, **_RELEASED, **changes}
    after = await changed(connection, job.job_id, ended)
    await append(connection, job.job_id, "state", after.status())
    return after


def _progress_record(job: JobStatus) -> Record:
    return {
        "stage": job.stage,
        "processed_units": job.processed_units,
        "total_units": job.total_units,
        "eta_seconds": job.eta_seconds,
        "attempt": job.attempt,
    }


def _duration(seconds: float | None) -> float | None:
    """`seconds` where they say something."""
    return seconds if seconds is not None and 0 <= seconds < math.inf else None


def _stored(job: Job, row: TopRow) -> Record:
    return {
        "job_id": job.job_id,
        "rank": row.rank,
        "variant_key": row.variant_key,
        "indicator_variant_key": row.indicator_variant_key,
        "variant_index": row.variant_index,
        "total_return_pct": row.total_return_pct,
        "payload_json": _clean(row.payload),
        "report_table_md": None,
        "trades_json": None,
    }


def error_record(error: BaseException, stage: str) -> Record:
    """`{code, message, details}` of an error, JSON-able: its own code where it has one."""
    where = {"stage": stage, "exception_type": type(error).__name__}
    if isinstance(error, RoehubError):
        return {
            "code": error.code,
            "message": _clean(error.message),
            "details": _clean(error.details) | where,
        }
    message = _clean(str(error)) or type(error).__name__
    return {"code": FAILED, "message": message, "details": where}


def _clean(value: Any) -> Any:
    """`value` as the database can hold it: no infinity, no character 0."""
    if isinstance(value, Mapping):
        return {_clean(str(k)): _clean(v) for k, v in value.items()}
    if isinstance(value, list | tuple):
        return [_clean(item) for item in value]
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if value is None or isinstance(value, bool | int):
        return value
    return str(value).encode("utf-8", "replace").decode().replace("\0", "\ufffd")


def _exhausted(job: Job) -> Record:
    message = (
        f"Backtest job lost its runner {job.attempt} times, as often as it is tried "
        f"(max_attempts={job.max_attempts}); the last one was {job.locked_by}. It probably ends "
        f"whoever runs it: look for runners that were killed for memory, and make the grid smaller"
    )
    details = {
        "error": "max_attempts_exceeded",
        "attempts": job.attempt,
        "max_attempts": job.max_attempts,
        "last_owner": job.locked_by,
        "stage": job.stage,
    }
    found = {"code": FAILED, "message": message, "details": details}
    return {"last_error": message, "last_error_json": found}
