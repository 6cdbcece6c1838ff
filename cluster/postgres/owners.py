"""Owners of rows: nothing is made for a user whose account is erased."""

from __future__ import annotations

from typing import Final
from uuid import UUID

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.postgres.errors import AccountErased

ERASED_EVENT: Final = "account.erased"
"""What the audit log has of an account that was erased."""

_HOLD: Final = text("select 1 from identity_users where user_id = :user_id for key share")
_ERASED: Final = text(
    "select 1 from identity_audit where user_id = :user_id and event = :event limit 1"
)


async def hold_owner(connection: AsyncConnection, user_id: UUID) -> None:
    """Keeps the account of a user from being erased until the transaction is over.

    Call it before anything else is locked: whoever erases an account locks it first, too. A user
    of the development login has no account, and none that was erased. Raises: AccountErased.
    """
    if (await connection.execute(_HOLD, {"user_id": user_id})).first() is not None:
        return
    values = {"user_id": user_id, "event": ERASED_EVENT}
    if (await connection.execute(_ERASED, values)).first() is not None:
        raise AccountErased(user_id)
