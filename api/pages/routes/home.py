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
    jobs = []
    if user is not None and "jobs" in request.app.state.context.running:
        jobs = (await (await jobs_of(request)).page(user, None, _LAST, None)).record()["items"]
    return page(request, "home.html", user, {"jobs": jobs})
