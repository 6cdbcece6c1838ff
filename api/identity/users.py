"""The users: found, made at their first login, erased."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Row, delete, func, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api.identity.tables import USERS

PAID_LEVELS: Final = ("free", "base", "pro", "ultra")
OPERATOR: Final = UUID("00000000-0000-0000-0000-000000000001")
"""The user of a service on one's own machine; the only one without a Telegram account."""

COLUMNS: Final = tuple(USERS.c)


@dataclass(frozen=True, slots=True)
class StoredUser:
    """A row of the users."""

    user_id: UUID
    telegram_user_id: int | None
    paid_level: str
    created_at: datetime
    last_login_at: datetime | None
    is_deleted: bool


def user_of(row: Row[Any]) -> StoredUser:
    """The user of a row that has all of a user's columns."""
    values: dict[str, Any] = {column.name: row._mapping[column] for column in COLUMNS}
    return StoredUser(**values)


async def get_user(connection: AsyncConnection, user_id: UUID) -> StoredUser | None:
    """The user of an id."""
    row = (await connection.execute(select(USERS).where(USERS.c.user_id == user_id))).first()
    return None if row is None else user_of(row)


async def locked(connection: AsyncConnection, user_id: UUID) -> None:
    """Until the end of the transaction, nobody else holds this lock of the user."""
    query = (
        select(USERS.c.user_id).where(USERS.c.user_id == user_id).with_for_update(key_share=True)
    )
    await connection.execute(query)


async def held_to_erase(connection: AsyncConnection, user_id: UUID) -> None:
    """Until the end of the transaction nothing is made that refers to the user, or is his.

    Before everything else of an erasure: whoever makes something holds the user first, too.
    """
    query = select(USERS.c.user_id).where(USERS.c.user_id == user_id).with_for_update()
    await connection.execute(query)


async def logged_in(connection: AsyncConnection, telegram_user_id: int) -> StoredUser:
    """The user of a Telegram account that has just logged in: made, found, or active again.

    One statement: however many log in at once, there is one user. Id, level and day of creation
    never change.
    """
    made = insert(USERS).values(
        user_id=uuid4(),
        telegram_user_id=telegram_user_id,
        paid_level="free",
        created_at=func.now(),
        last_login_at=func.now(),
        is_deleted=False,
    )
    query = made.on_conflict_do_update(
        index_elements=[USERS.c.telegram_user_id],
        set_={
            "last_login_at": func.greatest(USERS.c.created_at, func.now()),
            "is_deleted": False,
        },
    ).returning(*COLUMNS)
    return user_of((await connection.execute(query)).one())


async def operator(connection: AsyncConnection) -> StoredUser:
    """The local operator, made when there is none."""
    made = insert(USERS).values(
        user_id=OPERATOR,
        paid_level="free",
        created_at=func.now(),
        last_login_at=func.now(),
        is_deleted=False,
    )
    query = made.on_conflict_do_update(
        index_elements=[USERS.c.user_id],
        set_={
            "last_login_at": func.greatest(USERS.c.created_at, func.now()),
            "is_deleted": False,
        },
    ).returning(*COLUMNS)
    return user_of((await connection.execute(query)).one())


async def erased(connection: AsyncConnection, user_id: UUID) -> bool:
    """Whether there was such a user, who is gone now with all that refers to him."""
    found = await connection.execute(delete(USERS).where(USERS.c.user_id == user_id))
    return found.rowcount == 1
