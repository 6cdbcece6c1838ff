"""Who a request comes from: a login, an access token, or in development whoever it says."""

from __future__ import annotations

import logging
from collections.abc import Awaitable, Callable
from dataclasses import dataclass
from typing import Annotated, Final
from uuid import UUID

from fastapi import Depends, Header, Request

from api.errors import Forbidden, StorageFailed, Unauthorized
from api.identity.refusals import insufficient_scope, unauthorized
from api.identity.same_origin import SAFE_METHODS
from api.identity.scopes import ACCOUNT, READ, RUN

HEADER: Final = "X-Roehub-User"
DEVELOPER: Final = UUID("00000000-0000-0000-0000-000000000001")
DEVELOPMENT: Final = ("dev", "test")

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class User:
    """A user that a request comes from, what it may do, and the session that it is part of."""

    user_id: UUID
    paid_level: str = "free"
    scopes: frozenset[str] = frozenset((READ, RUN))
    session_id: UUID | None = None


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
    """The user that a request comes from, who may read, or run, what it asks for.

    Raises: Unauthorized, Forbidden.
    """
    login: Login = request.app.state.context.login
    user = await login(request)
    if user is None:
        raise Unauthorized("Authentication required", details={"error": "unauthorized"})
    return _allowed(user, READ if request.method in SAFE_METHODS else RUN)


async def still(request: Request, user: User) -> bool:
    """Whether a request that has been answered for a while is still of this user, who may read.

    A database that cannot be asked says nothing against him.
    """
    try:
        return (await current_user(request)).user_id == user.user_id
    except (Unauthorized, Forbidden):
        return False
    except StorageFailed:
        return True


async def known_user(request: Request) -> User:
    """The user of a session or of an access token, never one of the development login.

    Raises: Unauthorized, Forbidden.
    """
    user = await _proved(request)
    return _allowed(user, READ)


async def account_user(request: Request) -> User:
    """The user of a session, who may see and change logins, tokens and keys.

    Of access tokens only that of the local operator may. Raises: Unauthorized, Forbidden.
    """
    return _allowed(await _proved(request), ACCOUNT)


async def _proved(request: Request) -> User:
    identity = request.app.state.context.identity
    user = None if identity is None else await identity.authentication.proved(request)
    if user is None:
        raise unauthorized("missing_jwt_cookie")
    return user


def _allowed(user: User, scope: str) -> User:
    if scope not in user.scopes:
        log.warning("refused: user %s lacks the scope %s", user.user_id, scope)
        raise insufficient_scope(scope)
    return user


CurrentUser = Annotated[User, Depends(current_user)]
KnownUser = Annotated[User, Depends(known_user)]
AccountUser = Annotated[User, Depends(account_user)]
