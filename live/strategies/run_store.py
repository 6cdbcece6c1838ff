"""Runs in the database: started and stopped by users, moved by whoever runs them.

Every change writes its event in the same transaction and takes its time from the database.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, tuple_, update
from sqlalchemy.dialects.postgresql import distinct_on
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cluster.postgres.idempotency import check_key, take_turn
from cluster.postgres.keyset import Place
from live.strategies.errors import (
    IdempotencyConflict,
    NoActiveRun,
    QuotaExceeded,
    RunActive,
    RunChanged,
    RunNotFound,
    RunStopping,
)
from live.strategies.events import append
from live.strategies.rows import columns, now, row_of
from live.strategies.runs import ACTIVE, EVENT_TYPES, TERMINAL, Run, check_transition, metadata_of
from live.strategies.store import active_run, owned
from live.strategies.tables import RUNS

ONE_ACTIVE: Final = "strategy_runs_one_active"
_SELECT: Final = select(*(RUNS.c[name] for name in columns(Run)))
_TICK: Final = timedelta(microseconds=1)


class RunStore:
    """The runs of all strategies; users see those of their own."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def start(
        self, strategy_id: UUID, user_id: UUID, *, most: int, key: str | None = None
    ) -> tuple[Run, bool]:
        """(the run, whether it is new): starting, or what the same key started before.

        Raises: StrategyNotFound, ForeignStrategy, RunActive, QuotaExceeded, IdempotencyConflict;
        RunChanged where another run came first.
        """
        check_key(key)
        try:
            async with self._engine.begin() as connection:
                await take_turn(connection, f"strategy_runs {user_id}")
                await owned(connection, strategy_id, user_id, lock=True)
                known = None if key is None else await _keyed(connection, user_id, key)
                if known is not None:
                    if known.strategy_id != strategy_id:
                        raise IdempotencyConflict(run_id=known.run_id)
                    return known, False
                active = await active_run(connection, strategy_id)
                if active is not None:
                    raise RunActive(strategy_id, *active)
                await _check_quota(connection, user_id, most)
                return await _started(connection, strategy_id, user_id, key), True
        except IntegrityError as error:
            if _constraint(error) != ONE_ACTIVE:
                raise
            raise RunChanged(f"another run of strategy {strategy_id} came first") from error

    async def stop(self, strategy_id: UUID, user_id: UUID) -> Run:
        """The active run, asked to stop; stopped at once where no runner has begun with it.

        Raises: StrategyNotFound, ForeignStrategy, NoActiveRun, RunStopping.
        """
        async with self._engine.begin() as connection:
            await owned(connection, strategy_id, user_id, lock=True)
            query = _SELECT.where(
                RUNS.c.strategy_id == strategy_id, RUNS.c.state.in_(ACTIVE)
            ).with_for_update()
            row = (await connection.execute(query)).one_or_none()
            if row is None:
                raise NoActiveRun(strategy_id)
            run = row_of(Run, row)
            if run.state == "stopping":
                raise RunStopping(strategy_id, run.run_id, run.state)
            begun = run.state != "starting" or run.checkpoint_ts_open is not None
            return await _moved(
                connection, run, "stopping" if begun else "stopped", run.checkpoint_ts_open,
                run.last_error, run.metadata_json,
            )  # fmt: skip

    async def get(self, strategy_id: UUID, run_id: UUID, user_id: UUID) -> Run:
        """A run of a strategy of this user.

        Raises: StrategyNotFound, ForeignStrategy, RunNotFound.
        """
        query = _SELECT.where(RUNS.c.strategy_id == strategy_id, RUNS.c.run_id == run_id)
        async with self._reads.connect() as connection:
            await owned(connection, strategy_id, user_id)
            row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise RunNotFound(strategy_id, run_id)
        return row_of(Run, row)

    async def page(
        self, strategy_id: UUID, user_id: UUID, limit: int, below: Place | None = None
    ) -> list[Run]:
        """Runs of a strategy, newest first: one more than `limit` where there are more.

        Raises: StrategyNotFound, ForeignStrategy.
        """
        query = (
            _SELECT.where(RUNS.c.strategy_id == strategy_id)
            .order_by(RUNS.c.started_at.desc(), RUNS.c.run_id.desc())
            .limit(limit + 1)
        )
        if below is not None:
            query = query.where(tuple_(RUNS.c.started_at, RUNS.c.run_id) < below)
        async with self._reads.connect() as connection:
            await owned(connection, strategy_id, user_id)
            return [row_of(Run, row) for row in await connection.execute(query)]

    async def latest(self, strategy_ids: Collection[UUID]) -> dict[UUID, Run]:
        """The run of each strategy that started last; those that never ran are left out."""
        query = (
            _SELECT.ext(distinct_on(RUNS.c.strategy_id))
            .where(RUNS.c.strategy_id.in_(strategy_ids))
            .order_by(RUNS.c.strategy_id, RUNS.c.started_at.desc(), RUNS.c.run_id.desc())
        )
        async with self._reads.connect() as connection:
            found = [row_of(Run, row) for row in await connection.execute(query)]
        return {run.strategy_id: run for run in found}

    async def move(
        self,
        run: Run,
        state: str,
        *,
        checkpoint_ts_open: datetime | None = None,
        last_error: str | None = None,
        metadata: Mapping[Any, Any] | None = None,
    ) -> Run:
        """`run` in its next state, with this checkpoint and error; None clears them.

        Nothing is changed unless the row is still what `run` says. Metadata stay without new ones.
        Raises: IllegalTransition, InvalidInput; RunChanged where the row is another by now.
        """
        check_transition(run, state, last_error)
        kept = run.metadata_json if metadata is None else metadata
        async with self._engine.begin() as connection:
            await _locked(connection, run)
            return await _moved(connection, run, state, checkpoint_ts_open, last_error, kept)

    async def advance(
        self, run: Run, checkpoint_ts_open: datetime | None, metadata: Mapping[Any, Any]
    ) -> Run:
        """`run` in the same state with another checkpoint; no transition, so no event.

        Raises: RunChanged where the row is not what `run` says.
        """
        async with self._engine.begin() as connection:
            await _locked(connection, run)
            return await _written(
                connection, run, await _after(connection, run),
                checkpoint_ts_open=checkpoint_ts_open, metadata_json=metadata_of(metadata),
            )  # fmt: skip


async def _started(
    connection: AsyncConnection, strategy_id: UUID, user_id: UUID, key: str | None
) -> Run:
    at = await now(connection)
    query = (
        insert(RUNS)
        .values(
            run_id=uuid4(), user_id=user_id, strategy_id=strategy_id, state="starting",
            started_at=at, updated_at=at, metadata_json={}, idempotency_key=key,
        )
        .returning(*(RUNS.c[name] for name in columns(Run)))
    )  # fmt: skip
    run = row_of(Run, (await connection.execute(query)).one())
    await _tell(connection, run)
    return run


async def _moved(
    connection: AsyncConnection,
    run: Run,
    state: str,
    checkpoint_ts_open: datetime | None,
    last_error: str | None,
    metadata: Mapping[Any, Any],
) -> Run:
    """The run after a transition of a row that is locked."""
    check_transition(run, state, last_error)
    at = await _after(connection, run)
    moved = await _written(
        connection, run, at,
        state=state, stopped_at=at if state in TERMINAL else None,
        checkpoint_ts_open=checkpoint_ts_open, last_error=last_error,
        metadata_json=metadata_of(metadata),
    )  # fmt: skip
    await _tell(connection, moved, run.state)
    return moved


async def _tell(connection: AsyncConnection, run: Run, before: str | None = None) -> None:
    more = {} if before is None else {"from": before}
    if run.state == "failed":
        more["error"] = run.last_error or ""
    await append(
        connection, EVENT_TYPES[run.state], run.updated_at,
        user_id=run.user_id, strategy_id=run.strategy_id, run_id=run.run_id,
        state=run.state, **more,
    )  # fmt: skip


async def _locked(connection: AsyncConnection, run: Run) -> None:
    query = (
        select(RUNS.c.state, RUNS.c.updated_at).where(RUNS.c.run_id == run.run_id).with_for_update()
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None or (row.state, row.updated_at) != (run.state, run.updated_at):
        there = "gone" if row is None else f"{row.state} since {row.updated_at.isoformat()}"
        raise RunChanged(f"run {run.run_id} is {there}, not {run.state} as of what was read")


async def _after(connection: AsyncConnection, run: Run) -> datetime:
    """The time of a change: later than the one before, whatever the clock was set to."""
    return max(await now(connection), run.updated_at + _TICK)


async def _written(connection: AsyncConnection, run: Run, at: datetime, **values: Any) -> Run:
    query = (
        update(RUNS)
        .where(RUNS.c.run_id == run.run_id)
        .values(updated_at=at, **values)
        .returning(*(RUNS.c[name] for name in columns(Run)))
    )
    return row_of(Run, (await connection.execute(query)).one())


async def _keyed(connection: AsyncConnection, user_id: UUID, key: str) -> Run | None:
    query = _SELECT.where(RUNS.c.user_id == user_id, RUNS.c.idempotency_key == key)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else row_of(Run, row)


async def _check_quota(connection: AsyncConnection, user_id: UUID, most: int) -> None:
    query = select(func.count()).where(RUNS.c.user_id == user_id, RUNS.c.state.in_(ACTIVE))
    if (await connection.execute(query)).scalar_one() >= most:
        raise QuotaExceeded("Active runs", "max_active_runs", most, "stop one first")


def _constraint(error: IntegrityError) -> str | None:
    """The name of the constraint that a statement broke."""
    return getattr(getattr(error.orig, "__cause__", None), "constraint_name", None)
