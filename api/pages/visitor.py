"""Who looks at a page; whoever is nobody is led to the login and comes back afterwards."""

from __future__ import annotations

from typing import Annotated, Final
from urllib.parse import quote, urlsplit

from fastapi import Depends, Request

from api.errors import Unauthorized
from api.users import User, current_user

LOGIN: Final = "/login"


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


def own_path(raw: str | None) -> str:
    """`raw` where it is a path of ours, else the first page.

    Browsers take `//host` and `/\\host` for another host, and skip control characters.
    """
    text = raw or ""
    ours = text.startswith("/") and not text.startswith("//")
    return text if ours and "\\" not in text and text.isprintable() else "/"


def _wanted(request: Request) -> str:
    """The page that a request came for, or that asked for a part of itself."""
    place = urlsplit(request.headers.get("hx-current-url", "") or str(request.url))
    return own_path(place.path + (f"?{place.query}" if place.query else ""))
