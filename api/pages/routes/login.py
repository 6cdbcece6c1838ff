"""Where a visitor logs in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.pages.rendering import TELEGRAM, page
from api.pages.visitor import Somebody, own_path

router = APIRouter()


@router.get("/login")
async def login(
    request: Request,
    user: Somebody,
    back: Annotated[str | None, Query(alias="next", max_length=2000)] = None,
) -> Response:
    """The login, or the page that was wanted where somebody is logged in."""
    place = own_path(back)
    if user is not None:
        return Response(status_code=303, headers={"Location": place})
    identity = request.app.state.context.identity
    bot = None if identity is None else getattr(identity.settings, "bot_name", None)
    policy = TELEGRAM if bot else None
    return page(request, "login.html", None, {"back": place, "bot": bot}, policy=policy)
