"""Runs of strategies: started, stopped, shown; their accounts, trades, events and checks."""

from __future__ import annotations

from functools import partial
from typing import Annotated
from uuid import UUID

from fastapi import APIRouter, Depends, Header, Path, Query, Request, Response

from api.context import Context
from api.envelope import errors, json_response
from api.errors import NotFound, invalid
from api.events import MEDIA_TYPE, BoundedStream
from api.openapi import event_stream
from api.routes.strategies import OWNED, Cursor, Key, Limit, StrategyId, TheStrategies, page
from api.run_candles import is_quiet, lag_seconds, waits_for
from api.run_check import run_check
from api.run_feed import KINDS, RunFeed
from api.schemas.strategies import (
    AccountBody,
    EquityBody,
    ReconciliationBody,
    RunBody,
    RunNowBody,
    RunPage,
    TradePage,
)
from api.strategies import stored
from api.users import CurrentUser, still
from cluster.postgres.keyset import InvalidCursor, Place, page_limit
from live.checks import reconciliation_record
from live.results import account_record, equity_record, trade_records
from live.strategies.events import event_cursor
from live.strategies.runs import run_cursor

router = APIRouter(prefix="/strategies", tags=["strategies"])


async def feed_of(request: Request) -> RunFeed:
    """The events of runs."""
    return request.app.state.context.running["run_feed"]


TheRunFeed = Annotated[RunFeed, Depends(feed_of)]
RunId = Annotated[UUID, Path(description="The run.")]


@router.post(
    "/{strategy_id}/run",
    response_model=RunBody,
    responses=errors(*OWNED, "conflict"),
    summary="Run a strategy",
)
async def run(
    strategy_id: StrategyId,
    user: CurrentUser,
    strategies: TheStrategies,
    idempotency_key: Key = None,
) -> Response:
    """Asks the runner to start it. A strategy has one active run; the one before must have ended.

    With an idempotency key, the same request gives the same run, in the state it has by now.
    """
    with stored():
        found, new = await strategies.runs.start(
            strategy_id,
            user.user_id,
            most=strategies.settings.max_active_runs_per_user,
            key=idempotency_key,
        )
    headers = {} if new else {"Idempotency-Replayed": "true"}
    return json_response(found.record(), headers=headers)


@router.post(
    "/{strategy_id}/stop",
    response_model=RunBody,
    responses=errors(*OWNED, "conflict"),
    summary="Stop a strategy",
)
async def stop(strategy_id: StrategyId, user: CurrentUser, strategies: TheStrategies) -> Response:
    """Asks the runner to end the active run, which is `stopping` until it has. One that no runner
    has begun with is `stopped` at once."""
    with stored():
        return json_response((await strategies.runs.stop(strategy_id, user.user_id)).record())


@router.get(
    "/{strategy_id}/runs",
    response_model=RunPage,
    responses=errors(*OWNED),
    summary="Runs of a strategy, newest first",
)
async def runs(
    strategy_id: StrategyId,
    user: CurrentUser,
    strategies: TheStrategies,
    limit: Limit = None,
    cursor: Cursor = None,
) -> Response:
    """The first one is active, or the last that was."""
    most = page_limit(limit)
    with stored():
        found = await strategies.runs.page(strategy_id, user.user_id, most, run_cursor(cursor))
    return page(found, most)


@router.get(
    "/{strategy_id}/runs/{run_id}",
    response_model=RunNowBody,
    responses=errors(*OWNED),
    summary="How a run is doing",
)
async def one_run(
    strategy_id: StrategyId,
    run_id: RunId,
    user: CurrentUser,
    strategies: TheStrategies,
    context: Context,
) -> Response:
    """State, checkpoint, how far behind it is, what it waits for, and why it failed if it did."""
    now_ms, waits = context.now_ms(), None
    with stored():
        found = await strategies.runs.get(strategy_id, run_id, user.user_id)
        if found.state == "starting" or is_quiet(found, now_ms):
            strategy = await strategies.store.owned(strategy_id, user.user_id)
            waits = await waits_for(context, strategy)
    now = {"lag_seconds": lag_seconds(found, now_ms), "waits_for": waits}
    return json_response(found.record() | now)


@router.get(
    "/{strategy_id}/runs/{run_id}/account",
    response_model=AccountBody,
    responses=errors(*OWNED),
    summary="The paper account of a run",
)
async def account(
    strategy_id: StrategyId, run_id: RunId, user: CurrentUser, strategies: TheStrategies
) -> Response:
    """Equity and position after its last bar; 404 before the first one."""
    with stored():
        await strategies.runs.get(strategy_id, run_id, user.user_id)
        async with strategies.engine.connect() as connection:
            found = await account_record(connection, run_id)
    if found is None:
        raise NotFound("the run has not traded on a bar yet", details={"run_id": str(run_id)})
    return json_response(found)


@router.get(
    "/{strategy_id}/runs/{run_id}/equity",
    response_model=EquityBody,
    responses=errors(*OWNED),
    summary="The equity curve of a run",
)
async def equity(
    strategy_id: StrategyId, run_id: RunId, user: CurrentUser, strategies: TheStrategies
) -> Response:
    """Equity after each bar so far, few enough points to draw; empty before the first bar."""
    with stored():
        await strategies.runs.get(strategy_id, run_id, user.user_id)
        async with strategies.engine.connect() as connection:
            return json_response(await equity_record(connection, run_id))


@router.get(
    "/{strategy_id}/runs/{run_id}/trades",
    response_model=TradePage,
    responses=errors(*OWNED),
    summary="Closed trades of a run, oldest first",
)
async def trades(
    strategy_id: StrategyId,
    run_id: RunId,
    user: CurrentUser,
    strategies: TheStrategies,
    limit: Limit = None,
    cursor: Cursor = None,
) -> Response:
    """What the run made of each position that has ended."""
    most, after = page_limit(limit), _trade_number(cursor)
    with stored():
        await strategies.runs.get(strategy_id, run_id, user.user_id)
        async with strategies.engine.connect() as connection:
            found = await trade_records(connection, run_id, most, after)
    shown = found[:most]
    more = str(shown[-1]["trade_id"]) if len(found) > most else None
    return json_response({"items": shown, "next_cursor": more})


def _trade_number(raw: str | None) -> int:
    text = (raw or "").strip()
    if text and not (text.isascii() and text.isdigit() and len(text) < 10):
        raise invalid("not a cursor of this list", "invalid_cursor", "query.cursor")
    return int(text or 0)


@router.get(
    "/{strategy_id}/runs/{run_id}/reconciliation",
    response_model=ReconciliationBody,
    responses=errors(*OWNED),
    summary="How a run agrees with its back-test",
)
async def reconciliation(
    strategy_id: StrategyId, run_id: RunId, user: CurrentUser, strategies: TheStrategies
) -> Response:
    """The last check, by this operation's POST or by the live runner now and then."""
    with stored():
        await strategies.runs.get(strategy_id, run_id, user.user_id)
        async with strategies.engine.connect() as connection:
            return json_response(await reconciliation_record(connection, run_id))


@router.post(
    "/{strategy_id}/runs/{run_id}/reconciliation",
    response_model=ReconciliationBody,
    responses=errors(*OWNED, "too_many_requests", "unavailable"),
    summary="Check a run against its back-test",
)
async def reconcile(
    request: Request,
    strategy_id: StrategyId,
    run_id: RunId,
    user: CurrentUser,
    strategies: TheStrategies,
    context: Context,
) -> Response:
    """Back-tests the strategy over the candles that are stored now and compares every bar and
    trade of the run to the bit. A run that has not traded yet stays unchecked.
    """
    with stored():
        await strategies.runs.get(strategy_id, run_id, user.user_id)
        await run_check(request, context, strategies.engine, run_id)
    return await reconciliation(strategy_id, run_id, user, strategies)


@router.get(
    "/{strategy_id}/runs/{run_id}/events",
    response_class=Response,
    responses={
        **errors(*OWNED, "too_many_requests"),
        200: event_stream(
            "Events in their order, a comment every 15 seconds. It ends with the run.",
            KINDS,
            ids="^[A-Za-z0-9_-]+$",
        ),
        204: {"description": "The run has ended and the last event was seen: do not come back."},
    },
    summary="Follow a run as server-sent events",
)
async def run_events(
    request: Request,
    strategy_id: StrategyId,
    run_id: RunId,
    user: CurrentUser,
    strategies: TheStrategies,
    feed: TheRunFeed,
    context: Context,
    last_id: Annotated[
        str | None,
        Header(
            alias="Last-Event-ID",
            description="Id of the last event that was seen; the stream goes on after it.",
        ),
    ] = None,
    cursor: Annotated[
        str | None,
        Query(description="The same for a first request, whose headers a page cannot set."),
    ] = None,
) -> Response:
    """What happened to a run so far, then what happens: states, signals, trades, gaps.

    A client that reads nothing for 30 seconds is cut off, and so is one whose login or token has
    ended.
    """
    after = _seen(last_id, cursor)
    with stored():
        run = await strategies.runs.get(strategy_id, run_id, user.user_id)
        seen = after is not None and not run.active
        if seen and after is not None and await feed.ended(strategy_id, run_id, after):
            return Response(status_code=204)
    ended = context.streams.open(user.user_id)
    pieces = feed.stream(strategy_id, run_id, after, allowed=partial(still, request, user))
    return BoundedStream(pieces, MEDIA_TYPE, ended=ended)


def _seen(header: str | None, cursor: str | None) -> Place | None:
    """The place of the last event that a reader saw. Raises: InvalidCursor, InvalidRequest."""
    if not header:
        return event_cursor(cursor)
    try:
        return event_cursor(header)
    except InvalidCursor as error:
        raise invalid(error.message, "invalid_cursor", "header.Last-Event-ID") from None
