"""Strategies in a browser: the list of them, and each with its runs."""

from __future__ import annotations

from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Query, Request, Response

from api.context import AppContext, Context
from api.pages import strategy_view
from api.pages.rendering import page, part
from api.pages.visitor import Visitor
from api.routes.runs import lag_seconds
from api.routes.strategies import StrategyId, TheStrategies
from api.strategies import StrategyService, stored
from api.users import User
from compute.market.instrument import MARKETS
from compute.market.timeframe import TIMEFRAMES
from live.checks import reconciliation_record
from live.leases import runners_alive
from live.results import account_record, trade_records
from live.strategies.events import last_events
from live.strategies.runs import Run
from live.strategies.store import Strategy, strategy_cursor

router = APIRouter()

_ROWS: Final = 20
_RUNS: Final = 20
_TRADES: Final = 50
_EVENTS: Final = 60
_PATIENCE_S: Final = 60.0
"""How long a run may be `starting` before the page says that nobody takes it up."""

RunId = Annotated[UUID | None, Query(alias="run")]
CursorText = Annotated[str | None, Query(alias="cursor", max_length=200)]
_CHOICES: Final = {"markets": MARKETS, "timeframes": TIMEFRAMES}


@router.get("/strategies")
async def listed(request: Request, user: Visitor, strategies: TheStrategies) -> Response:
    """A user's strategies, with how the last run of each is doing."""
    return page(request, "strategies.html", user, await _page(strategies, user, None) | _CHOICES)


@router.get("/_partial/strategies")
async def rows(user: Visitor, strategies: TheStrategies, cursor: CursorText = None) -> Response:
    """The strategies after `cursor`."""
    return part("_strategies.html", await _page(strategies, user, cursor))


async def _page(strategies: StrategyService, user: User, cursor: str | None) -> dict[str, Any]:
    with stored():
        after = strategy_cursor(cursor)
        found = await strategies.store.page(user.user_id, _ROWS, after)
        latest = await strategies.runs.latest([one.strategy_id for one in found[:_ROWS]])
    return {
        "items": [
            strategy_view.head(one) | {"run": latest.get(one.strategy_id)} for one in found[:_ROWS]
        ],
        "cursor": found[_ROWS - 1].cursor() if len(found) > _ROWS else None,
    }


@router.get("/strategies/{strategy_id}")
async def shown(
    request: Request,
    strategy_id: StrategyId,
    user: Visitor,
    strategies: TheStrategies,
    context: Context,
    run_id: RunId = None,
) -> Response:
    """A strategy: what it does, its run that is active or was last, and those before."""
    with stored():
        strategy = await strategies.store.owned(strategy_id, user.user_id)
        runs = await strategies.runs.page(strategy_id, user.user_id, _RUNS)
        run = runs[0] if runs else None
        if run_id is not None:
            run = await strategies.runs.get(strategy_id, run_id, user.user_id)
    values = {
        "about": strategy_view.about(strategy),
        "runs": [strategy_view.run_line(one) for one in runs[:_RUNS]],
        "more_runs": len(runs) > _RUNS,
        "is_idle": not (runs and runs[0].active),
        **(await _run(context, strategies, strategy, run)),
    }
    return page(request, "strategy.html", user, values | _CHOICES)


@router.get("/_partial/strategies/{strategy_id}/run")
async def run_part(
    strategy_id: StrategyId,
    user: Visitor,
    strategies: TheStrategies,
    context: Context,
    run_id: Annotated[UUID, Query(alias="run")],
) -> Response:
    """How a run is doing."""
    with stored():
        strategy = await strategies.store.owned(strategy_id, user.user_id)
        run = await strategies.runs.get(strategy_id, run_id, user.user_id)
    return part("_strategy_run.html", await _run(context, strategies, strategy, run))


async def _run(
    context: AppContext, strategies: StrategyService, strategy: Strategy, run: Run | None
) -> dict[str, Any]:
    values: dict[str, Any] = {"strategy_id": str(strategy.strategy_id), "run": None}
    if run is None:
        return values
    with stored():
        async with strategies.engine.connect() as connection:
            account = await account_record(connection, run.run_id)
            before = 0 if account is None else max(0, account["num_trades"] - _TRADES)
            trades = await trade_records(connection, run.run_id, _TRADES, before)
            events = await last_events(connection, strategy.strategy_id, run.run_id, _EVENTS)
            checked = await reconciliation_record(connection, run.run_id)
            runners = await runners_alive(connection)
    cash = (strategy.spec_json.get("execution") or {}).get("init_cash_quote")
    earned = None
    if account is not None and cash:
        earned = 100.0 * (account["equity_quote"] / cash - 1.0)
    waits_s = (context.now_ms() / 1000) - run.started_at.timestamp()
    return values | {
        "run": strategy_view.run_line(run) | {"active": run.active},
        "means": strategy_view.STATES[run.state],
        "lag_seconds": lag_seconds(run, context.now_ms()),
        "checkpoint": run.checkpoint_ts_open,
        "account": account,
        "earned_pct": earned,
        "trades": trades[:_TRADES][::-1],
        "events": [strategy_view.event_line(one) for one in events],
        "seen": events[0].cursor() if events else "",
        "checked": checked,
        "badge_means": strategy_view.BADGES[checked["badge"]],
        "differences": strategy_view.differences(checked),
        "nobody": run.state in ("starting", "stopping") and not runners,
        "is_late": run.state == "starting" and bool(runners) and waits_s > _PATIENCE_S,
        "price": strategy_view.price,
        "reasons": strategy_view.REASONS,
    }
