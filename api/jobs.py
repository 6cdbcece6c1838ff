"""Grid jobs as the service handles them: made from requests, shown to their owners."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self
from uuid import UUID

import anyio
import anyio.to_thread
from anyio import CapacityLimiter
from sqlalchemy.ext.asyncio import AsyncEngine

from api.bodies import check_axes
from api.column_parts import Part, column_parts, rows_of
from api.columns import ColumnCache, Columns
from api.context import AppContext
from api.errors import Conflict, Forbidden, NotFound, StorageFailed, Unavailable
from api.events import EventFeed
from api.market import Market, market_of
from api.ranked import provisional, result_of
from api.saved import Asked, asked
from api.users import User
from cluster.columns import MAX_ROWS
from cluster.jobs.durable import mark, there
from cluster.jobs.errors import JobNotFound
from cluster.jobs.events import EventHub, EventLog
from cluster.jobs.job import Job, JobStatus
from cluster.jobs.listing import Cursor, Page, Wanted
from cluster.jobs.market_file import MarketFileLost, made_up, write_market
from cluster.jobs.settings import JobSettings
from cluster.jobs.snapshot import Snapshot, backtest_of, snapshot
from cluster.jobs.store import JobStore, TopRow
from cluster.outputs import RESULT
from cluster.postgres.engine import typed
from cluster.postgres.errors import DatabaseFailed
from compute.grid import Grid
from compute.quantities import spaced
from compute.request import parse_request

HEAVY: Final = 2
"""Requests that read candles or columns at the same time; others wait for their turn."""


@dataclass(slots=True, eq=False)
class Jobs:
    """The jobs of the service; a context manager of its lifetime.

    `context` has the rules that requests are held to, the candles, the database and the directory
    that runners write into; `dsn` is where its engine connects to.
    """

    context: AppContext
    dsn: str
    settings: JobSettings
    engine: AsyncEngine = field(init=False)
    results_dir: Path = field(init=False)
    store: JobStore = field(init=False)
    feed: EventFeed = field(init=False)
    heavy: CapacityLimiter = field(init=False)
    cache: ColumnCache = field(default_factory=ColumnCache)

    def __post_init__(self) -> None:
        engine, directory = self.context.engine, self.context.results_dir
        assert engine is not None
        assert directory is not None
        self.engine, self.results_dir = engine, directory
        self.store = JobStore(engine)
        self.feed = EventFeed(EventLog(engine), EventHub(self.dsn), self.store)

    async def __aenter__(self) -> Self:
        self.heavy = CapacityLimiter(HEAVY)
        mark(self.results_dir)
        await self.feed.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        await self.feed.__aexit__(*error)

    async def create(self, body: object, user: User, key: str | None) -> tuple[JobStatus, bool]:
        """(the job, whether it is new) of a decoded request; `key` makes a repetition harmless.

        Raises: QuotaExceeded, IdempotencyConflict, InvalidInput; NotFound, Forbidden (a strategy);
        Unavailable, StorageFailed.
        """
        await self._room(user, key)
        sent = await asked(body, user, self.context.strategies)
        market = market_of(self.context.market)
        async with self.heavy:
            await self._room(user, key)  # others may have come while this one waited
            made = await market.read(lambda: self._made(sent, market))
        with stored():
            return await self.store.create(
                made,
                user.user_id,
                max_active=self.settings.max_active_jobs_per_user,
                results_dir=str(self.results_dir),
                max_attempts=self.settings.max_attempts,
                idempotency_key=key,
            )

    async def _room(self, user: User, key: str | None) -> None:
        """Looks whether the user may have another job, before candles are read and written for it.

        Raises: QuotaExceeded, RejectedRequest.
        """
        with stored():
            await self.store.check_quota(user.user_id, self.settings.max_active_jobs_per_user, key)

    def _made(self, sent: Asked, market: Market) -> Snapshot:
        rules = self.context
        check_axes(parse_request(sent.body), rules.api)
        if not there(self.results_dir):
            raise Unavailable(
                f"the directory of results is gone: {self.results_dir}; mount it again",
                details={"error": "results_missing"},
            )
        made = snapshot(
            sent.body,
            saved=sent.saved,
            defaults=rules.defaults,
            indicator_defaults=rules.indicator_defaults,
            limits=rules.limits,
            workers=rules.cpu.threads(),
            read_market=market.timeline,
        )
        write_market(self.results_dir, made.timeline)
        return made

    async def status(self, job_id: UUID, user: User) -> JobStatus:
        """A job of this user. Raises: NotFound, Forbidden."""
        with stored():
            found = await self.store.status(job_id)
        return _owned(found, job_id, user)

    async def job(self, job_id: UUID, user: User) -> Job:
        """All of a job of this user. Raises: NotFound, Forbidden."""
        with stored():
            found = await self.store.get(job_id)
        return _owned(found, job_id, user)

    async def is_left(self, job: Job) -> bool:
        """Whether the runner of a job has gone."""
        if job.state != "running":
            return False
        with stored():
            return await self.store.is_left(job.job_id)

    async def page(self, user: User, wanted: Wanted, limit: int, cursor: Cursor | None) -> Page:
        """A page of this user's jobs."""
        with stored():
            return await self.store.page(user.user_id, wanted, limit, cursor)

    async def top(self, job_id: UUID, user: User, limit: int | None) -> tuple[Job, list[TopRow]]:
        """(the job, its best variants so far). Raises: NotFound, Forbidden."""
        job = await self.job(job_id, user)
        with stored():
            return job, await self.store.top(job_id, limit)

    async def cancel(self, job_id: UUID, user: User) -> JobStatus:
        """The job after a wish to cancel it. Raises: NotFound, Forbidden."""
        await self.status(job_id, user)
        with stored():
            return await self.store.cancel(job_id)

    async def delete(self, job_id: UUID, user: User) -> None:
        """Forgets a job that has ended. Raises: NotFound, Forbidden, JobActive."""
        await self.status(job_id, user)
        with stored():
            await self.store.delete(job_id)

    async def columns(self, job: Job) -> tuple[list[Part], Grid]:
        """The parts of Stage A's columns, complete, and the grid that they belong to.

        Raises: Conflict where they are not kept, or not there yet.
        """
        found = job.plan_json["stage_a_variants_total"]
        if not job.keep_columns:
            raise Conflict(
                f"the columns of job {job.job_id} are not kept: its grid has {spaced(found)} base "
                f"variants, all of them are kept up to {spaced(MAX_ROWS)}; narrow an axis, or "
                "split the request into several jobs",
                details={
                    "error": "columns_not_kept",
                    "job_id": str(job.job_id),
                    "variants": found,
                    "limit": MAX_ROWS,
                },
            )
        parts, grid = await self.threaded(_columns, job)
        rows = rows_of(parts)
        if rows < grid.total:
            what = "come with the end of Stage A" if job.active else "were never all computed"
            if job.state == "succeeded":
                what = "are not in the directory of results any more"
            raise Conflict(
                f"the columns of job {job.job_id} {what}: {spaced(rows)} of "
                f"{spaced(grid.total)} rows are there and the job is {job.state}",
                details={
                    "error": "columns_gone" if job.state == "succeeded" else "stage_a_unfinished",
                    "job_id": str(job.job_id),
                    "rows": rows,
                    "variants": grid.total,
                    "state": job.state,
                },
            )
        return parts, grid

    async def columns_of(self, job: Job) -> Columns:
        """The columns of Stage A as arrays. Raises: as `columns`."""
        return Columns(*await self.columns(job), self.cache)

    async def variants(self, job: Job) -> tuple[list[dict[str, Any]], bool]:
        """(the ranked rows of a job as in a result, whether they are final).

        Where there is no result they are the best so far, which have only their return.
        """
        if job.state == "succeeded":
            try:
                path = await self.file(job, RESULT)
                return (await self.threaded(result_of, path))["variants"], True
            except NotFound:  # the files are gone, the rows are not
                pass
        with stored():
            return provisional(await self.store.top(job.job_id, None)), False

    async def generated(self, job: Job) -> bool | None:
        """Whether a generator made candles of a job; None where its candles are gone."""
        frame = job.effective_json["template"]["timeframe"]
        try:
            return await self.threaded(
                made_up, Path(job.results_dir), job.candles_fingerprint, frame
            )
        except MarketFileLost:
            return None

    async def file(self, job: Job, name: str) -> Path:
        """A file that a finished job left. Raises: Conflict, NotFound."""
        if job.state != "succeeded":
            raise Conflict(
                f"job {job.job_id} is {job.state}; {name} is there when it has succeeded",
                details={"error": "job_not_succeeded", "job_id": str(job.job_id),
                         "state": job.state},
            )  # fmt: skip
        path = job.directory / name
        if not await anyio.Path(path).is_file():
            raise NotFound(
                f"{name} of job {job.job_id} is not in the directory of results any more",
                details={"job_id": str(job.job_id)},
            )
        return path

    async def threaded(self, work: Callable[..., Any], *arguments: Any) -> Any:
        """What `work` returns, run beside the event loop when there is room."""
        return await anyio.to_thread.run_sync(work, *arguments, limiter=self.heavy)


@contextmanager
def stored() -> Iterator[None]:
    """Failures of the database inside as the API names them. Raises: StorageFailed."""
    try:
        with typed():
            yield
    except DatabaseFailed as error:
        raise StorageFailed(error.message) from error


def grid_of(job: Job) -> Grid:
    """The grid of a stored job."""
    return backtest_of(job.effective_json, job.hashes).grid


def _columns(job: Job) -> tuple[list[Part], Grid]:
    return column_parts(Path(job.results_dir) / "plans" / job.plan_key), grid_of(job)


def report_context(job: Job) -> Mapping[str, Any]:
    """What `POST /backtests/variant-report` wants beside a variant.

    Of a stored strategy it is the template that the job made of it: the strategy may be gone.
    """
    sent = job.request_json
    return {
        "time_range": sent["time_range"],
        "template": sent.get("template") or job.effective_json["template"],
        "overrides": None,
        "warmup_bars": sent["warmup_bars"],
        "include_trades": sent["top_trades_n"] > 0,
    }


def _owned(job: Any, job_id: UUID, user: User) -> Any:
    if job is None:
        raise JobNotFound(job_id)
    if job.user_id != user.user_id:
        raise Forbidden(
            f"Backtest job {job_id} belongs to another user", details={"job_id": str(job_id)}
        )
    return job
