"""The account of a visitor: logins, tokens, second factor, exchange keys, chats, its end."""

from __future__ import annotations

from collections.abc import Awaitable, Callable
from dataclasses import asdict
from typing import Annotated, Any, Final
from urllib.parse import parse_qs, urlsplit

import segno
from fastapi import APIRouter, Depends, Request, Response

from api.context import AppContext, Context
from api.errors import Forbidden, NotFound
from api.identity.access_tokens import DEFAULT_DAYS, MAX_DAYS, tokens_of
from api.identity.exchange_keys import ExchangeKeys
from api.identity.service import Identity
from api.identity.sessions import open_sessions
from api.identity.two_factor import TwoFactor
from api.pages.rendering import page, part
from api.pages.routes.build import SentForm
from api.pages.visitor import Visitor
from api.users import User
from live.telegram.chats import chats_of

router = APIRouter()

Values = dict[str, Any]
_QR_SCALE: Final = 5


def logged_in(user: Visitor) -> User:
    """A visitor who has logged in: of others nothing is kept. Raises: Forbidden."""
    if user.session_id is None:
        raise Forbidden("log in first: only who is logged in has an account")
    return user


LoggedIn = Annotated[User, Depends(logged_in)]


async def _sessions(identity: Identity, user: User) -> Values:
    async with identity.transaction() as connection:
        found = await open_sessions(connection, user.user_id, identity.idle)
    return {"sessions": [asdict(one) | {"current": one.session_id == user.session_id}
                         for one in found]}  # fmt: skip


async def _tokens(identity: Identity, user: User) -> Values:
    async with identity.transaction() as connection:
        found = await tokens_of(connection, user.user_id)
    now_ms = identity.now_ms()
    tokens = [
        asdict(one) | {"works": not one.revoked_at and one.expires_at.timestamp() * 1000 > now_ms}
        for one in reversed(found)
    ]
    return {"tokens": tokens, "default_days": DEFAULT_DAYS, "most_days": MAX_DAYS}


async def _two_factor(identity: Identity, user: User) -> Values:
    return {"factor": await TwoFactor(identity).status(user.user_id, user.session_id)}


async def _exchange_keys(identity: Identity, user: User) -> Values:
    values = await _two_factor(identity, user)
    if values["factor"].state != "enabled":
        return values | {"keys": []}
    return values | {"keys": await ExchangeKeys(identity).listed(user.user_id)}


async def _chats(identity: Identity, user: User) -> Values:
    async with identity.transaction() as connection:
        return {"chats": await chats_of(connection, user.user_id)}


SECTIONS: Final[dict[str, Callable[[Identity, User], Awaitable[Values]]]] = {
    "sessions": _sessions,
    "two-factor": _two_factor,
    "tokens": _tokens,
    "keys": _exchange_keys,
    "chats": _chats,
}
"""What the page is made of, by the names of its parts."""


@router.get("/account")
async def shown(request: Request, user: Visitor, context: Context) -> Response:
    """The account; who has not logged in is told what that means."""
    if user.session_id is None:
        return page(request, "account_nobody.html", user)
    values: Values = {}
    for load in SECTIONS.values():
        values |= await load(_identity(context), user)
    return page(request, "account.html", user, values)


@router.get("/_partial/account/{section}")
async def section_part(section: str, user: LoggedIn, context: Context) -> Response:
    """One section as it is now."""
    if section not in SECTIONS:
        raise NotFound("the account has no such section")
    values = await SECTIONS[section](_identity(context), user)
    return part(f"_account_{section.replace('-', '_')}.html", values)


@router.post("/_partial/account/two-factor")
async def set_up(user: LoggedIn, context: Context, form: SentForm) -> Response:
    """A new secret as a QR code: in this answer alone, never to be read again."""
    uri = await TwoFactor(_identity(context)).setup(user.user_id)
    (secret,) = parse_qs(urlsplit(uri).query)["secret"]
    values = {
        "picture": segno.make(uri, error="m").svg_data_uri(scale=_QR_SCALE, light="white"),
        "secret": " ".join(secret[i : i + 4] for i in range(0, len(secret), 4)),
    }
    return part("_account_two_factor_new.html", values)


def _identity(context: AppContext) -> Identity:
    assert context.identity is not None  # these routes are there with users alone
    return context.identity
