"""Strategies: made, shown, run, stopped, deleted; their runs and what happened to them."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Header, HTTPException, Path, Query, Request, Response

from api.backtests import SavedReport, TemplateReport
from api.bodies import JsonBody
from api.envelope import errors, json_response
from api.errors import invalid
from api.openapi import body_of
from api.schemas import examples
from api.schemas.strategies import (
    CLONES,
    SPECS,
    EventPage,
    StrategyBody,
    StrategyPage,
)
from api.strategies import CloneRequest, JobRow, StrategyService, stored
from api.users import CurrentUser
from cluster.postgres.jsonb import storable
from cluster.postgres.keyset import PAGE_DEFAULT, PAGE_MAX, page_limit
from compute.errors import InvalidInput
from compute.market.timeframe import TIMEFRAMES, timeframe
from live.strategies.events import event_cursor, events_page
from live.strategies.requests import StrategyV1, StrategyV2
from live.strategies.spec import MARKET_TYPES
from live.strategies.store import Strategy, strategy_cursor

router = APIRouter(prefix="/strategies", tags=["strategies"])


def service_of(request: Request) -> StrategyService:
    """The strategies of the service."""
    return request.app.state.context.running["strategies"]


TheStrategies = Annotated[StrategyService, Depends(service_of)]


StrategyId = Annotated[UUID, Path(description="The strategy.")]
Key = Annotated[
    str | None,
    Header(
        alias="Idempotency-Key",
        description="Sent again with the same request it gives what that made, with another one "
        "409. At most 255 printable ASCII characters.",
        max_length=255,
    ),
]
Limit = Annotated[
    int | None,
    Query(
        description=f"Items on a page, 1 to {PAGE_MAX}; {PAGE_DEFAULT} without.",
        json_schema_extra={"minimum": 1, "maximum": PAGE_MAX},
    ),
]
Cursor = Annotated[
    str | None, Query(description="`next_cursor` of the page before. Blank is the first.")
]
MAKING = (
    "unauthorized", "forbidden", "conflict", "payload_too_large", "unsupported_media_type",
    "validation_error",
)  # fmt: skip
OWNED = ("unauthorized", "forbidden", "not_found", "validation_error")
"""Refusals of every path that names a strategy."""


@router.post(
    "",
    status_code=201,
    response_model=StrategyBody,
    responses=errors(*MAKING),
    openapi_extra=body_of(StrategyV2, StrategyV1, examples=SPECS),
    summary="Create a strategy",
)
async def create(
    user: CurrentUser, body: JsonBody, strategies: TheStrategies, idempotency_key: Key = None
) -> Response:
    """Checks a specification and keeps it for ever: to change a strategy, make another one.

    Version 2 says everything that decides trades, and is held to the registry of indicators and
    its bounds. What it leaves to defaults is filled in now. Without `schema_version` it is of
    version 1, whose indicators are kept as they are sent.
    """
    return _created(*await strategies.create(body, user, idempotency_key))


@router.post(
    "/clone",
    status_code=201,
    response_model=StrategyBody,
    responses=errors(*MAKING, "not_found"),
    openapi_extra=body_of(CloneRequest, examples=CLONES),
    summary="Create a strategy like another one",
)
async def clone(
    user: CurrentUser, body: JsonBody, strategies: TheStrategies, idempotency_key: Key = None
) -> Response:
    """Copies a strategy, or takes a whole specification, on another instrument or timeframe."""
    return _created(*await strategies.clone(body, user, idempotency_key))


@router.post(
    "/from-variant",
    status_code=201,
    response_model=StrategyBody,
    responses=errors(*MAKING, "not_found"),
    openapi_extra=body_of(JobRow, TemplateReport, SavedReport, examples=examples.REPORTS),
    summary="Save a variant as a strategy",
)
async def save(
    user: CurrentUser, body: JsonBody, strategies: TheStrategies, idempotency_key: Key = None
) -> Response:
    """Keeps a variant whole: indicators, rules, stops, modes, costs and warm-up.

    Either a row of a job's best, or a base variant of its grid, or what
    POST /backtests/variant-report takes: the context of a search and the `payload` of one of its
    rows (`include_trades` says nothing here). Back-tested by its id over the same range, with the
    same `validation`, it gives the row it was saved from.
    """
    return _created(*await strategies.save(body, user, idempotency_key))


@router.api_route("/clone", methods=["GET", "DELETE"], include_in_schema=False)
@router.api_route("/from-variant", methods=["GET", "DELETE"], include_in_schema=False)
async def only_posted() -> Response:
    """Neither is the id of a strategy."""
    raise HTTPException(405, headers={"Allow": "POST"})


def _created(made: Strategy, new: bool) -> Response:
    headers = {"Location": f"/strategies/{made.strategy_id}"}
    if not new:
        headers["Idempotency-Replayed"] = "true"
    return json_response(made.record(), 201, headers)


@router.get(
    "",
    response_model=StrategyPage,
    responses=errors("unauthorized", "forbidden", "validation_error"),
    summary="List strategies, oldest first",
)
async def listed(
    user: CurrentUser,
    strategies: TheStrategies,
    symbol: Annotated[
        str | None, Query(description="Only those of this symbol. Blank is any.")
    ] = None,
    market_type: Annotated[
        str | None, Query(description="Only those of spot or of futures. Blank is any.")
    ] = None,
    frame: Annotated[
        str | None,
        Query(
            alias="timeframe",
            description=f"Only those on {', '.join(TIMEFRAMES)}. Blank is any.",
        ),
    ] = None,
    limit: Limit = None,
    cursor: Cursor = None,
) -> Response:
    """The user's strategies that are not deleted; a page goes on after the last of the one before.

    Filters are values that all strategies of the page have.
    """
    tags = {"symbol": symbol_filter(symbol), **tag_filters(market_type, frame)}
    most = page_limit(limit)
    with stored():
        found = await strategies.store.page(user.user_id, most, strategy_cursor(cursor), tags)
    return page(found, most)


def symbol_filter(raw: str | None) -> str | None:
    """The symbol to filter by; blank is none. Raises: InvalidRequest."""
    return storable((raw or "").strip().upper(), "query.symbol") or None


def tag_filters(market_type: str | None, frame: str | None) -> dict[str, str | None]:
    """The tags that a list of strategies is filtered by. Raises: InvalidRequest."""
    return {"market_type": _market_type(market_type), "timeframe": _timeframe(frame)}


def _market_type(raw: str | None) -> str | None:
    name = (raw or "").strip().lower()
    if name and name not in MARKET_TYPES:
        raise invalid("market_type must be spot or futures", "invalid_value", "query.market_type")
    return name or None


def _timeframe(raw: str | None) -> str | None:
    if not (raw or "").strip():
        return None
    try:
        return timeframe(raw).code  # type: ignore[arg-type]
    except InvalidInput as error:
        raise invalid(error.message, "invalid_value", "query.timeframe") from None


def page(found: list[Any], limit: int) -> Response:
    shown = found[:limit]
    more = len(found) > limit
    return json_response(
        {
            "items": [one.record() for one in shown],
            "next_cursor": shown[-1].cursor() if more else None,
        }
    )


@router.get(
    "/{strategy_id}",
    response_model=StrategyBody,
    responses=errors(*OWNED),
    summary="What a strategy does",
)
async def shown(strategy_id: StrategyId, user: CurrentUser, strategies: TheStrategies) -> Response:
    """Name and specification, as they were when it was made."""
    with stored():
        return json_response((await strategies.store.owned(strategy_id, user.user_id)).record())


@router.delete(
    "/{strategy_id}",
    status_code=204,
    response_class=Response,
    responses=errors(*OWNED, "conflict"),
    summary="Delete a strategy",
)
async def delete(strategy_id: StrategyId, user: CurrentUser, strategies: TheStrategies) -> Response:
    """Takes it from the list for good. While a run is active it is refused: stop it first."""
    with stored():
        await strategies.store.delete(strategy_id, user.user_id)
    return Response(status_code=204)


@router.get(
    "/{strategy_id}/events",
    response_model=EventPage,
    responses=errors(*OWNED),
    summary="What happened to a strategy, oldest first",
)
async def events(
    strategy_id: StrategyId,
    user: CurrentUser,
    strategies: TheStrategies,
    run_id: Annotated[UUID | None, Query(description="Only those of this run.")] = None,
    limit: Limit = None,
    cursor: Cursor = None,
) -> Response:
    """Every change of the strategy and its runs, each written together with the change itself."""
    most = page_limit(limit)
    with stored():
        await strategies.store.owned(strategy_id, user.user_id)
        found = await events_page(
            strategies.engine, strategy_id, most, event_cursor(cursor), run_id
        )
    return page(found, most)
