"""Committed spans: which parts of a plan are in the results directory, whoever computed them."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from sqlalchemy import or_, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.job import Job
from cluster.jobs.leases import fenced
from cluster.jobs.store import NOW
from cluster.jobs.tables import SPANS

_BATCH: Final = 1000


@dataclass(frozen=True, slots=True)
class SpanRow:
    """A part that is on disk: positions [start_at, stop_at) of one fold, its digest and size."""

    fold: int
    start_at: int
    stop_at: int
    digest: str
    size_bytes: int


class SpanStore:
    """The spans of all plans."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def committed(self, plan_key: str, fold: int) -> list[SpanRow]:
        """The committed spans of one fold of a plan, in order."""
        names = ("fold", "start_at", "stop_at", "digest", "size_bytes")
        query = (
            select(*(SPANS.c[name] for name in names))
            .where(SPANS.c.plan_key == plan_key, SPANS.c.fold == fold)
            .order_by(SPANS.c.start_at)
        )
        async with self._reads.connect() as connection:
            return [SpanRow(*row) for row in await connection.execute(query)]

    async def commit(self, job: Job, owner: str, rows: Sequence[SpanRow]) -> None:
        """Notes spans of the job's plan, all or none; one that is known is not noted twice.

        A part that was computed again takes the place of the one that was unreadable.
        Raises: LeaseLost.
        """
        async with self._engine.begin() as connection:
            await fenced(connection, job, owner)
            ordered = sorted(rows, key=lambda row: (row.fold, row.start_at))  # no two can deadlock
            for at in range(0, len(ordered), _BATCH):
                query = insert(SPANS).values(
                    [
                        {
                            "plan_key": job.plan_key,
                            "fold": row.fold,
                            "start_at": row.start_at,
                            "stop_at": row.stop_at,
                            "digest": row.digest,
                            "size_bytes": row.size_bytes,
                            "committed_at": NOW,
                        }
                        for row in ordered[at : at + _BATCH]
                    ]
                )
                new = query.excluded
                await connection.execute(
                    query.on_conflict_do_update(
                        index_elements=["plan_key", "fold", "start_at"],
                        set_={
                            "stop_at": new.stop_at,
                            "digest": new.digest,
                            "size_bytes": new.size_bytes,
                            "committed_at": new.committed_at,
                        },
                        where=or_(SPANS.c.digest != new.digest, SPANS.c.stop_at != new.stop_at),
                    )
                )
