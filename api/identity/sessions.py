"""Sessions: the server's side of a login, which it can end at any time."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import and_, delete, func, insert, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from api.identity.refusals import unauthorized
from api.identity.tables import SESSIONS, USERS
from api.identity.users import StoredUser, user_of

SEEN_EVERY: Final = timedelta(minutes=1)
"""`last_seen_at` is at most this late, so that not every request is a write."""

KEPT: Final = timedelta(days=30)
"""How long an expired session is kept."""


@dataclass(frozen=True, slots=True)
class Session:
    """A login: `network` and `user_agent` are for its owner to recognise it."""

    session_id: UUID
    user_id: UUID
    created_at: datetime
    last_seen_at: datetime
    expires_at: datetime
    user_agent: str
    network: str


_COLUMNS: Final = tuple(SESSIONS.c[name] for name in Session.__dataclass_fields__)


def _session(row: Any) -> Session:
    return Session(*(row._mapping[column] for column in _COLUMNS))


async def open_session(
    connection: AsyncConnection, user_id: UUID, life: timedelta, user_agent: str, network: str
) -> Session:
    """A new session, by the clock of the database."""
    values = {
        "session_id": uuid4(),
        "user_id": user_id,
        "created_at": func.now(),
        "last_seen_at": func.now(),
        "expires_at": func.date_trunc("second", func.now() + life),
        "user_agent": user_agent,
        "network": network,
    }
    query = insert(SESSIONS).values(values).returning(*_COLUMNS)
    return _session((await connection.execute(query)).one())


async def user_of_session(
    connection: AsyncConnection, user_id: UUID, session_id: UUID, idle: timedelta
) -> tuple[StoredUser, bool]:
    """(the user of a session that is open, whether `seen` is due).

    Raises: Unauthorized.
    """
    mine = and_(SESSIONS.c.user_id == USERS.c.user_id, SESSIONS.c.session_id == session_id)
    query = (
        select(
            *USERS.c,
            (SESSIONS.c.session_id.is_not(None) & SESSIONS.c.revoked_at.is_(None)).label("open"),
            (SESSIONS.c.expires_at <= func.now()).label("expired"),
            (SESSIONS.c.last_seen_at + idle <= func.now()).label("idle"),
            (SESSIONS.c.last_seen_at + SEEN_EVERY <= func.now()).label("due"),
        )
        .select_from(USERS.outerjoin(SESSIONS, mine))
        .where(USERS.c.user_id == user_id)
    )
    row = (await connection.execute(query)).first()
    if row is None:
        raise unauthorized("unknown_user")
    if row.is_deleted:
        raise unauthorized("deleted_user")
    for wrong, code in (
        (not row.open, "revoked_session"),
        (row.expired, "expired_token"),
        (row.idle, "idle_session"),
    ):
        if wrong:
            raise unauthorized(code)
    return user_of(row), row.due


async def seen(connection: AsyncConnection, session_id: UUID) -> None:
    """Notes that a session is in use."""
    mine = SESSIONS.c.session_id == session_id
    await connection.execute(update(SESSIONS).where(mine).values(last_seen_at=func.now()))


async def open_sessions(
    connection: AsyncConnection, user_id: UUID, idle: timedelta
) -> list[Session]:
    """The sessions in which a user is logged in, oldest first."""
    query = (
        select(*_COLUMNS)
        .where(
            SESSIONS.c.user_id == user_id,
            SESSIONS.c.revoked_at.is_(None),
            SESSIONS.c.expires_at > func.now(),
            SESSIONS.c.last_seen_at + idle > func.now(),
        )
        .order_by(SESSIONS.c.created_at, SESSIONS.c.session_id)
    )
    return [_session(row) for row in await connection.execute(query)]


async def all_sessions(connection: AsyncConnection, user_id: UUID) -> list[Session]:
    """Every session that is kept of a user, oldest first."""
    query = select(*_COLUMNS).where(SESSIONS.c.user_id == user_id)
    query = query.order_by(SESSIONS.c.created_at, SESSIONS.c.session_id)
    return [_session(row) for row in await connection.execute(query)]


async def end_session(connection: AsyncConnection, user_id: UUID, session_id: UUID) -> bool:
    """Whether a session of this user was open, and is now ended."""
    return session_id in await _end(connection, user_id, SESSIONS.c.session_id == session_id)


async def end_sessions(connection: AsyncConnection, user_id: UUID) -> int:
    """How many sessions of a user were open, and are now ended."""
    return len(await _end(connection, user_id))


async def _end(connection: AsyncConnection, user_id: UUID, *which: Any) -> list[UUID]:
    query = (
        update(SESSIONS)
        .where(SESSIONS.c.user_id == user_id, SESSIONS.c.revoked_at.is_(None), *which)
        .values(revoked_at=func.now())
        .returning(SESSIONS.c.session_id)
    )
    return [row.session_id for row in await connection.execute(query)]


async def forget_old_sessions(connection: AsyncConnection) -> None:
    """Removes sessions that expired long ago."""
    await connection.execute(delete(SESSIONS).where(SESSIONS.c.expires_at + KEPT <= func.now()))
