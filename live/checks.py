"""Runs held against their back-tests: one that is asked for, and all of them now and then."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Callable, Mapping
from datetime import timedelta
from typing import Any
from uuid import UUID

from sqlalchemy import func, or_, select
from sqlalchemy.ext.asyncio import AsyncEngine

from compute.backtest import Backtest
from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from live.ledger import Ledger
from live.metrics import LiveMetrics
from live.reconcile import History, Reconciliation, done_by, keep, reconciled
from live.strategies.rows import columns, row_of
from live.strategies.runs import Run
from live.strategies.tables import RUNS, STRATEGIES
from live.tables import BARS, RECONCILIATIONS

Job = Callable[[Mapping[str, Any]], Backtest]

log = logging.getLogger(__name__)


async def check_run(opened: AsyncEngine, db: ClickHouse, run_id: UUID, job: Job) -> Reconciliation:
    """The `Reconciliation` of a run, which is stored. Raises: InvalidInput for an unknown run."""
    query = (
        select(*(RUNS.c[name] for name in columns(Run)), STRATEGIES.c.instrument_id)
        .join(STRATEGIES, STRATEGIES.c.strategy_id == RUNS.c.strategy_id)
        .where(RUNS.c.run_id == run_id)
    )
    async with opened.connect() as connection:
        row = (await connection.execute(query)).one_or_none()
        if row is None:
            raise InvalidInput(f"there is no run {run_id}")
        done = await done_by(connection, run_id)
    run = row_of(Run, row)
    instrument = Instrument(row.instrument_id["market_id"], row.instrument_id["symbol"])
    spec = await Ledger(opened).spec(run.strategy_id)
    store = CandleStore(db)
    history = History(
        lambda period: store.candles(instrument, period),
        lambda period: store.written(instrument, period),
    )
    found = await asyncio.to_thread(reconciled, run, done, job(spec), history)
    await keep(opened, found)
    return found


async def checked_again_and_again(
    opened: AsyncEngine, db: ClickHouse, job: Job, metrics: LiveMetrics, hours: float
) -> None:
    """Checks each run with bars that was not checked for so long, one at a time, for ever."""
    while True:
        try:
            run_id = await _due(opened, hours)
            if run_id is not None:
                found = await check_run(opened, db, run_id, job)
                metrics.reconciled.labels("exact" if found.exact else "different").inc()
                if not found.exact:
                    metrics.differences.inc(found.differing)
                    log.warning("run %s differs from its back-test: %s", run_id, found.differences)
                continue
        except Exception as error:
            log.warning("a run could not be checked: %s", error)
        await asyncio.sleep(60.0)


async def _due(opened: AsyncEngine, hours: float) -> UUID | None:
    """A run that has traded and was not checked since it did, or not for so long."""
    newest = (
        select(func.max(BARS.c.committed_at))
        .where(BARS.c.run_id == RUNS.c.run_id)
        .scalar_subquery()
    )
    old = func.clock_timestamp() - timedelta(hours=hours)
    query = (
        select(RUNS.c.run_id)
        .outerjoin(RECONCILIATIONS, RECONCILIATIONS.c.run_id == RUNS.c.run_id)
        .where(
            newest.is_not(None),
            or_(
                RECONCILIATIONS.c.checked_at.is_(None) & (RUNS.c.started_at < old),
                (RECONCILIATIONS.c.checked_at < old) & (newest > RECONCILIATIONS.c.checked_at),
            ),
        )
        .limit(1)
    )
    async with opened.connect() as connection:
        return (await connection.execute(query)).scalar_one_or_none()
