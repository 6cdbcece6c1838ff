"""The list of a user's jobs."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.pages.rendering import page, part
from api.pages.visitor import Visitor
from api.routes.jobs import TheJobs
from cluster.jobs.job import STATES
from cluster.jobs.listing import cursor_filter, state_filter

router = APIRouter()
_ROWS = 20

State = Annotated[str | None, Query()]
CursorText = Annotated[str | None, Query(alias="cursor", max_length=200)]


@router.get("/backtests/jobs")
async def listed(request: Request, user: Visitor, jobs: TheJobs, state: State = None) -> Response:
    """Jobs, newest first, of one state or of all."""
    found = await jobs.page(user, state_filter(state), _ROWS, None)
    values = {"found": found.record(), "state": state or "", "states": STATES}
    return page(request, "jobs.html", user, values)


@router.get("/_partial/jobs")
async def rows(
    user: Visitor, jobs: TheJobs, state: State = None, cursor: CursorText = None
) -> Response:
    """The jobs below `cursor`."""
    found = await jobs.page(user, state_filter(state), _ROWS, cursor_filter(cursor))
    return part("_jobs.html", {"found": found.record(), "state": state or ""})
