"""Where a visitor logs in and out."""

from __future__ import annotations

from typing import Annotated

from fastapi import APIRouter, Query, Request, Response

from api.pages.rendering import TELEGRAM, page
from api.pages.visitor import Somebody, keep_place, own_path

router = APIRouter()


@router.get("/login")
async def login(
    request: Request,
    user: Somebody,
    back: Annotated[str | None, Query(alias="next")] = None,
    ended: bool = False,
) -> Response:
    """The login, or the page that was wanted where somebody is logged in.

    `ended` says that somebody was, until now; the cookie of a dead session says so, too.
    """
    place = own_path(back)
    if user is not None:
        return Response(status_code=303, headers={"Location": place})
    identity = request.app.state.context.identity
    bot = None if identity is None else identity.settings.bot_name
    if identity is not None:
        ended = ended or identity.settings.cookie_name in request.cookies
    values = {"back": place, "bot": bot, "ended": ended}
    response = page(request, "login.html", None, values, policy=TELEGRAM if bot else None)
    if identity is not None:
        keep_place(response, place, identity.settings)
    return response


@router.get("/logout")
async def logout(request: Request, user: Somebody) -> Response:
    """Asks whether to log out: a link of another site shall not do it. Strangers get the login."""
    if user is None:
        return Response(status_code=303, headers={"Location": "/login"})
    return page(request, "logout.html", user, {})
