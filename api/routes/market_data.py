"""Markets, instruments and candles of the store."""

from __future__ import annotations

from datetime import datetime
from enum import StrEnum
from typing import Annotated, Any

from fastapi import APIRouter, Query, Response
from fastapi.responses import StreamingResponse

from api.candles import ARROW, Wanted, arrow_chunks, begun, json_chunks, tables
from api.context import Context
from api.envelope import JSON, errors, json_response
from api.errors import invalid
from api.market import market_of
from api.schemas.market_data import (
    CandleList,
    CoverageList,
    InstrumentList,
    MarketList,
    SampleBody,
)
from api.users import CurrentUser
from compute.errors import InvalidInput, InvalidRequest
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.coverage import coverage as coverage_of

router = APIRouter(prefix="/market-data", tags=["market-data"])

_READ = errors("unauthorized", "forbidden", "unavailable")
_ASKED = errors("unauthorized", "forbidden", "validation_error", "unavailable")

MarketId = Annotated[int, Query(ge=1, le=65535, description="Number of the market.")]
Symbol = Annotated[
    str, Query(min_length=1, max_length=64, description="Symbol; trimmed and upper-cased.")
]
Limit = Annotated[int, Query(ge=1, le=200, description="Most items of the answer.")]


class Form(StrEnum):
    """How candles are sent."""

    json = "json"
    arrow = "arrow"


@router.get("/markets", summary="Enabled markets", response_model=MarketList, responses=_READ)
async def markets(user: CurrentUser, context: Context) -> Response:
    """The markets that are not switched off, by number."""
    market = market_of(context.market)
    rows = await market.read(market.references.markets)
    names = ("market_id", "exchange_name", "market_type", "market_code")
    items = [{name: getattr(row, name) for name in names} for row in rows if row.is_enabled]
    return json_response({"items": items})


@router.get(
    "/instruments",
    summary="Active instruments of a market",
    response_model=InstrumentList,
    responses=_ASKED,
)
async def instruments(
    user: CurrentUser,
    context: Context,
    market_id: MarketId,
    q: Annotated[
        str, Query(max_length=64, description="How the symbols begin; blank means any.")
    ] = "",
    limit: Limit = 50,
) -> Response:
    """Instruments whose candles are collected, by symbol; none for a market that is not there."""
    market = market_of(context.market)
    _text("query.q", q)

    def found() -> list[Instrument]:
        enabled = {row.market_id for row in market.references.markets() if row.is_enabled}
        return market.references.search(market_id, q, limit) if market_id in enabled else []

    items = [_named(instrument) for instrument in await market.read(found)]
    return json_response({"items": items})


@router.get(
    "/coverage",
    summary="What is stored of each instrument",
    response_model=CoverageList,
    responses=_ASKED,
)
async def coverage(
    user: CurrentUser,
    context: Context,
    market_id: Annotated[
        int | None, Query(ge=1, le=65535, description="Only instruments of this market.")
    ] = None,
    symbol: Annotated[
        str | None, Query(min_length=1, max_length=64, description="Only this symbol.")
    ] = None,
    limit: Limit = 50,
    cursor: Annotated[
        str | None, Query(max_length=80, description="`next_cursor` of the page before.")
    ] = None,
) -> Response:
    """From when to when there are candles, and how many minutes between have none."""
    market = market_of(context.market)
    after = None
    if cursor is not None and cursor.strip():
        after = _instrument("query.cursor", "invalid_cursor", lambda: Instrument.parse(cursor))
    if symbol is not None:
        _text("query.symbol", symbol)
    wanted = None if symbol is None else symbol.strip().upper()

    def page() -> dict[str, Any]:
        chosen = [
            one
            for one in market.candle_store.instruments()
            if (market_id is None or one.market_id == market_id)
            and (wanted is None or one.symbol == wanted)
            and (after is None or one > after)
        ]
        found = [coverage_of(market.candle_store, one) for one in chosen[:limit]]
        more = len(chosen) > limit
        return {
            "items": [one.record() for one in found if one is not None],
            "next_cursor": str(chosen[limit - 1]) if more else None,
        }

    return json_response(await market.read(page))


@router.get(
    "/candles",
    summary="Stored one-minute candles",
    response_model=CandleList,
    response_class=Response,
    responses={
        **_ASKED,
        200: {
            "description": "The candles, streamed.",
            "content": {
                JSON: {},
                ARROW: {"schema": {"type": "string", "format": "binary"}},
            },
        },
    },
)
async def candles(
    user: CurrentUser,
    context: Context,
    market_id: MarketId,
    symbol: Symbol,
    start: Annotated[datetime, Query(description="First instant, with a time zone.")],
    end: Annotated[datetime, Query(description="The instant after the last, with a time zone.")],
    format: Annotated[Form, Query(description="JSON, or an Arrow stream.")] = Form.json,
) -> Response:
    """Candles that open in the range, by time; a minute that has none is left out."""
    market = market_of(context.market)
    period = _period(start, end)
    _text("query.symbol", symbol)
    instrument = _instrument("query.symbol", "value_error", lambda: Instrument(market_id, symbol))
    wanted = Wanted(instrument, period)
    wanted.check(context.api.max_candles)
    found = await begun(tables(market, wanted))
    if format is Form.arrow:
        return StreamingResponse(arrow_chunks(found), media_type=ARROW)
    return StreamingResponse(json_chunks(wanted, found), media_type=JSON)


@router.post(
    "/sample",
    summary="Store made-up candles to try things on",
    response_model=SampleBody,
    responses=_READ,
)
async def sample(user: CurrentUser, context: Context) -> Response:
    """Stores a year of SYNTHUSDT, which a generator made and which says so wherever it is shown.

    Of the store nothing else is changed, and a second time nothing at all.
    """
    found = await market_of(context.market).sample.stored(context.now_ms())
    return json_response(found.record())


def _named(instrument: Instrument) -> dict[str, Any]:
    return {"market_id": instrument.market_id, "symbol": instrument.symbol}


def _period(start: datetime, end: datetime) -> Period:
    faults = [
        {"path": f"query.{name}", "code": "timezone_aware", "message": "needs a time zone, like Z"}
        for name, moment in (("start", start), ("end", end))
        if moment.utcoffset() is None
    ]
    if faults:
        raise InvalidRequest("Validation failed", faults)
    try:
        return Period.of(start, end)
    except (InvalidInput, OverflowError) as error:
        raise invalid(str(error), "value_error", "query.start") from None


def _instrument(path: str, code: str, made: Any) -> Instrument:
    try:
        return made()
    except InvalidInput as error:
        raise invalid(error.message, code, path) from None


def _text(path: str, value: str) -> None:
    """Raises InvalidRequest for a text that no store can be asked for."""
    if not value.isprintable():
        raise invalid("must be a text of printable characters", "string_pattern", path)
