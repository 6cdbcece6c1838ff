"""Who a request comes from. Without a login module it is the development login, or nobody."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Header, Request

from api.errors import Unauthorized

HEADER: Final = "X-Roehub-User"
DEVELOPER: Final = UUID("00000000-0000-0000-0000-000000000001")
DEVELOPMENT: Final = ("dev", "test")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class User:
    """A user that a request comes from."""

    user_id: UUID


Login = Callable[[Request], Awaitable[User | None]]
"""The user of a request; None when nobody is logged in."""


async def nobody(request: Request) -> User | None:
    """The login of a service that has none."""
    return None


async def developer(request: Request) -> User | None:
    """Whoever the header says, without asking for a proof; a fixed user without the header."""
    name = request.headers.get(HEADER)
    if name is None or not name.strip():
        return User(DEVELOPER)
    try:
        return User(UUID(name.strip()))
    except ValueError:
        raise Unauthorized(
            f"{HEADER} is not a UUID; leave it out to be {DEVELOPER}",
            details={"error": "invalid_user"},
        ) from None


def development_login(environment: str) -> Login:
    """The login of an environment: none outside development, where the log says so."""
    if environment not in DEVELOPMENT:
        return nobody
    log.warning(
        "development login: every request is user %s, or whoever its header %s names; "
        "never serve this to others",
        DEVELOPER,
        HEADER,
    )
    return developer


async def current_user(
    request: Request,
    x_roehub_user: Annotated[
        str | None,
        Header(
            description="Development login only: the UUID of the user a request comes from. "
            f"Without it the user is {DEVELOPER}.",
        ),
    ] = None,
) -> User:
    """The user that a request comes from. Raises: Unauthorized."""
    login: Login = request.app.state.context.login
    user = await login(request)
    if user is None:
        raise Unauthorized("Authentication required", details={"error": "unauthorized"})
    return user


CurrentUser = Annotated[User, Depends(current_user)]
