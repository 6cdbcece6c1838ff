"""All strategies of a user: told, and forgotten."""

from __future__ import annotations

from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select
from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.postgres.idempotency import take_turn
from live.results import account_record, trade_records
from live.strategies.events import Event
from live.strategies.rows import columns, row_of
from live.strategies.runs import Run
from live.strategies.store import Strategy
from live.strategies.tables import EVENTS, RUNS, STRATEGIES

_ALL: Final = 2**31 - 2
ERASED_USER: Final = "roehub.erase_user"
"""The setting by which a transaction tells the triggers whose rows may go."""


async def strategies_of_user(connection: AsyncConnection, user_id: UUID) -> list[dict[str, Any]]:
    """The strategies of a user, oldest first, deleted ones too, each with its runs and its log."""
    query = (
        select(*(STRATEGIES.c[name] for name in columns(Strategy)))
        .where(STRATEGIES.c.user_id == user_id)
        .order_by(STRATEGIES.c.created_at, STRATEGIES.c.strategy_id)
    )
    found = [row_of(Strategy, row).record() for row in await connection.execute(query)]
    by_id = {one["strategy_id"]: one | {"runs": [], "events": []} for one in found}
    runs = (
        select(*(RUNS.c[name] for name in columns(Run)))
        .where(RUNS.c.user_id == user_id)
        .order_by(RUNS.c.started_at, RUNS.c.run_id)
    )
    for row in (await connection.execute(runs)).all():
        run = row_of(Run, row)
        did = {
            "account": await account_record(connection, run.run_id),
            "trades": await trade_records(connection, run.run_id, _ALL),
        }
        by_id[str(row.strategy_id)]["runs"].append(run.record() | did)
    events = (
        select(*(EVENTS.c[name] for name in columns(Event)))
        .where(EVENTS.c.user_id == user_id)
        .order_by(EVENTS.c.ts, EVENTS.c.event_id)
    )
    for row in await connection.execute(events):
        by_id[str(row.strategy_id)]["events"].append(row_of(Event, row).record())
    return [*by_id.values()]


async def forget_strategies(connection: AsyncConnection, user_id: UUID) -> None:
    """Removes all that a user has here, the log included, in the caller's transaction.

    Rows of nobody else can go: the triggers that keep them ask for this user. Whoever runs one of
    the strategies finds its run gone.
    """
    await take_turn(connection, f"strategy_strategies {user_id}")
    # In the order of those that start and stop runs; rows that refer to these may still come until
    # the runs are locked, so the log is looked at last.
    for table in (STRATEGIES, RUNS):
        mine = select(table.c.strategy_id).where(table.c.user_id == user_id)
        await connection.execute(mine.with_for_update(key_share=True))
    await connection.execute(select(func.set_config(ERASED_USER, str(user_id), True)))
    for table in (EVENTS, RUNS, STRATEGIES):
        await connection.execute(delete(table).where(table.c.user_id == user_id))
    await connection.execute(select(func.set_config(ERASED_USER, "", True)))
