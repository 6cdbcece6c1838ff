"""Bars of runs that have ended are kept for a while; their trades and the last report stay."""

from __future__ import annotations

from datetime import timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, exists, func, select, tuple_
from sqlalchemy.ext.asyncio import AsyncEngine

from live.strategies.runs import TERMINAL
from live.strategies.tables import RUNS
from live.tables import BARS, RECONCILIATIONS

_ROWS: Final = 10_000
"""That are deleted in a transaction."""


def over(days: float) -> ColumnElement[bool]:
    """Whether a run has ended so long ago that nobody asks for its bars."""
    return RUNS.c.state.in_(TERMINAL) & (
        RUNS.c.stopped_at < func.clock_timestamp() - timedelta(days=days)
    )


async def delete_bars(opened: AsyncEngine, days: float) -> int:
    """The number of bars deleted: those of runs that ended, and were checked, so long ago."""
    checked_at = RECONCILIATIONS.c.checked_at
    checked_lately = exists().where(
        RECONCILIATIONS.c.run_id == RUNS.c.run_id,
        checked_at > func.clock_timestamp() - timedelta(days=days),
    )
    run_id = (
        select(RUNS.c.run_id)
        .where(over(days), ~checked_lately, exists().where(BARS.c.run_id == RUNS.c.run_id))
        .limit(1)
        .scalar_subquery()
    )
    some = select(BARS.c.run_id, BARS.c.bar_ts).where(BARS.c.run_id == run_id).limit(_ROWS)
    query = delete(BARS).where(tuple_(BARS.c.run_id, BARS.c.bar_ts).in_(some))
    deleted, last = 0, 1
    while last:
        async with opened.begin() as connection:
            last = (await connection.execute(query)).rowcount
        deleted += last
    return deleted
