"""A run held against its back-test within a request: compared in the process of a worker."""

from __future__ import annotations

import asyncio
import json
from typing import Any
from uuid import UUID

from fastapi import Request
from sqlalchemy.ext.asyncio import AsyncEngine

from api.context import AppContext
from api.market import market_of, readable
from api.metrics import started
from api.sync import RECONCILE
from api.sync_tasks import ReconcileTask
from compute.errors import Cancelled
from compute.market.candles import Candles
from live.checks import check_run
from live.reconcile import Compared, Comparison
from live.strategies.spec import backtest_of_spec


async def run_check(
    request: Request, context: AppContext, engine: AsyncEngine, run_id: UUID
) -> None:
    """Makes and stores the reconciliation of a run.

    Raises: TooManyRequests, Unavailable, StorageFailed, NoMarketData, Cancelled, InvalidInput.
    """
    market = market_of(context.market)
    deadline = started(request.scope) + context.sync.sync_deadline_seconds
    with context.pool.slot(RECONCILE) as slot, readable():

        async def compare(comparison: Comparison, minutes: Candles) -> Compared:
            found = await slot.result(
                ReconcileTask(comparison), minutes,
                deadline=deadline, disconnected=request.is_disconnected,
            )  # fmt: skip
            return Compared(**json.loads(found))

        def job(spec: Any) -> Any:
            return backtest_of_spec(spec, context.defaults)

        try:
            async with asyncio.timeout(deadline - asyncio.get_running_loop().time()):
                await check_run(engine, market.db, run_id, job, compare)
        except TimeoutError:
            raise Cancelled("deadline_exceeded", RECONCILE) from None
