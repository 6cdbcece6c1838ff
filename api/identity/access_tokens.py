"""Access tokens: for programs, with few rights and an end; the database has their hash alone."""

from __future__ import annotations

import hashlib
import secrets
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import delete, func, insert, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict
from api.identity.audit import record
from api.identity.refusals import unauthorized
from api.identity.tables import ACCESS_TOKENS, USERS
from api.identity.users import StoredUser, locked, user_of

PREFIX: Final = "roehub_pat_"
"""What every token begins with, so that scanners of repositories know one."""

DEFAULT_DAYS: Final = 90
MAX_DAYS: Final = 365
MAX_TOKENS: Final = 50
MAX_ENDED: Final = 100
"""Tokens of a user that no longer work and are still listed, the newest."""
_USED_EVERY: Final = timedelta(minutes=1)


@dataclass(frozen=True, slots=True)
class AccessToken:
    """A token as its owner sees it: all but the token itself."""

    token_id: UUID
    user_id: UUID
    name: str
    scopes: tuple[str, ...]
    created_at: datetime
    expires_at: datetime
    last_used_at: datetime | None
    revoked_at: datetime | None


_COLUMNS: Final = tuple(ACCESS_TOKENS.c[name] for name in AccessToken.__dataclass_fields__)


def _token(row: Any) -> AccessToken:
    values: dict[str, Any] = {column.name: row._mapping[column] for column in _COLUMNS}
    values["scopes"] = tuple(values["scopes"])
    return AccessToken(**values)


def token_hash(token: str) -> bytes:
    """What is kept of a token. It has 256 random bits: nothing slower than a hash is needed."""
    return hashlib.sha256(token.encode()).digest()


async def make_token(
    connection: AsyncConnection, user_id: UUID, name: str, scopes: Iterable[str], days: int
) -> tuple[AccessToken, str]:
    """(the token's row, the token itself, which is shown once and kept nowhere).

    Raises: Conflict where the user has too many.
    """
    await locked(connection, user_id)
    if await usable_tokens(connection, user_id) >= MAX_TOKENS:
        raise Conflict(
            f"the user has {MAX_TOKENS} access tokens that work; revoke one",
            details={"error": "too_many_access_tokens", "max_tokens": MAX_TOKENS},
        )
    token = PREFIX + secrets.token_urlsafe(32)
    values = {
        "token_id": uuid4(),
        "user_id": user_id,
        "name": name,
        "token_hash": token_hash(token),
        "scopes": sorted(set(scopes)),
        "created_at": func.now(),
        "expires_at": func.now() + timedelta(days=days),
    }
    await _forget_ended(connection, user_id)
    row = await connection.execute(insert(ACCESS_TOKENS).values(values).returning(*_COLUMNS))
    found = _token(row.one())
    await record(connection, user_id, "access_token.made", {"token_id": str(found.token_id)})
    return found, token


async def _forget_ended(connection: AsyncConnection, user_id: UUID) -> None:
    """Removes the tokens that ended before the last ones; the audit log has them."""
    ended = or_(ACCESS_TOKENS.c.revoked_at.is_not(None), ACCESS_TOKENS.c.expires_at <= func.now())
    old = (
        select(ACCESS_TOKENS.c.token_id)
        .where(ACCESS_TOKENS.c.user_id == user_id, ended)
        .order_by(ACCESS_TOKENS.c.created_at.desc(), ACCESS_TOKENS.c.token_id.desc())
        .offset(MAX_ENDED)
    )
    await connection.execute(delete(ACCESS_TOKENS).where(ACCESS_TOKENS.c.token_id.in_(old)))


async def user_of_token(connection: AsyncConnection, token: str) -> tuple[StoredUser, AccessToken]:
    """(the user, the token) that a request came with; notes that it is in use.

    Raises: Unauthorized.
    """
    query = (
        select(*_COLUMNS, *USERS.c, (ACCESS_TOKENS.c.expires_at <= func.now()).label("expired"))
        .select_from(ACCESS_TOKENS.join(USERS, USERS.c.user_id == ACCESS_TOKENS.c.user_id))
        .where(ACCESS_TOKENS.c.token_hash == token_hash(token))
    )
    row = (await connection.execute(query)).first()
    if row is None:
        raise unauthorized("invalid_access_token")
    for wrong, code in (
        (row.revoked_at is not None, "revoked_access_token"),
        (row.expired, "expired_access_token"),
        (row.is_deleted, "deleted_user"),
    ):
        if wrong:
            raise unauthorized(code)
    found = _token(row)
    await connection.execute(
        update(ACCESS_TOKENS)
        .where(
            ACCESS_TOKENS.c.token_id == found.token_id,
            ACCESS_TOKENS.c.last_used_at.is_(None)
            | (ACCESS_TOKENS.c.last_used_at + _USED_EVERY <= func.now()),
        )
        .values(last_used_at=func.now())
    )
    return user_of(row), found


async def tokens_of(connection: AsyncConnection, user_id: UUID) -> list[AccessToken]:
    """The tokens of a user that are kept, oldest first, also those that have ended."""
    query = select(*_COLUMNS).where(ACCESS_TOKENS.c.user_id == user_id)
    query = query.order_by(ACCESS_TOKENS.c.created_at, ACCESS_TOKENS.c.token_id)
    return [_token(row) for row in await connection.execute(query)]


async def usable_tokens(connection: AsyncConnection, user_id: UUID) -> int:
    """How many tokens of a user work now."""
    query = (
        select(func.count())
        .select_from(ACCESS_TOKENS)
        .where(
            ACCESS_TOKENS.c.user_id == user_id,
            ACCESS_TOKENS.c.revoked_at.is_(None),
            ACCESS_TOKENS.c.expires_at > func.now(),
        )
    )
    return (await connection.execute(query)).scalar_one()


async def revoke_token(connection: AsyncConnection, user_id: UUID, token_id: UUID) -> bool:
    """Whether this token of this user was not revoked yet, and now is."""
    return bool(await _revoke(connection, user_id, ACCESS_TOKENS.c.token_id == token_id))


async def forget_named(connection: AsyncConnection, user_id: UUID, name: str) -> None:
    """Revokes the tokens of this user and name, and removes them; the audit log has them."""
    named = ACCESS_TOKENS.c.name == name
    await _revoke(connection, user_id, named)
    await connection.execute(delete(ACCESS_TOKENS).where(ACCESS_TOKENS.c.user_id == user_id, named))


async def _revoke(connection: AsyncConnection, user_id: UUID, which: Any) -> int:
    query = (
        update(ACCESS_TOKENS)
        .where(ACCESS_TOKENS.c.user_id == user_id, ACCESS_TOKENS.c.revoked_at.is_(None), which)
        .values(revoked_at=func.now())
        .returning(ACCESS_TOKENS.c.token_id)
    )
    revoked = [row.token_id for row in await connection.execute(query)]
    for token_id in revoked:
        await record(connection, user_id, "access_token.revoked", {"token_id": str(token_id)})
    return len(revoked)
