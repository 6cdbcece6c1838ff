"""Chats of users: asked for with a link, bound from within the chat, and left.

A link is good once and for a quarter of an hour; of its token the database has the hash alone.
"""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass
from datetime import datetime, timedelta
from enum import Enum
from typing import Any, Final
from uuid import UUID

from sqlalchemy import delete, func, select, text
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cluster.postgres.errors import AccountErased
from cluster.postgres.owners import hold_owner
from live.telegram.tables import BOTS, CHANNELS, LINKS

LIFE: Final = timedelta(minutes=15)
_NOW: Final = func.clock_timestamp()
_OWNER_OF: Final = text(
    "SELECT u.user_id, u.telegram_user_id FROM identity_telegram_links l"
    " JOIN identity_users u USING (user_id)"
    " WHERE l.token_hash = :hash AND l.expires_at > clock_timestamp() AND NOT u.is_deleted"
    " FOR UPDATE OF l"
)
_AUDIT: Final = text(
    "INSERT INTO identity_audit (user_id, event, details) VALUES (:user_id, :event, '{}')"
)
"""Without the chat: that of a person has the number of his Telegram account."""


class Bound(Enum):
    """What became of an attempt to bind a chat."""

    BOUND = "bound"
    UNKNOWN = "the link is not known, was used, or has expired"
    OTHER_ACCOUNT = "the link was made for another Telegram account"
    TAKEN = "the chat is bound to another user"


@dataclass(frozen=True, slots=True)
class Link:
    """What binds a chat once; `bot` is where, None while no process has served one."""

    token: str
    expires_at: datetime
    bot: str | None

    @property
    def url(self) -> str | None:
        """Opens the chat with the bot, and sends the token to it."""
        return None if self.bot is None else f"https://t.me/{self.bot}?start={self.token}"


@dataclass(frozen=True, slots=True)
class Channel:
    """A chat of a user."""

    chat_id: int
    is_confirmed: bool
    confirmed_at: datetime | None


async def make_link(connection: AsyncConnection, user_id: UUID) -> Link:
    """A new link of a user, who has no other one from now on."""
    await hold_owner(connection, user_id)
    token = secrets.token_urlsafe(32)
    made = insert(LINKS).values(
        user_id=user_id, token_hash=_hash(token), created_at=func.now(), expires_at=_NOW + LIFE
    )
    query = made.on_conflict_do_update(
        index_elements=[LINKS.c.user_id],
        set_={name: made.excluded[name] for name in ("token_hash", "created_at", "expires_at")},
    ).returning(LINKS.c.expires_at)
    expires_at = (await connection.execute(query)).scalar_one()
    await _record(connection, user_id, "telegram_chat.asked")
    newest = select(BOTS.c.username).order_by(BOTS.c.lease_until.desc()).limit(1)
    return Link(token, expires_at, (await connection.execute(newest)).scalar_one_or_none())


async def bind(
    connection: AsyncConnection, token: str, chat_id: int, telegram_user_id: int | None = None
) -> Bound:
    """Binds a chat to whom the link of a token was made for, who has used it then.

    `telegram_user_id` is who sent the token: a user who logs in with Telegram binds chats of that
    account alone. None is an operator, who knows what he does.
    """
    whose = select(LINKS.c.user_id).where(LINKS.c.token_hash == _hash(token))
    user_id = (await connection.execute(whose)).scalar_one_or_none()
    if user_id is None:
        return Bound.UNKNOWN
    try:
        await hold_owner(connection, user_id)  # before the link, as an erasure does
    except AccountErased:
        return Bound.UNKNOWN
    row = (await connection.execute(_OWNER_OF, {"hash": _hash(token)})).one_or_none()
    if row is None:
        return Bound.UNKNOWN
    if telegram_user_id is not None and row.telegram_user_id not in (None, telegram_user_id):
        return Bound.OTHER_ACCOUNT
    made = insert(CHANNELS).values(
        user_id=user_id, chat_id=chat_id, is_confirmed=True, confirmed_at=_NOW
    )
    query = made.on_conflict_do_update(
        index_elements=[CHANNELS.c.chat_id],
        set_={"is_confirmed": True, "confirmed_at": made.excluded.confirmed_at},
        where=CHANNELS.c.user_id == made.excluded.user_id,
    ).returning(CHANNELS.c.chat_id)
    if (await connection.execute(query)).one_or_none() is None:
        return Bound.TAKEN
    await connection.execute(delete(LINKS).where(LINKS.c.user_id == user_id))
    await _record(connection, user_id, "telegram_chat.bound")
    return Bound.BOUND


async def leave(connection: AsyncConnection, chat_id: int) -> bool:
    """Whether a chat was bound to somebody, and is not any more."""
    return await _unbound(connection, CHANNELS.c.chat_id == chat_id)


async def unbind(connection: AsyncConnection, user_id: UUID, chat_id: int) -> bool:
    """Whether a chat was bound to this user, and is not any more."""
    return await _unbound(connection, CHANNELS.c.user_id == user_id, CHANNELS.c.chat_id == chat_id)


async def chats_of(connection: AsyncConnection, user_id: UUID) -> list[Channel]:
    """The chats of a user; the first one gets the messages, if it is confirmed."""
    query = (
        select(CHANNELS.c.chat_id, CHANNELS.c.is_confirmed, CHANNELS.c.confirmed_at)
        .where(CHANNELS.c.user_id == user_id)
        .order_by(
            CHANNELS.c.is_confirmed.desc(),
            CHANNELS.c.confirmed_at.desc().nulls_last(),
            CHANNELS.c.chat_id,
        )
    )
    return [Channel(**row._mapping) for row in await connection.execute(query)]


async def exported_link(connection: AsyncConnection, user_id: UUID) -> dict[str, Any] | None:
    """The link that a user has asked for and not used yet, without its token."""
    query = select(LINKS.c.created_at, LINKS.c.expires_at).where(LINKS.c.user_id == user_id)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else dict(row._mapping)


async def chat_of(opened: AsyncEngine, user_id: UUID) -> int | None:
    """The chat that a user confirmed last; None without any."""
    async with opened.connect() as connection:
        chats = await chats_of(connection, user_id)
    return next((one.chat_id for one in chats if one.is_confirmed), None)


async def _unbound(connection: AsyncConnection, *which: Any) -> bool:
    query = delete(CHANNELS).where(*which).returning(CHANNELS.c.user_id)
    user_id = (await connection.execute(query)).scalar_one_or_none()
    if user_id is not None:
        await _record(connection, user_id, "telegram_chat.unbound")
    return user_id is not None


async def _record(connection: AsyncConnection, user_id: UUID, event: str) -> None:
    await connection.execute(_AUDIT, {"user_id": user_id, "event": event})


def _hash(token: str) -> bytes:
    return hashlib.sha256(token.encode()).digest()
