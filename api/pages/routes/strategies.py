"""Strategies in a browser: the list of them, and each with its runs."""

from __future__ import annotations

from typing import Annotated, Any, Final
from urllib.parse import urlencode
from uuid import UUID

from fastapi import APIRouter, Depends, Query, Request, Response

from api.context import AppContext, Context
from api.pages import strategy_view
from api.pages.rendering import page, part
from api.pages.saved_row import saved_row
from api.pages.visitor import Visitor
from api.routes.strategies import StrategyId, TheStrategies, symbol_filter, tag_filters
from api.run_candles import is_made_up, is_quiet, lag_seconds, waits_for
from api.strategies import StrategyService, stored
from api.users import User
from compute.market.timeframe import TIMEFRAMES
from compute.report.facts import MARKETS
from live.checks import reconciliation_record
from live.leases import runners_alive
from live.results import account_record, trade_records
from live.strategies.events import last_events
from live.strategies.runs import Run
from live.strategies.spec import MARKET_TYPES
from live.strategies.store import Strategy, strategy_cursor

router = APIRouter()

_ROWS: Final = 20
_RUNS: Final = 20
_TRADES: Final = 50
_EVENTS: Final = 60

RunId = Annotated[UUID | None, Query(alias="run")]
Text = Annotated[str | None, Query(max_length=64)]
CursorText = Annotated[str | None, Query(alias="cursor", max_length=200)]
_CHOICES: Final = {"markets": MARKETS, "timeframes": TIMEFRAMES}


def _wanted(
    symbol: Text = None, market_type: Text = None, timeframe: Text = None
) -> dict[str, str | None]:
    return {"symbol": symbol_filter(symbol), **tag_filters(market_type, timeframe)}


Filters = Annotated[dict[str, str | None], Depends(_wanted)]


@router.get("/strategies")
async def listed(
    request: Request, user: Visitor, strategies: TheStrategies, wanted: Filters
) -> Response:
    """A user's strategies, newest first, with how the last run of each is doing."""
    values = await _page(strategies, user, wanted, None)
    choices = _CHOICES | {"market_types": MARKET_TYPES}
    return page(request, "strategies.html", user, values | choices)


@router.get("/_partial/strategies")
async def rows(
    user: Visitor, strategies: TheStrategies, wanted: Filters, cursor: CursorText = None
) -> Response:
    """The strategies below `cursor`."""
    return part("_strategies.html", await _page(strategies, user, wanted, cursor))


async def last_strategies(
    strategies: StrategyService, user: User, most: int
) -> list[dict[str, Any]]:
    """The newest strategies of a user, each with its last run. Raises: StorageFailed."""
    return (await _page(strategies, user, _wanted(), None, most))["items"]


async def _page(
    strategies: StrategyService,
    user: User,
    wanted: dict[str, str | None],
    cursor: str | None,
    most: int = _ROWS,
) -> dict[str, Any]:
    tags = {name: wanted[name] for name in ("market_type", "timeframe")}
    with stored():
        found = await strategies.store.page(
            user.user_id,
            most,
            strategy_cursor(cursor),
            tags,
            symbol_part=wanted["symbol"],
            newest_first=True,
        )
        latest = await strategies.runs.latest([one.strategy_id for one in found[:most]])
    return {
        "items": [
            strategy_view.head(one) | {"run": latest.get(one.strategy_id)} for one in found[:most]
        ],
        "wanted": wanted,
        "more": _query(wanted, found[most - 1].cursor()) if len(found) > most else None,
    }


def _query(wanted: dict[str, str | None], cursor: str) -> str:
    given = {name: value for name, value in wanted.items() if value}
    return urlencode({**given, "cursor": cursor})


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
    about = strategy_view.about(strategy)
    source = strategy.spec_json.get("source")
    saved = await saved_row(context.running.get("jobs"), user, source)
    values = {
        "about": about,
        "saved": saved,
        "synthetic": about["synthetic"] or (saved is not None and saved.synthetic),
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
    values: dict[str, Any] = {
        "strategy_id": str(strategy.strategy_id),
        "instrument": strategy.spec_json["instrument_id"],
        "run": None,
        "waits_for": None,
    }
    now_ms = context.now_ms()
    quiet = run is not None and is_quiet(run, now_ms)
    # A run that goes on as it should asks nothing of the store.
    if run is None or not run.active or run.state == "starting" or quiet or is_made_up(strategy):
        values["waits_for"] = await waits_for(context, strategy)
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
    return values | {
        "run": strategy_view.run_line(run) | {"active": run.active},
        "means": strategy_view.STATES[run.state],
        "lag_seconds": lag_seconds(run, now_ms),
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
        "is_late": run.state == "starting" and bool(runners) and quiet,
        "is_silent": run.state in ("warming_up", "running") and quiet,
        "price": strategy_view.price,
        "reasons": strategy_view.REASONS,
    }
