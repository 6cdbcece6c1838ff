"""What live runs did, committed: checkpoint, state, account, bars, trades and events as one.

A transaction is of one instrument and the minutes that its runs went through together. It holds the
instrument's lease and the rows of the runs, so a runner that was replaced writes nothing.
"""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

from sqlalchemy import select
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compute.errors import RoehubError
from compute.market.period import EPOCH
from live.leases import Lease
from live.outcomes import Committed, Outcome
from live.output import Source
from live.postings import of_the_data, post, post_each
from live.strategies.rows import columns, row_of
from live.strategies.runs import ACTIVE, TERMINAL, Run, RunStatus
from live.strategies.tables import RUNS, STRATEGIES
from live.tables import ACCOUNTS

EVALUATED: Final = ("starting", "warming_up", "running")
"""States in which a run goes on with the next minute."""

COMMITS: Final = 4
"""At once, readings of single runs included. More do not end sooner, and whoever renews the leases
needs connections, too."""

_NAMES: Final = columns(RunStatus)
_STATUS: Final = tuple(RUNS.c[name] for name in _NAMES)

# The last time among the rows is one after all of them are locked.
_LOCK: Final = f"""
    WITH held AS MATERIALIZED (
        SELECT {", ".join(_NAMES)} FROM strategy_runs
        WHERE run_id = ANY ($1) ORDER BY run_id FOR UPDATE
    ) SELECT *, clock_timestamp() AS now FROM held
"""


@dataclass(frozen=True, slots=True)
class Active:
    """A run that has not ended, and where its strategy trades."""

    run: RunStatus
    instrument_key: str
    timeframe: str
    is_deleted: bool

    @property
    def source(self) -> Source:
        """What records of it are about."""
        run = self.run
        return Source(run.strategy_id, run.run_id, self.instrument_key, self.timeframe, run.user_id)


@dataclass(frozen=True, slots=True)
class Stored:
    """What a run goes on from: its row, the record of its account (None before the first bar), and
    its strategy's specification."""

    run: Run
    account: dict[str, Any] | None
    spec: Mapping[str, Any]


class OutOfStep(RoehubError):
    """A run that is stored further on than its runner knows: a commit whose answer got lost."""

    code = "conflict"


class Ledger:
    """Writes outcomes, and reads what a runner goes on from."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine, self._turns = engine, asyncio.Semaphore(COMMITS)
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def commit(self, lease: Lease, outcomes: Sequence[Outcome]) -> dict[UUID, Committed]:
        """The runs that were written, by id; one that its user stopped meanwhile is left out.

        An outcome that cannot be stored fails its run, the others are written.

        Raises: LeaseLost when the instrument was taken over, OutOfStep when a run is not where it
        is thought to be; nothing is written then.
        """
        try:
            return await self._committed(lease, outcomes, post)
        except Exception as error:
            if not of_the_data(error):
                raise
        return await self._committed(lease, outcomes, post_each)

    async def _committed(
        self, lease: Lease, outcomes: Sequence[Outcome], written: Write
    ) -> dict[UUID, Committed]:
        async with self._turns, self._engine.begin() as connection:
            await lease.fence(connection)
            known, now = await _locked(connection, [outcome.run.run_id for outcome in outcomes])
            live = [one for one in outcomes if _goes_on(known.get(one.run.run_id), one)]
            for one in live:
                if known[one.run.run_id].checkpoint_ts_open != one.run.checkpoint_ts_open:
                    raise OutOfStep(f"run {one.run.run_id} is stored at another minute")
            return await written(connection, live, known, now)

    async def stored(self, run_id: UUID) -> Stored:
        """What a run goes on from, all of one moment."""
        query = (
            select(
                *(RUNS.c[name] for name in columns(Run)),
                ACCOUNTS.c.account_json,
                STRATEGIES.c.spec_json,
            )
            .join(STRATEGIES, STRATEGIES.c.strategy_id == RUNS.c.strategy_id)
            .outerjoin(ACCOUNTS, ACCOUNTS.c.run_id == RUNS.c.run_id)
            .where(RUNS.c.run_id == run_id)
        )
        async with self._turns, self._reads.connect() as connection:
            row = (await connection.execute(query)).one()
        return Stored(row_of(Run, row), row.account_json, row.spec_json)

    async def spec(self, strategy_id: UUID) -> Mapping[str, Any]:
        """The specification of a strategy, deleted or not."""
        query = select(STRATEGIES.c.spec_json).where(STRATEGIES.c.strategy_id == strategy_id)
        async with self._turns, self._reads.connect() as connection:
            return (await connection.execute(query)).scalar_one()

    async def active(self) -> list[Active]:
        """All runs that have not ended, oldest first."""
        query = (
            select(
                *_STATUS,
                *(STRATEGIES.c[name] for name in ("instrument_key", "timeframe", "is_deleted")),
            )
            .join(STRATEGIES, STRATEGIES.c.strategy_id == RUNS.c.strategy_id)
            .where(RUNS.c.state.in_(ACTIVE))
            .order_by(RUNS.c.started_at, RUNS.c.run_id)
        )
        async with self._reads.connect() as connection:
            return [
                Active(row_of(RunStatus, row), row.instrument_key, row.timeframe, row.is_deleted)
                for row in await connection.execute(query)
            ]


Write = Callable[
    [AsyncConnection, Sequence[Outcome], Mapping[UUID, RunStatus], datetime],
    Awaitable[dict[UUID, Committed]],
]


async def _locked(
    connection: AsyncConnection, run_ids: Sequence[UUID]
) -> tuple[dict[UUID, RunStatus], datetime]:
    """(the runs by id, locked until the transaction ends; the time of the database)."""
    rows = (await connection.exec_driver_sql(_LOCK, (run_ids,))).all()
    now = max((row.now for row in rows), default=EPOCH)
    return {row.run_id: RunStatus(**dict(zip(_NAMES, row, strict=False))) for row in rows}, now


def _goes_on(run: RunStatus | None, outcome: Outcome) -> bool:
    """Whether a run as it is stored may have `outcome`: one that is to stop only ends, and one that
    has ended, before its first minute or by another runner, has no more."""
    if run is None:
        return False
    ends = bool(outcome.states) and outcome.states[0] in TERMINAL
    return run.state in EVALUATED or (run.state == "stopping" and ends)
