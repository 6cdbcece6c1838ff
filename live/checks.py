"""Runs held against their back-tests: one that is asked for, and all of them now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Mapping
from datetime import timedelta
from functools import partial
from typing import Any, Final
from uuid import UUID

import numpy as np
from numpy.typing import NDArray
from sqlalchemy import BigInteger, Column, Executable, cast, func, or_, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compute.backtest import Backtest
from compute.errors import InvalidInput
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.gaps import GapLedger
from live.causes import explained
from live.ledger import Ledger
from live.member import course_of
from live.metrics import LiveMetrics
from live.outcomes import moment_of
from live.reconcile import (
    BAR,
    MONEY,
    TRADE,
    Compared,
    Comparison,
    Done,
    Reconciliation,
)
from live.retention import delete_bars, over
from live.strategies.rows import columns, moment, row_of
from live.strategies.runs import Run
from live.strategies.tables import RUNS, STRATEGIES
from live.tables import ACCOUNTS, BARS, RECONCILIATIONS, TRADES

_ROWS: Final = 2000  # that are read at a time, a few milliseconds of the event loop
_IDLE_SECONDS: Final = 60.0
_AGAIN: Final = timedelta(hours=1)
"""So long a run that could not be checked is left alone."""
_STORED: Final = timedelta(hours=1)
"""So long after the end of a run all that it traded on is stored."""

Job = Callable[[Mapping[str, Any]], Backtest]
Compare = Callable[[Comparison, Candles], Awaitable[Compared]]

log = logging.getLogger(__name__)


async def in_thread(comparison: Comparison, minutes: Candles) -> Compared:
    """The comparison, made on a thread of this process."""
    return await asyncio.to_thread(comparison.compared, minutes)


async def check_run(
    opened: AsyncEngine, db: ClickHouse, run_id: UUID, job: Job, compare: Compare = in_thread
) -> Reconciliation:
    """The `Reconciliation` of a run, which is stored if there was something to compare.

    Raises: InvalidInput for a run that is unknown, or whose bars are not kept any more;
    NoMarketData, StoreFailed, and what `compare` raises.
    """
    run, instrument, done = await _what_it_did(opened, run_id)
    course = course_of(run)
    if course is None or course.trading_from_ms is None:
        return Reconciliation(run_id)
    if not len(done.bars):
        raise InvalidInput(
            f"the bars of run {run_id} are not kept any more; the report of its last check is"
        )
    spec = await Ledger(opened).spec(run.strategy_id)
    comparison = Comparison(job(spec), course, done)
    store = CandleStore(db)
    minutes = await asyncio.to_thread(store.candles, instrument, comparison.period)
    compared = await compare(comparison, minutes)
    differences = await asyncio.to_thread(
        explained, compared, comparison, minutes, run.metadata_json["live"],
        partial(store.written, instrument), partial(GapLedger(db).absent, instrument),
    )  # fmt: skip
    found = Reconciliation(
        run_id, compared.until_ms, compared.bars, compared.trades, compared.differing, differences
    )
    if found.until_ms is not None:
        await _keep(opened, found)
    return found


async def strategy_of(opened: AsyncEngine, run_id: UUID) -> UUID:
    """The strategy that a run is of. Raises: InvalidInput."""
    query = select(RUNS.c.strategy_id).where(RUNS.c.run_id == run_id)
    async with opened.connect() as connection:
        found = (await connection.execute(query)).scalar_one_or_none()
    if found is None:
        raise InvalidInput(f"there is no run {run_id}")
    return found


async def reconciliation_record(connection: AsyncConnection, run_id: UUID) -> dict[str, Any]:
    """The JSON-able report of the last check of a run, and when that was; null before the first."""
    query = select(RECONCILIATIONS.c.checked_at, RECONCILIATIONS.c.report_json).where(
        RECONCILIATIONS.c.run_id == run_id
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return {**Reconciliation(run_id).record(), "checked_at": None}
    return {**row.report_json, "checked_at": moment(row.checked_at)}


async def _what_it_did(opened: AsyncEngine, run_id: UUID) -> tuple[Run, Instrument, Done]:
    """A run, what it trades, its bars and closed trades, all as of one moment.

    Raises: InvalidInput.
    """
    query = (
        select(*(RUNS.c[name] for name in columns(Run)), STRATEGIES.c.instrument_id)
        .join(STRATEGIES, STRATEGIES.c.strategy_id == RUNS.c.strategy_id)
        .where(RUNS.c.run_id == run_id)
    )
    snapshot = opened.execution_options(isolation_level="REPEATABLE READ")
    async with snapshot.connect() as connection:
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise InvalidInput(f"there is no run {run_id}")
        done = await _done(connection, run_id)
    place = row.instrument_id
    return row_of(Run, row), Instrument(place["market_id"], place["symbol"]), done


async def _done(connection: AsyncConnection, run_id: UUID) -> Done:
    bar = BARS.c
    bars = (
        select(_ms(bar.bar_ts), bar.vote, bar.equity, func.coalesce(bar.digest, 0))
        .where(bar.run_id == run_id)
        .order_by(bar.bar_ts)
    )
    trade = TRADES.c
    trades = (
        select(
            _ms(trade.entry_bar_ts), _ms(trade.exit_bar_ts), trade.side, trade.reason,
            *(trade[name] for name in MONEY),
        )
        .where(trade.run_id == run_id)
        .order_by(trade.number)
    )  # fmt: skip
    return Done(await _array(connection, bars, BAR), await _array(connection, trades, TRADE))


def _ms(column: Column[Any]) -> Any:
    return cast(func.floor(func.extract("epoch", column) * 1000), BigInteger)


async def _array(
    connection: AsyncConnection, query: Executable, dtype: np.dtype[Any]
) -> NDArray[np.void]:
    """The rows of a query, however many, as an array of records."""
    parts = [np.empty(0, dtype)]
    async with connection.stream(query, execution_options={"yield_per": _ROWS}) as found:
        async for rows in found.partitions():
            parts.append(np.array([tuple(row) for row in rows], dtype))
    return np.concatenate(parts)


async def _keep(opened: AsyncEngine, found: Reconciliation) -> None:
    """Stores the report of a run instead of the one before."""
    assert found.until_ms is not None
    values: Mapping[str, Any] = {
        "checked_at": func.clock_timestamp(),
        "until_ts": moment_of(found.until_ms),
        "bars": found.bars,
        "trades": found.trades,
        "differences": found.differing,
        "report_json": found.record(),
    }
    query = insert(RECONCILIATIONS).values(run_id=found.run_id, **values)
    async with opened.begin() as connection:
        await connection.execute(
            query.on_conflict_do_update(index_elements=["run_id"], set_=dict(values))
        )


async def checked_again_and_again(
    opened: AsyncEngine, db: ClickHouse, job: Job, metrics: LiveMetrics, hours: float, days: float
) -> None:
    """Checks each run with bars that was not checked for so long, one at a time, for ever; deletes
    bars `days` after the end of their run.

    One that cannot be checked holds up no other: it is looked at again an hour later.
    """
    while True:
        run_id: UUID | None = None
        try:
            run_id = await due(opened, hours, days)
            if run_id is not None:
                _count(metrics, await check_run(opened, db, run_id, job))
                continue
            await delete_bars(opened, days)
        except Exception as error:
            log.warning("run %s could not be checked: %s", run_id or "that is due", error)
            if run_id is not None:
                continue
        await asyncio.sleep(_IDLE_SECONDS)


def _count(metrics: LiveMetrics, found: Reconciliation) -> None:
    if found.badge == "unchecked":
        return
    metrics.reconciled.labels("exact" if found.exact else "different").inc()
    if not found.exact:
        metrics.differences.inc(found.differing)
        log.warning(
            "run %s differs from its back-test in %d places, the first: %s",
            found.run_id, found.differing, found.differences[0],
        )  # fmt: skip


async def due(opened: AsyncEngine, hours: float, days: float) -> UUID | None:
    """A run that has done something since its last check, which is so long ago, or its start.

    It is the one that waits for the longest time, and is nobody's again for an hour, whatever
    becomes of its check. One that ended `days` ago has no bars any more.
    """
    run, tried_at, checked_at = RUNS.c, ACCOUNTS.c.tried_at, RECONCILIATIONS.c.checked_at
    now, pause = func.clock_timestamp(), timedelta(hours=hours)
    found = (
        select(run.run_id)
        .join(ACCOUNTS, ACCOUNTS.c.run_id == run.run_id)
        .outerjoin(RECONCILIATIONS, RECONCILIATIONS.c.run_id == run.run_id)
        .where(
            ~over(days),
            or_(tried_at.is_(None), tried_at < now - min(_AGAIN, pause)),
            func.greatest(run.started_at, checked_at) < now - pause,
            or_(checked_at.is_(None), checked_at < run.updated_at + _STORED),
        )
        .order_by(tried_at.nulls_first(), run.started_at, run.run_id)
        .limit(1)
        .with_for_update(of=ACCOUNTS, skip_locked=True)
    )
    taken = (
        update(ACCOUNTS)
        .where(ACCOUNTS.c.run_id == found.scalar_subquery())
        .values(tried_at=now)
        .returning(ACCOUNTS.c.run_id)
    )
    async with opened.begin() as connection:
        return (await connection.execute(taken)).scalar_one_or_none()
