"""Outcomes written down: runs, events, bars, trades and accounts, in one statement."""

from __future__ import annotations

import logging
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field, fields, replace
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy.exc import StatementError
from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.postgres.bulk import Change, Insertion, write
from live.evaluation import Bar
from live.outcomes import Committed, Event, Outcome, ended, moment_of
from live.paper import Trade
from live.strategies.runs import EVENT_TYPES, TERMINAL, RunStatus, check_transition
from live.strategies.tables import EVENTS, RUNS
from live.tables import ACCOUNTS, BARS, TRADES

_MICROSECOND: Final = timedelta(microseconds=1)
_OF_THE_DATA: Final = ("22", "23")  # classes of SQLSTATE: data exceptions, violated constraints
_UNWRITABLE: Final = (ValueError, TypeError, ArithmeticError)

_MOVED: Final = ("state", "updated_at", "stopped_at", "checkpoint_ts_open", "last_error")
_TOLD: Final = (
    "event_id", "user_id", "strategy_id", "run_id", "ts", "event_type", "payload_json",
)  # fmt: skip
_TRADED: Final = ("run_id", "bar_ts", "close", "vote", "equity", "digest")
_ACCOUNT: Final = ("run_id", "account_json", "equity", "bar_ts")
_MONEY: Final = tuple(
    item.name for item in fields(Trade) if not item.name.endswith("_ms")
)  # columns of a trade that are called alike
_CLOSED: Final = ("run_id", "entry_bar_ts", "exit_bar_ts", *_MONEY)

log = logging.getLogger(__name__)


@dataclass(slots=True)
class _Postings:
    """Rows by table, and what is known of the runs after them."""

    done: dict[UUID, Committed] = field(default_factory=dict)
    moved: list[tuple[Any, ...]] = field(default_factory=list)
    progressed: list[tuple[Any, ...]] = field(default_factory=list)
    events: list[tuple[Any, ...]] = field(default_factory=list)
    bars: list[tuple[Any, ...]] = field(default_factory=list)
    trades: list[tuple[Any, ...]] = field(default_factory=list)
    accounts: list[tuple[Any, ...]] = field(default_factory=list)

    def add(self, run: RunStatus, one: Outcome, at: datetime) -> None:
        """The outcome of a run as it is stored. Raises: IllegalTransition, InvalidInput."""
        told = [*_transitions(run, one), *one.events]
        for i, (kind, payload) in enumerate(told):
            self.events.append(_event_row(run, at + i * _MICROSECOND, kind, payload))
        after = _after(run, one, at + len(told) * _MICROSECOND)
        row = (run.run_id, *(getattr(after, name) for name in _MOVED))
        if one.metadata is None:
            self.moved.append(row)
        else:
            self.progressed.append((*row, one.metadata))
        self.bars += [_bar_row(run.run_id, bar) for bar in one.bars]
        closed = (bar.step.closed for bar in one.bars)
        self.trades += [_trade_row(run.run_id, trade) for trade in closed if trade is not None]
        if one.account is not None and one.bars:
            last = one.bars[-1].step
            kept = one.account.record()
            self.accounts.append((run.run_id, kept, last.equity, moment_of(last.bar_ms)))
        self.done[run.run_id] = Committed(after, one, told)

    async def write(self, connection: AsyncConnection) -> None:
        """Writes all of it."""
        await write(
            connection,
            (
                Change(RUNS, ("run_id", *_MOVED), self.moved),
                Change(RUNS, ("run_id", *_MOVED, "metadata_json"), self.progressed),
                Insertion(BARS, _TRADED, self.bars),
                Insertion(TRADES, _CLOSED, self.trades),
                Insertion(ACCOUNTS, _ACCOUNT, self.accounts, key="run_id"),
                Insertion(EVENTS, _TOLD, self.events),
            ),
        )


async def post(
    connection: AsyncConnection,
    outcomes: Sequence[Outcome],
    known: Mapping[UUID, RunStatus],
    now: datetime,
) -> dict[UUID, Committed]:
    """The outcomes of runs whose rows are locked, written at the time of the database."""
    if not outcomes:
        return {}
    last = max(known[one.run.run_id].updated_at for one in outcomes)
    at, postings = max(now, last + _MICROSECOND), _Postings()
    for one in outcomes:
        postings.add(known[one.run.run_id], one, at)
    await postings.write(connection)
    return postings.done


async def post_each(
    connection: AsyncConnection,
    outcomes: Sequence[Outcome],
    known: Mapping[UUID, RunStatus],
    now: datetime,
) -> dict[UUID, Committed]:
    """The same with a savepoint each; a run whose outcome cannot be stored fails."""
    done: dict[UUID, Committed] = {}
    for one in outcomes:
        try:
            async with connection.begin_nested():
                done |= await post(connection, [one], known, now)
        except Exception as error:
            if not of_the_data(error):
                raise
            log.exception("what run %s did cannot be stored", one.run.run_id)
            why = error.orig if isinstance(error, StatementError) else error  # without its SQL
            text = f"what it did cannot be stored: {why}"
            failed = ended(known[one.run.run_id], one.source, "failed", text)
            done |= await post(connection, [failed], known, now)
    return done


def of_the_data(error: Exception) -> bool:
    """Whether what was to be written is at fault, and not the database or its place."""
    if isinstance(error, StatementError) and error.orig is not None:
        state = getattr(error.orig, "sqlstate", None)
        if isinstance(state, str):
            return state.startswith(_OF_THE_DATA)
        return isinstance(error.orig, _UNWRITABLE)
    return isinstance(error, _UNWRITABLE)


def _transitions(run: RunStatus, outcome: Outcome) -> list[Event]:
    """The events of the states that a run came to. Raises: IllegalTransition, InvalidInput."""
    told: list[Event] = []
    for following in outcome.states:
        error = outcome.error if following == "failed" else None
        check_transition(run, following, error)
        payload: dict[str, Any] = {"state": following, "from": run.state}
        if following == "failed":
            payload["error"] = outcome.error
        told.append((EVENT_TYPES[following], payload))
        run = replace(run, state=following)
    return told


def _after(run: RunStatus, outcome: Outcome, at: datetime) -> RunStatus:
    state = outcome.states[-1] if outcome.states else run.state
    checkpoint_ms = outcome.checkpoint_ms
    return RunStatus(
        run_id=run.run_id,
        user_id=run.user_id,
        strategy_id=run.strategy_id,
        state=state,
        started_at=run.started_at,
        updated_at=at,
        stopped_at=at if state in TERMINAL else None,
        checkpoint_ts_open=None if checkpoint_ms is None else moment_of(checkpoint_ms),
        last_error=outcome.error,
    )


def _event_row(
    run: RunStatus, ts: datetime, kind: str, payload: Mapping[str, Any]
) -> tuple[Any, ...]:
    whole = {"strategy_id": str(run.strategy_id), "run_id": str(run.run_id), **payload}
    return uuid4(), run.user_id, run.strategy_id, run.run_id, ts, kind, whole


def _bar_row(run_id: UUID, bar: Bar) -> tuple[Any, ...]:
    step = bar.step
    return run_id, moment_of(step.bar_ms), bar.close, step.vote, step.equity, bar.digest


def _trade_row(run_id: UUID, trade: Trade) -> tuple[Any, ...]:
    times = moment_of(trade.entry_bar_ms), moment_of(trade.exit_bar_ms)
    return run_id, *times, *(getattr(trade, name) for name in _MONEY)
