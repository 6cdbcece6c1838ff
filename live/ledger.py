"""What live runs did, committed: checkpoint, state, account, bars, trades and events as one.

A transaction is of one instrument and the minutes that its runs went through together. It holds the
instrument's lease and the rows of the runs, so a runner that was replaced writes nothing.
"""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping, Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import bindparam, insert, select, update
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compute.errors import RoehubError
from compute.market.period import epoch_ms
from live.evaluation import Bar
from live.leases import Lease
from live.output import Source
from live.paper import Account, Trade
from live.strategies.rows import columns, now, row_of
from live.strategies.runs import ACTIVE, EVENT_TYPES, TERMINAL, Run, check_transition, metadata_of
from live.strategies.tables import EVENTS, RUNS, STRATEGIES
from live.tables import ACCOUNTS, BARS, TRADES

EVALUATED: Final = ("starting", "warming_up", "running")
"""States in which a run goes on with the next minute."""

COMMITS: Final = 4
"""At once, readings of single runs included. More do not end sooner, and whoever renews the leases
needs connections, too."""

_MICROSECOND: Final = timedelta(microseconds=1)
_OF_THE_DATA: Final = ("22", "23")  # classes of SQLSTATE: data exceptions, violated constraints
_UNWRITABLE: Final = (ValueError, TypeError, ArithmeticError)
_MONEY: Final = tuple(
    item.name for item in fields(Trade) if not item.name.endswith("_ms")
)  # columns of a trade that are called alike

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Outcome:
    """What some minutes made of a run; `run` is it as it was before them, `source` its place.

    `states` are those that it came to on the way, in their order, `events` what else is told, each
    a type and a payload. `error` is why it failed, when the last state is that. `dropped` candles
    of the feed came after their minute since the run was taken up.
    """

    run: Run
    source: Source
    checkpoint_ms: int | None
    metadata: Mapping[str, Any]
    states: Sequence[str] = ()
    bars: Sequence[Bar] = ()
    account: Account | None = None
    events: Sequence[tuple[str, Mapping[str, Any]]] = ()
    error: str | None = None
    dropped: int = 0


@dataclass(frozen=True, slots=True)
class Committed:
    """A run as it is stored now, the outcome that was written, the events stored with it.

    The outcome is the one that was given, or the failure of a run whose own cannot be stored.
    """

    run: Run
    outcome: Outcome
    events: list[tuple[str, Mapping[str, Any]]] = field(default_factory=list)


@dataclass(frozen=True, slots=True)
class Active:
    """A run that has not ended, and where its strategy trades."""

    run: Run
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
            return await self._committed(lease, outcomes, _written)
        except Exception as error:
            if not _of_the_data(error):
                raise
        return await self._committed(lease, outcomes, _written_each)

    async def _committed(
        self, lease: Lease, outcomes: Sequence[Outcome], write: Write
    ) -> dict[UUID, Committed]:
        async with self._turns, self._engine.begin() as connection:
            await lease.fence(connection)
            known = await _locked(connection, [outcome.run.run_id for outcome in outcomes])
            live = [one for one in outcomes if _goes_on(known.get(one.run.run_id), one)]
            for one in live:
                if known[one.run.run_id].checkpoint_ts_open != one.run.checkpoint_ts_open:
                    raise OutOfStep(f"run {one.run.run_id} is stored at another minute")
            return await write(connection, live, known)

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
                *(RUNS.c[name] for name in columns(Run)),
                *(STRATEGIES.c[name] for name in ("instrument_key", "timeframe", "is_deleted")),
            )
            .join(STRATEGIES, STRATEGIES.c.strategy_id == RUNS.c.strategy_id)
            .where(RUNS.c.state.in_(ACTIVE))
            .order_by(RUNS.c.started_at, RUNS.c.run_id)
        )
        async with self._reads.connect() as connection:
            return [
                Active(row_of(Run, row), row.instrument_key, row.timeframe, row.is_deleted)
                for row in await connection.execute(query)
            ]


Write = Callable[
    [AsyncConnection, Sequence[Outcome], Mapping[UUID, Run]], Awaitable[dict[UUID, Committed]]
]


def _of_the_data(error: Exception) -> bool:
    """Whether what was to be written is at fault, and not the database or its place."""
    if isinstance(error, StatementError) and error.orig is not None:
        state = getattr(error.orig, "sqlstate", None)
        if isinstance(state, str):
            return state.startswith(_OF_THE_DATA)
        return isinstance(error.orig, _UNWRITABLE)
    return isinstance(error, _UNWRITABLE)


def ended(run: Run, source: Source, state: str, error: Exception | str | None = None) -> Outcome:
    """The end of a run; its checkpoint stays where it is."""
    text = None if error is None else str(error).strip() or type(error).__name__
    at_ms = ms_of(run.checkpoint_ts_open)
    return Outcome(run, source, at_ms, run.metadata_json, (state,), error=text)


async def _locked(connection: AsyncConnection, run_ids: Sequence[UUID]) -> dict[UUID, Run]:
    query = (
        select(*(RUNS.c[name] for name in columns(Run)))
        .where(RUNS.c.run_id.in_(run_ids))
        .order_by(RUNS.c.run_id)
        .with_for_update()
    )
    return {row.run_id: row_of(Run, row) for row in await connection.execute(query)}


def _goes_on(run: Run | None, outcome: Outcome) -> bool:
    """Whether a run as it is stored may have `outcome`: one that is to stop only ends."""
    if run is None:
        return False
    ends = bool(outcome.states) and outcome.states[0] in TERMINAL
    return run.state in EVALUATED or (run.state == "stopping" and ends)


async def _written(
    connection: AsyncConnection, outcomes: Sequence[Outcome], known: Mapping[UUID, Run]
) -> dict[UUID, Committed]:
    """The outcomes of rows that are locked, in a few statements however many they are."""
    if not outcomes:
        return {}
    last = max(known[one.run.run_id].updated_at for one in outcomes)
    at = max(await now(connection), last + _MICROSECOND)
    done: dict[UUID, Committed] = {}
    updates: list[dict[str, Any]] = []
    events: list[dict[str, Any]] = []
    for one in outcomes:
        told = [*_transitions(known[one.run.run_id], one), *one.events]
        events += [_event_row(one.run, at + i * _MICROSECOND, *told[i]) for i in range(len(told))]
        values = _run_values(known[one.run.run_id], one, at + len(told) * _MICROSECOND)
        updates.append({"of_run": one.run.run_id, **values})
        done[one.run.run_id] = Committed(_after(known[one.run.run_id], values), one, told)
    names = [name for name in updates[0] if name != "of_run"]
    await connection.execute(
        update(RUNS)
        .where(RUNS.c.run_id == bindparam("of_run"))
        .values({name: bindparam(name) for name in names}),
        updates,
    )
    await _traded(connection, outcomes)
    if events:
        await connection.execute(insert(EVENTS), events)
    return done


async def _written_each(
    connection: AsyncConnection, outcomes: Sequence[Outcome], known: Mapping[UUID, Run]
) -> dict[UUID, Committed]:
    """The same with a savepoint each; a run whose outcome cannot be stored fails."""
    done: dict[UUID, Committed] = {}
    for one in outcomes:
        try:
            async with connection.begin_nested():
                done |= await _written(connection, [one], known)
        except Exception as error:
            if not _of_the_data(error):
                raise
            log.exception("what run %s did cannot be stored", one.run.run_id)
            why = error.orig if isinstance(error, StatementError) else error  # without its SQL
            text = f"what it did cannot be stored: {why}"
            failed = ended(known[one.run.run_id], one.source, "failed", text)
            done |= await _written(connection, [failed], known)
    return done


async def _traded(connection: AsyncConnection, outcomes: Sequence[Outcome]) -> None:
    """Bars, closed trades and accounts of those outcomes that have some."""
    bars = [_bar_row(one.run.run_id, bar) for one in outcomes for bar in one.bars]
    trades = [
        _trade_row(one.run.run_id, bar.step.closed)
        for one in outcomes
        for bar in one.bars
        if bar.step.closed is not None
    ]
    accounts = [
        {
            "run_id": one.run.run_id,
            "account_json": one.account.record(),
            "equity": one.bars[-1].step.equity,
            "bar_ts": moment_of(one.bars[-1].step.bar_ms),
        }
        for one in outcomes
        if one.account is not None and one.bars
    ]
    if bars:
        await connection.execute(insert(BARS), bars)
    if trades:
        await connection.execute(insert(TRADES), trades)
    if accounts:
        query = upsert(ACCOUNTS)
        names = ("account_json", "equity", "bar_ts")
        await connection.execute(
            query.on_conflict_do_update(
                index_elements=["run_id"], set_={name: query.excluded[name] for name in names}
            ),
            accounts,
        )


def _transitions(run: Run, outcome: Outcome) -> list[tuple[str, Mapping[str, Any]]]:
    """The events of the states that a run came to. Raises: IllegalTransition, InvalidInput."""
    told: list[tuple[str, Mapping[str, Any]]] = []
    state = run.state
    for following in outcome.states:
        error = outcome.error if following == "failed" else None
        check_transition(_in_state(run, state), following, error)
        payload: dict[str, Any] = {"state": following, "from": state}
        if following == "failed":
            payload["error"] = outcome.error
        told.append((EVENT_TYPES[following], payload))
        state = following
    return told


def _run_values(run: Run, outcome: Outcome, at: datetime) -> dict[str, Any]:
    state = outcome.states[-1] if outcome.states else run.state
    checkpoint = outcome.checkpoint_ms
    return {
        "state": state,
        "updated_at": at,
        "stopped_at": at if state in TERMINAL else None,
        "checkpoint_ts_open": None if checkpoint is None else moment_of(checkpoint),
        "last_error": outcome.error,
        "metadata_json": metadata_of(outcome.metadata),
    }


def _after(run: Run, values: Mapping[str, Any]) -> Run:
    kept = {name: getattr(run, name) for name in columns(Run)}
    return Run(**{**kept, **values})


def _in_state(run: Run, state: str) -> Run:
    return _after(run, {"state": state})


def _event_row(run: Run, ts: datetime, kind: str, payload: Mapping[str, Any]) -> dict[str, Any]:
    ids = {"strategy_id": str(run.strategy_id), "run_id": str(run.run_id)}
    return {
        "event_id": uuid4(), "user_id": run.user_id, "strategy_id": run.strategy_id,
        "run_id": run.run_id, "ts": ts, "event_type": kind, "payload_json": {**ids, **payload},
    }  # fmt: skip


def _bar_row(run_id: UUID, bar: Bar) -> dict[str, Any]:
    step = bar.step
    return {
        "run_id": run_id, "bar_ts": moment_of(step.bar_ms), "close": bar.close,
        "vote": step.vote, "equity": step.equity, "digest": bar.digest,
    }  # fmt: skip


def _trade_row(run_id: UUID, trade: Trade) -> dict[str, Any]:
    times = {
        "entry_bar_ts": moment_of(trade.entry_bar_ms),
        "exit_bar_ts": moment_of(trade.exit_bar_ms),
    }
    return {"run_id": run_id, **times, **{name: getattr(trade, name) for name in _MONEY}}


def moment_of(ms: int) -> datetime:
    """The time of some milliseconds since the epoch."""
    return datetime.fromtimestamp(ms / 1000, UTC)


def ms_of(at: datetime | None) -> int | None:
    """The milliseconds since the epoch of a time."""
    return None if at is None else epoch_ms(at)
