"""A claimed job in the hands of its runner: kept by heartbeats, written under its lease.

Two tasks beside the compute threads keep it: one makes the lease last, one tells how far the job
is and sees whether it is to stop. Whatever ends the lease, the run stops at its next block and
nothing is written any more.
"""

from __future__ import annotations

import asyncio
import logging
import time
from collections.abc import Awaitable, Callable, Sequence
from concurrent.futures import Future
from contextlib import suppress
from dataclasses import replace
from typing import Any, Final, TypeVar

from cluster.jobs.database import Database, steady
from cluster.jobs.errors import LeaseLost
from cluster.jobs.job import Job, Record
from cluster.jobs.leases import Leases, fenced
from cluster.jobs.progressing import Course
from cluster.jobs.spans import SpanRow, SpanStore
from cluster.jobs.store import JobStore, TopRow, changed
from cluster.postgres.engine import transient
from compute.control import Control

T = TypeVar("T")

CANCELLED: Final = "cancel_requested"
LOST: Final = "lease_lost"
TELL_SECONDS: Final = 0.5
_LOOK_SECONDS: Final = 1.0

_LOG = logging.getLogger(__name__)


class Holding:
    """One job under lease; a context manager. `control` is told when the run has to stop."""

    def __init__(
        self, job: Job, leases: Leases, database: Database, control: Control, claimed_at: float
    ) -> None:
        self.job, self.control = job, control
        self.course = Course()
        self._leases, self._database = leases, database
        self._spans, self._jobs = SpanStore(database.engine), JobStore(database.engine)
        self._until = claimed_at + leases.settings.lease_seconds
        self._best: Sequence[TopRow] | None = None
        self._tasks: list[Future[None]] = []
        self._writing = asyncio.Lock()
        self._ending = False
        self.lost = False

    def __enter__(self) -> Holding:
        self._tasks = [self._database.start(work) for work in (self._beating(), self._telling())]
        return self

    def __exit__(self, *error: object) -> None:
        self._stop_tasks()

    def _stop_tasks(self) -> None:
        for task in self._tasks:
            task.cancel()
        self._tasks = []

    def until(self) -> float:
        """Monotonic time up to which the lease certainly lasts; the past once it is lost."""
        return 0.0 if self.lost else self._until

    def lose(self) -> None:
        """Stops the run: the job is, or may be, somebody else's."""
        self.lost = True
        self.control.cancel(LOST)

    def committed(self, plan_key: str, fold: int) -> Sequence[SpanRow]:
        """The spans of a fold that are done. Raises: LeaseLost."""
        return self.write(lambda: self._spans.committed(plan_key, fold))

    def commit(self, rows: Sequence[SpanRow]) -> None:
        """Commits spans of the job's plan. Raises: LeaseLost."""
        self.write(lambda: self._spans.commit(self.job, self._leases.owner, rows))

    def show(self, rows: Sequence[TopRow]) -> None:
        """Has the best rows so far stored when there is time; the latest win."""
        self._best = rows

    def shortlist(self, indexes: Sequence[int], sizes: dict[str, int]) -> None:
        """Keeps the shortlist. Raises: LeaseLost."""
        self.write(lambda: self._leases.shortlist(self.job, indexes, **sizes))

    def replanned(self, plan_key: str, plan_json: Record) -> Job:
        """The job with the plan of this version of the engine. Raises: LeaseLost."""
        changes = {"plan_key": plan_key, "plan_json": plan_json}

        async def write() -> None:
            async with self._database.engine.begin() as connection:
                await fenced(connection, self.job, self._leases.owner)
                await changed(connection, self.job.job_id, changes)

        self.write(write)
        self.job = replace(self.job, **changes)
        return self.job

    def succeed(self, rows: Sequence[TopRow], digest: str) -> None:
        """Stores the final rows and ends the job well. Raises: LeaseLost."""
        self._best = rows
        self._end(lambda: self._leases.succeed(self.job, digest))

    def fail(self, error: BaseException) -> None:
        """Ends the job with an error. Raises: LeaseLost."""
        self._end(lambda: self._leases.fail(self.job, error))

    def cancelled(self) -> None:
        """Ends the job as its owner asked; the best rows so far stay. Raises: LeaseLost."""
        self._end(lambda: self._leases.cancelled(self.job))

    def release(self) -> None:
        """Gives the job up, for another runner to go on with at once. Raises: LeaseLost."""
        self._end(lambda: self._leases.release(self.job))

    def _end(self, make: Callable[[], Awaitable[Any]]) -> None:
        self._ending = True
        self.write(self._tell)  # before the tasks end: the heartbeat keeps the lease meanwhile
        self.write(make)
        self._stop_tasks()

    def write(self, make: Callable[[], Awaitable[T]]) -> T:
        """What `make()` returns, while the lease lasts. Raises: LeaseLost."""
        if self.lost:
            raise self._loss()
        try:
            return self._database.call(make, self.until)
        except LeaseLost:
            self.lose()
            raise
        except Exception as error:
            if not transient(error):
                raise
            self.lose()
            raise self._loss() from error

    def refuse(self) -> None:
        """Raises LeaseLost, for who noticed first that the lease is gone."""
        raise self._loss()

    def _loss(self) -> LeaseLost:
        return LeaseLost(self.job.job_id, self._leases.owner, self.job.attempt)

    async def _beating(self) -> None:
        settings = self._leases.settings
        while not self.lost:
            await asyncio.sleep(settings.heartbeat_seconds)
            began = time.monotonic()
            try:
                seen = await steady(lambda: self._leases.heartbeat(self.job), self.until)
            except Exception as error:
                return self._failed("heartbeat", error)
            self._until = began + settings.lease_seconds
            if seen.cancel_requested:
                self.control.cancel(CANCELLED)

    async def _telling(self) -> None:
        looked_at = time.monotonic()
        while not self.lost:
            await asyncio.sleep(TELL_SECONDS)
            try:
                await steady(self._tell, self.until)
                if time.monotonic() - looked_at >= _LOOK_SECONDS:
                    looked_at = time.monotonic()
                    await steady(self._look, self.until)
            except Exception as error:
                return self._failed("progress", error)

    async def _tell(self) -> None:
        """Writes what has changed since the last time."""
        async with self._writing:
            for told in self.course.news():
                await self._leases.progress(
                    self.job, told.stage, told.done, told.total, told.eta_seconds
                )
                self.course.written(told)
            best = self._best
            if best is not None:
                await self._leases.top(self.job, best)
                if self._best is best:
                    self._best = None

    async def _look(self) -> None:
        """Sees whether the job is to stop."""
        now = await self._jobs.status(self.job.job_id)
        if now is None or now.state != "running" or now.attempt != self.job.attempt:
            raise self._loss()
        if now.cancel_requested_at is not None:
            self.control.cancel(CANCELLED)

    def _failed(self, what: str, error: Exception) -> None:
        if self._ending:
            return  # whoever ends the job hears of it
        if not isinstance(error, LeaseLost):
            with suppress(Exception):
                _LOG.error("%s of job %s failed", what, self.job.job_id, exc_info=error)
        self.lose()
