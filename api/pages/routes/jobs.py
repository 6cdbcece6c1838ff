"""The list of a user's jobs."""

from __future__ import annotations

from typing import Annotated, Any
from urllib.parse import urlencode

from fastapi import APIRouter, Depends, Query, Request, Response

from api.pages.job_view import STAGE_NAMES
from api.pages.rendering import page, part
from api.pages.visitor import Visitor
from api.routes.jobs import TheJobs
from cluster.jobs.job import STATES
from cluster.jobs.listing import (
    Page,
    Wanted,
    cursor_filter,
    state_filter,
    symbol_filter,
    timeframe_filter,
)
from compute.market.timeframe import TIMEFRAMES

router = APIRouter()
_ROWS = 20

Text = Annotated[str | None, Query(max_length=64)]
CursorText = Annotated[str | None, Query(alias="cursor", max_length=200)]


def _wanted(state: Text = None, symbol: Text = None, timeframe: Text = None) -> Wanted:
    return Wanted(state_filter(state), symbol_filter(symbol), timeframe_filter(timeframe))


Filters = Annotated[Wanted, Depends(_wanted)]


@router.get("/backtests/jobs")
async def listed(request: Request, user: Visitor, jobs: TheJobs, wanted: Filters) -> Response:
    """Jobs, newest first: those that are wanted, or all."""
    found = await jobs.page(user, wanted, _ROWS, None)
    choices = {"states": STATES, "timeframes": TIMEFRAMES}
    return page(request, "jobs.html", user, _values(found, wanted) | choices)


@router.get("/_partial/jobs")
async def rows(
    user: Visitor, jobs: TheJobs, wanted: Filters, cursor: CursorText = None
) -> Response:
    """The jobs below `cursor`."""
    found = await jobs.page(user, wanted, _ROWS, cursor_filter(cursor))
    return part("_jobs.html", _values(found, wanted))


def _values(found: Page, wanted: Wanted) -> dict[str, Any]:
    given = {
        "state": wanted.state,
        "symbol": wanted.symbol,
        "timeframe": wanted.timeframe,
        "cursor": found.next_cursor,
    }
    query = urlencode({name: value for name, value in given.items() if value})
    values = {"found": found.record(), "wanted": wanted, "query": query}
    return {**values, "stages": STAGE_NAMES}
