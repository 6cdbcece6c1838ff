"""All that is stored of a user: handed out, and erased."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict
from typing import TYPE_CHECKING, Any, Protocol
from uuid import UUID

import anyio.to_thread
from sqlalchemy import text

from api.identity.access_tokens import tokens_of
from api.identity.exchange_keys import exported_keys
from api.identity.limits import forget_limits_of
from api.identity.refusals import unauthorized
from api.identity.sessions import all_sessions
from api.identity.two_factor import exported_factor
from api.identity.users import erased, get_user, held_to_erase
from cluster.postgres.owners import ERASED_EVENT
from live.telegram.chats import chats_of, exported_link

if TYPE_CHECKING:
    from sqlalchemy.ext.asyncio import AsyncConnection

    from api.identity.service import Identity


class AccountPart(Protocol):
    """What one module stores of a user, in tables that do not refer to the users'."""

    async def export(self, connection: AsyncConnection, user_id: UUID) -> Any:
        """All of it that is the user's own, as JSON; secrets are left out or masked."""

    async def erase(self, connection: AsyncConnection, user_id: UUID) -> None:
        """Removes it, in the caller's transaction."""


async def exported(
    identity: Identity, parts: Mapping[str, AccountPart], user_id: UUID
) -> dict[str, Any]:
    """All that is stored of a user at one moment, as JSON, by the name of its part.

    Raises: Unauthorized when the account was erased meanwhile.
    """
    async with identity.transaction() as connection:
        await connection.execute(text("SET TRANSACTION ISOLATION LEVEL REPEATABLE READ"))
        user = await get_user(connection, user_id)
        if user is None:
            raise unauthorized("unknown_user")
        found = {
            "user": asdict(user),
            "sessions": [asdict(one) for one in await all_sessions(connection, user_id)],
            "access_tokens": [asdict(one) for one in await tokens_of(connection, user_id)],
            "telegram_channels": [asdict(one) for one in await chats_of(connection, user_id)],
            "telegram_link": await exported_link(connection, user_id),
            "two_factor": await exported_factor(connection, user_id),
            "exchange_keys": await exported_keys(connection, user_id),
            "audit": await identity.audit.of(connection, user_id),
        }
        for name, part in parts.items():
            found[name] = await part.export(connection, user_id)
        await identity.audit.record(connection, user_id, "account.exported")
    return await anyio.to_thread.run_sync(plain, found)


async def erase(identity: Identity, parts: Mapping[str, AccountPart], user_id: UUID) -> None:
    """Erases a user with all that is stored of him, at once; the audit log keeps the id.

    His row goes, and with it what refers to it: sessions, tokens, second factor, exchange keys.
    A later login of the same Telegram account makes another user. What a request of his is about
    to make is made before it and goes, too, or is refused.
    """
    async with identity.transaction() as connection:
        await held_to_erase(connection, user_id)
        for part in parts.values():
            await part.erase(connection, user_id)
        user = await get_user(connection, user_id)
        telegram = None if user is None else user.telegram_user_id
        await forget_limits_of(connection, (str(user_id), str(telegram)))
        if await erased(connection, user_id):
            await identity.audit.record(connection, user_id, ERASED_EVENT)


def plain(value: Any) -> Any:
    """`value` of JSON types alone: times as ISO 8601, ids as text."""
    if isinstance(value, Mapping):
        return {str(key): plain(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple | set | frozenset):
        return [plain(entry) for entry in value]
    if hasattr(value, "isoformat"):
        return value.isoformat().replace("+00:00", "Z")
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
