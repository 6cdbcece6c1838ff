"""Who looks at a page; whoever is nobody is led to the login and comes back afterwards."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import quote, unquote, urlsplit

from fastapi import Depends, Request, Response

from api.errors import Unauthorized
from api.identity.settings import IdentitySettings
from api.users import User, current_user
from compute.errors import RoehubError

LOGIN: Final = "/login"
_PLACE: Final = "roehub_place"
_PLACE_SECONDS: Final = 600
_LONGEST: Final = 1000
"""Characters of a path that is kept: quoted, it has to fit into a cookie."""


class LoginNeeded(Exception):
    """Nobody is logged in; `back` is where the visitor was going."""

    def __init__(self, back: str) -> None:
        super().__init__(back)
        self.place = f"{LOGIN}?next={quote(back, safe='/')}"


async def visitor(request: Request) -> User:
    """The user who looks at the page. Raises: LoginNeeded, Forbidden."""
    try:
        return await current_user(request)
    except Unauthorized:
        raise LoginNeeded(_wanted(request)) from None


Visitor = Annotated[User, Depends(visitor)]


async def somebody(request: Request) -> User | None:
    """The user who looks at the page, None for a stranger."""
    try:
        return await current_user(request)
    except Unauthorized:
        return None


Somebody = Annotated[User | None, Depends(somebody)]


async def recognised(request: Request) -> User | None:
    """The user who is told of an error; None where he cannot be known now."""
    try:
        return await current_user(request)
    except RoehubError:
        return None


def own_path(raw: str | None) -> str:
    """`raw` where it is a path of ours, else the first page.

    Browsers take `//host` and `/\\host` for another host, and skip control characters. No address
    of ours has other letters than those of ASCII, which is all that a header takes.
    """
    text = raw or ""
    ours = text.startswith("/") and not text.startswith("//") and len(text) <= _LONGEST
    return text if ours and "\\" not in text and text.isascii() and text.isprintable() else "/"


def keep_place(response: Response, place: str, settings: IdentitySettings) -> None:
    """Leaves where a visitor was going with his browser, for a login that begins elsewhere."""
    secure = settings.cookie_secure
    response.set_cookie(
        _PLACE, quote(place), _PLACE_SECONDS, secure=secure, httponly=True, samesite="lax"
    )


def forget_place(response: Response, settings: IdentitySettings) -> None:
    """Takes it back: he is there."""
    response.delete_cookie(_PLACE, secure=settings.cookie_secure, httponly=True, samesite="lax")


def kept_place(request: Request) -> str:
    """Where a visitor was going when he came to the login; else the first page."""
    return own_path(unquote(request.cookies.get(_PLACE, "")))


def _wanted(request: Request) -> str:
    """The page that a request came for, or that asked for a part of itself."""
    place = urlsplit(request.headers.get("hx-current-url", "") or str(request.url))
    return own_path(place.path + (f"?{place.query}" if place.query else ""))
