"""What happened to a job, in order: stored rows, and one connection that hears of new ones.

A reader takes a bell first and reads then, so that nothing can happen unheard in between:

    with hub.bell(job_id) as bell:
        while True:
            rows = await log.after(job_id, last_seen, 100)
            if not rows:
                await bell.wait(15)
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final, Self
from uuid import UUID

import asyncpg
from sqlalchemy import select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cluster.jobs.tables import EVENTS
from cluster.postgres.settings import plain_dsn

CHANNEL: Final = "backtest_job_events"
KINDS: Final = ("state", "progress", "best")

_LOG = logging.getLogger(__name__)
_ALIVE_SECONDS: Final = 10
_RETRY_SECONDS: Final = 0.5

# Of progress the latest of each stage is kept, of the best rows the latest: a job of hours leaves a
# handful of rows, and a reader that comes late or reads slowly is brought up to date by them.
_APPEND: Final = text(f"""
    with outdated as (
      delete from backtest_job_events
      where job_id = :job_id and kind = :kind
        and (kind = 'best' or kind = 'progress' and data ->> 'stage' = :stage)
    ), appended as (
      insert into backtest_job_events (job_id, kind, at, data)
      values (:job_id, :kind, clock_timestamp(), cast(:data as jsonb))
      returning backtest_job_events.job_id
    )
    select pg_notify('{CHANNEL}', appended.job_id::text) from appended
""")


@dataclass(frozen=True, slots=True)
class JobEvent:
    """One event; ids ascend within a job."""

    job_id: UUID
    event_id: int
    kind: str
    at: datetime
    data: dict[str, Any]


async def append(
    connection: AsyncConnection, job_id: UUID, kind: str, data: dict[str, Any]
) -> None:
    """Adds an event to the caller's transaction, which holds the lock of the job's row.

    The lock is what makes ids ascend in the order of commits; readers are woken by the commit.
    """
    await connection.execute(
        _APPEND,
        {"job_id": job_id, "kind": kind, "stage": data.get("stage"), "data": json.dumps(data)},
    )


class EventLog:
    """The stored events."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def after(self, job_id: UUID, event_id: int = 0, limit: int = 100) -> list[JobEvent]:
        """At most `limit` events of a job that came after `event_id`, oldest first."""
        query = (
            select(*(EVENTS.c[name] for name in ("job_id", "event_id", "kind", "at", "data")))
            .where(EVENTS.c.job_id == job_id, EVENTS.c.event_id > event_id)
            .order_by(EVENTS.c.event_id)
            .limit(limit)
        )
        async with self._reads.connect() as connection:
            return [JobEvent(*row) for row in await connection.execute(query)]


class Bell:
    """Rings when a job has a new event; a ring that came before the wait is not lost."""

    def __init__(self) -> None:
        self._event = asyncio.Event()

    def ring(self) -> None:
        """Ends the wait that is going on, or the next one."""
        self._event.set()

    async def wait(self, timeout_seconds: float) -> bool:
        """Whether it rang before the time was over."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._event.wait()
        except TimeoutError:
            return False
        self._event.clear()
        return True


class EventHub:
    """One connection that listens, for any number of readers of this event loop.

    What is told on `channel` are ids, of jobs if it is not another one.
    A lost connection is made again; all bells ring then, for nobody knows what was missed.
    """

    def __init__(self, dsn: str, channel: str = CHANNEL) -> None:
        self._dsn, self._channel = plain_dsn(dsn), channel
        self._bells: dict[UUID, set[Bell]] = {}
        self._listening = asyncio.Event()
        self._task: asyncio.Task[None] | None = None

    async def __aenter__(self) -> Self:
        self._task = asyncio.create_task(self._listen(), name="backtest job events")
        return self

    async def __aexit__(self, *error: object) -> None:
        if self._task is not None:
            self._task.cancel()
            with suppress(asyncio.CancelledError):
                await self._task

    @property
    def connected(self) -> bool:
        """Whether new events are heard at this moment."""
        return self._listening.is_set()

    @property
    def waiting(self) -> int:
        """Bells that are held."""
        return sum(map(len, self._bells.values()))

    async def ready(self, timeout_seconds: float) -> bool:
        """Whether the connection listens, waiting for it at most so long."""
        try:
            async with asyncio.timeout(timeout_seconds):
                await self._listening.wait()
        except TimeoutError:
            return False
        return True

    @contextmanager
    def bell(self, job_id: UUID) -> Iterator[Bell]:
        """A bell for the events of one job."""
        bell = Bell()
        self._bells.setdefault(job_id, set()).add(bell)
        try:
            yield bell
        finally:
            held = self._bells[job_id]
            held.discard(bell)
            if not held:
                del self._bells[job_id]

    async def wait(self, job_id: UUID, timeout_seconds: float) -> bool:
        """Whether an event came from now on; what came before the call is not noticed."""
        with self.bell(job_id) as bell:
            return await bell.wait(timeout_seconds)

    async def _listen(self) -> None:
        while True:
            try:
                await self._session()
            except Exception as error:  # whatever it is: nobody would hear of any event any more
                _LOG.warning(
                    "job events: %s; listening again soon", str(error) or type(error).__name__
                )
            self._listening.clear()
            await asyncio.sleep(_RETRY_SECONDS)

    async def _session(self) -> None:
        """Listens until the connection is lost."""
        connection = await asyncpg.connect(self._dsn, timeout=_ALIVE_SECONDS)
        lost = asyncio.Event()
        try:
            connection.add_termination_listener(lambda _: lost.set())
            await connection.add_listener(self._channel, self._heard)
            self._listening.set()
            self._ring_all()
            while not lost.is_set():
                with suppress(TimeoutError):
                    async with asyncio.timeout(_ALIVE_SECONDS):
                        await lost.wait()
                        return
                await connection.execute("select 1", timeout=_ALIVE_SECONDS)
        finally:
            connection.terminate()

    def _heard(self, _connection: Any, _pid: int, _channel: str, payload: Any) -> None:
        try:
            job_id = UUID(str(payload))
        except ValueError:
            return
        for bell in self._bells.get(job_id, ()):
            bell.ring()

    def _ring_all(self) -> None:
        for bells in self._bells.values():
            for bell in bells:
                bell.ring()
