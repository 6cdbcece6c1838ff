"""What happened to strategies and runs: rows that are only ever added."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import insert, select, tuple_
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cluster.postgres.keyset import Place, cursor_of, place_of
from live.strategies.rows import columns, moment, row_of
from live.strategies.tables import EVENTS

CURSOR: Final = ("ts", "event_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One row of the log; without `run_id` it is of the strategy as a whole."""

    event_id: UUID
    strategy_id: UUID
    run_id: UUID | None
    ts: datetime
    event_type: str
    payload_json: dict[str, Any]

    def record(self) -> dict[str, Any]:
        """The JSON-able event."""
        return {
            "event_id": str(self.event_id),
            "strategy_id": str(self.strategy_id),
            "run_id": None if self.run_id is None else str(self.run_id),
            "ts": moment(self.ts),
            "event_type": self.event_type,
            "payload": self.payload_json,
        }

    def cursor(self) -> str:
        """Where a page goes on after this event."""
        return cursor_of((self.ts, self.event_id), CURSOR)


_SELECT: Final = select(*(EVENTS.c[name] for name in columns(Event)))


def event_cursor(raw: str | None) -> Place | None:
    """The place to go on from; blank is the beginning. Raises: InvalidCursor."""
    return place_of(raw, CURSOR, "events") if raw and raw.strip() else None


async def append(
    connection: AsyncConnection,
    event_type: str,
    ts: datetime,
    *,
    user_id: UUID,
    strategy_id: UUID,
    run_id: UUID | None = None,
    **payload: Any,
) -> None:
    """Adds an event to the transaction that makes it true; `ts` is that of the change."""
    ids = {"strategy_id": str(strategy_id)} | ({} if run_id is None else {"run_id": str(run_id)})
    await connection.execute(
        insert(EVENTS).values(
            event_id=uuid4(), user_id=user_id, strategy_id=strategy_id, run_id=run_id,
            ts=ts, event_type=event_type, payload_json=ids | payload,
        )
    )  # fmt: skip


async def events_page(
    engine: AsyncEngine,
    strategy_id: UUID,
    limit: int,
    after: Place | None = None,
    run_id: UUID | None = None,
) -> list[Event]:
    """Events of a strategy, or of one run of it, oldest first: one more than `limit` if there are.

    Changes of one strategy wait for each other and take their time when it is their turn, so
    whoever reads on after the last event misses none.
    """
    query = (
        _SELECT.where(EVENTS.c.strategy_id == strategy_id)
        .order_by(EVENTS.c.ts, EVENTS.c.event_id)
        .limit(limit + 1)
    )
    if run_id is not None:
        query = query.where(EVENTS.c.run_id == run_id)
    if after is not None:
        query = query.where(tuple_(EVENTS.c.ts, EVENTS.c.event_id) > after)
    reads = engine.execution_options(isolation_level="AUTOCOMMIT")
    async with reads.connect() as connection:
        return [row_of(Event, row) for row in await connection.execute(query)]


async def last_events(
    connection: AsyncConnection, strategy_id: UUID, run_id: UUID, most: int
) -> list[Event]:
    """The events of a run that came last, the newest first."""
    query = (
        _SELECT.where(EVENTS.c.strategy_id == strategy_id, EVENTS.c.run_id == run_id)
        .order_by(EVENTS.c.ts.desc(), EVENTS.c.event_id.desc())
        .limit(most)
    )
    return [row_of(Event, row) for row in await connection.execute(query)]
