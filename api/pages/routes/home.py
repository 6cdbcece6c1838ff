"""The first page: what there is, what was done last, and where to begin."""

from __future__ import annotations

from fastapi import APIRouter, Request, Response

from api.pages.rendering import page
from api.pages.visitor import Somebody
from api.routes.jobs import jobs_of

router = APIRouter()
_LAST = 5


@router.get("/")
async def home(request: Request, user: Somebody) -> Response:
    """The last jobs of a user; of a stranger what this is."""
    context = request.app.state.context
    jobs, is_empty = [], False
    if user is not None and "jobs" in context.running:
        jobs = (await (await jobs_of(request)).page(user, None, _LAST, None)).record()["items"]
        if context.market is not None:
            is_empty = await context.market.read(context.market.candle_store.is_empty)
    return page(request, "home.html", user, {"jobs": jobs, "is_empty": is_empty})
