"""Jobs as their owners see them: created, looked at, cancelled, deleted."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import cache
from typing import Any, Final, TypeVar
from uuid import UUID, uuid4

from sqlalchemy import Select, bindparam, delete, func, insert, select, text, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cluster.jobs.errors import IdempotencyConflict, JobActive, JobNotFound, QuotaExceeded
from cluster.jobs.events import CHANNEL, append
from cluster.jobs.job import ACTIVE, TERMINAL, Job, JobStatus, Listed, Record, columns
from cluster.jobs.listing import ALL, Cursor, Item, Page, Wanted, page_of, page_query
from cluster.jobs.snapshot import Snapshot
from cluster.jobs.tables import JOBS, TOP_VARIANTS
from cluster.postgres.idempotency import check_key, take_turn
from cluster.postgres.owners import hold_owner

K = TypeVar("K", bound=Listed)
NOW: Final = func.statement_timestamp()


@dataclass(frozen=True, slots=True)
class TopRow:
    """One of the best variants of a job; `payload` suffices to run or to save it."""

    rank: int
    variant_key: str
    indicator_variant_key: str
    variant_index: int
    total_return_pct: float
    payload: Record

    def record(self) -> Record:
        """The JSON-able row."""
        return {
            "rank": self.rank,
            "variant_key": self.variant_key,
            "indicator_variant_key": self.indicator_variant_key,
            "variant_index": self.variant_index,
            "total_return_pct": self.total_return_pct,
            "payload": self.payload,
        }


def row_of(kind: type[K], row: Any) -> K:
    """The `kind` that a row of its columns holds."""
    values: Mapping[str, Any] = row._mapping
    return kind(**{name: values[name] for name in columns(kind)})


class JobStore:
    """The jobs of all users; whose they are is for the caller to check."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def check_quota(
        self, user_id: UUID, max_active: int, idempotency_key: str | None = None
    ) -> None:
        """Refuses early what `create` would refuse, so that nothing is made for it.

        Raises: QuotaExceeded; RejectedRequest for what is no key.
        """
        check_key(idempotency_key)
        async with self._reads.connect() as connection:
            if idempotency_key is not None and await _keyed(connection, user_id, idempotency_key):
                return
            await _check_quota(connection, user_id, max_active)

    async def create(
        self,
        snapshot: Snapshot,
        user_id: UUID,
        *,
        max_active: int,
        results_dir: str,
        max_attempts: int = 5,
        idempotency_key: str | None = None,
    ) -> tuple[Job, bool]:
        """(the job, whether it is new): queued, or the one that the key made before.

        Quota, key and insert are one transaction, and creations of a user come one by one.
        Raises: QuotaExceeded; IdempotencyConflict where the key belongs to another request;
        AccountErased.
        """
        check_key(idempotency_key)
        async with self._engine.begin() as connection:
            await hold_owner(connection, user_id)
            await take_turn(connection, f"backtest_jobs {user_id}")
            if idempotency_key is not None:
                known = await _keyed(connection, user_id, idempotency_key)
                if known is not None:
                    if known.request_hash != snapshot.hashes.request_hash:
                        raise IdempotencyConflict(known.job_id)
                    return known, False
            await _check_quota(connection, user_id, max_active)
            values = _values(snapshot) | {
                "user_id": user_id,
                "results_dir": results_dir,
                "max_attempts": max_attempts,
                "idempotency_key": idempotency_key,
            }
            job = await _inserted(connection, values)
            await append(connection, job.job_id, "state", job.status())
            return job, True

    async def get(self, job_id: UUID) -> Job | None:
        """The whole job."""
        return await self._one(Job, job_id)

    async def status(self, job_id: UUID) -> JobStatus | None:
        """The job without its large columns."""
        return await self._one(JobStatus, job_id)

    async def is_left(self, job_id: UUID) -> bool:
        """Whether a job waits for another runner: the lease of the one it had is over."""
        query = select(
            select(JOBS.c.job_id)
            .where(
                JOBS.c.job_id == job_id, JOBS.c.state == "running", JOBS.c.lease_expires_at <= NOW
            )
            .exists()
        )
        async with self._reads.connect() as connection:
            return bool((await connection.execute(query)).scalar_one())

    async def top(self, job_id: UUID, limit: int | None = None) -> list[TopRow]:
        """The best variants so far, by rank."""
        names = ("rank", "variant_key", "indicator_variant_key", "variant_index",
                 "total_return_pct", "payload_json")  # fmt: skip
        query = (
            select(*(TOP_VARIANTS.c[name] for name in names))
            .where(TOP_VARIANTS.c.job_id == job_id)
            .order_by(TOP_VARIANTS.c.rank, TOP_VARIANTS.c.variant_key)
            .limit(limit)
        )
        async with self._reads.connect() as connection:
            return [TopRow(*row) for row in await connection.execute(query)]

    async def page(
        self,
        user_id: UUID,
        wanted: Wanted = ALL,
        limit: int = 50,
        cursor: Cursor | None = None,
    ) -> Page:
        """A page of a user's jobs, newest first, below `cursor`."""
        query, values = page_query(user_id, wanted, limit, cursor)
        async with self._reads.connect() as connection:
            found = (await connection.execute(query, values)).all()
        rows = [row_of(Item, row) for row in found]
        return page_of(rows, limit)

    async def cancel(self, job_id: UUID) -> JobStatus:
        """The job, cancelled at once when queued, asked to stop when running, else as it was.

        Raises: JobNotFound.
        """
        async with self._engine.begin() as connection:
            job = await _locked(connection, job_id)
            if job.state in TERMINAL:
                return job
            changes: dict[str, Any] = {"cancel_requested_at": NOW}
            if job.state == "queued":
                changes |= {"state": "cancelled", "finished_at": NOW}
            job = await changed(connection, job_id, changes)
            await append(connection, job_id, "state", job.status())
            return job

    async def delete(self, job_id: UUID) -> None:
        """Forgets a finished job; its files go with the next sweep.

        Raises: JobNotFound; JobActive while it is queued or running.
        """
        async with self._engine.begin() as connection:
            job = await _locked(connection, job_id)
            if job.state in ACTIVE:
                raise JobActive(job_id, job.state)
            await connection.execute(delete(JOBS).where(JOBS.c.job_id == job_id))
            await connection.execute(
                text("select pg_notify(:channel, :job_id)"),
                {"channel": CHANNEL, "job_id": str(job_id)},
            )

    async def _one(self, kind: type[K], job_id: UUID) -> K | None:
        async with self._reads.connect() as connection:
            row = (await connection.execute(_by_id(kind), {"job_id": job_id})).one_or_none()
        return None if row is None else row_of(kind, row)


@cache
def _by_id(kind: type[Listed]) -> Select[tuple[Any, ...]]:
    """The query of one job; made once, for making it takes longer than asking."""
    return select(*(JOBS.c[name] for name in columns(kind))).where(
        JOBS.c.job_id == bindparam("job_id")
    )


async def changed(
    connection: AsyncConnection, job_id: UUID, changes: Mapping[str, Any]
) -> JobStatus:
    """The status after `changes` to a row that the caller has locked."""
    query = (
        update(JOBS)
        .where(JOBS.c.job_id == job_id)
        .values(updated_at=func.greatest(JOBS.c.created_at, NOW), **changes)
        .returning(*(JOBS.c[name] for name in columns(JobStatus)))
    )
    return row_of(JobStatus, (await connection.execute(query)).one())


async def _locked(connection: AsyncConnection, job_id: UUID) -> JobStatus:
    query = (
        select(*(JOBS.c[name] for name in columns(JobStatus)))
        .where(JOBS.c.job_id == job_id)
        .with_for_update()
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        raise JobNotFound(job_id)
    return row_of(JobStatus, row)


async def _keyed(connection: AsyncConnection, user_id: UUID, key: str) -> Job | None:
    query = select(*(JOBS.c[name] for name in columns(Job))).where(
        JOBS.c.user_id == user_id, JOBS.c.idempotency_key == key
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else row_of(Job, row)


async def _check_quota(connection: AsyncConnection, user_id: UUID, max_active: int) -> None:
    query = select(func.count()).where(JOBS.c.user_id == user_id, JOBS.c.state.in_(ACTIVE))
    if (await connection.execute(query)).scalar_one() >= max_active:
        raise QuotaExceeded(max_active)


async def _inserted(connection: AsyncConnection, values: Mapping[str, Any]) -> Job:
    now = (await connection.execute(select(NOW))).scalar_one()
    query = (
        insert(JOBS)
        .values(
            job_id=uuid4(), state="queued", stage="stage_a", created_at=now, updated_at=now,
            processed_units=0, total_units=0, attempt=0, **values,
        )
        .returning(*(JOBS.c[name] for name in columns(Job)))
    )  # fmt: skip
    return row_of(Job, (await connection.execute(query)).one())


def _values(made: Snapshot) -> dict[str, Any]:
    return {
        "mode": made.mode,
        "spec_hash": None if made.saved is None else made.saved.spec_hash,
        "spec_payload_json": None if made.saved is None else made.saved.spec,
        "request_json": made.request_json,
        "request_hash": made.hashes.request_hash,
        "grid_request_hash": made.hashes.grid_request_hash,
        "engine_params_hash": made.hashes.engine_params_hash,
        "backtest_runtime_config_hash": made.hashes.backtest_runtime_config_hash,
        "effective_json": made.effective_json,
        "candles_fingerprint": made.candles_fingerprint,
        "plan_key": made.plan_key,
        "plan_json": made.plan_json,
        "limits_json": made.limits_json,
        "keep_columns": made.keep_columns,
    }
