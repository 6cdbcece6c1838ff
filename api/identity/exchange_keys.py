"""Keys of exchanges: stored encrypted, shown masked, removed. Nothing here uses or tests them."""

from __future__ import annotations

import hmac
import re
import secrets
from dataclasses import dataclass, fields
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import Row, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, NotFound
from api.identity.envelope import EXCHANGE_KEYS as PREFIX
from api.identity.envelope import PEPPER, Vault, exchange_binding
from api.identity.secret_tables import EXCHANGE_KEYS, PEPPERS
from api.identity.service import Identity
from api.identity.users import locked
from api.schemas.exchange_keys import ExchangeKeyRequest
from compute.errors import InvalidRequest

SHOWN: Final = 4
"""Last characters of an API key that are shown; of a key that has no more, none are."""
MAX_KEYS: Final = 100
"""Active keys of a user."""
NOW: Final = func.statement_timestamp()
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_PEPPER_NAME: Final = "exchange_keys"


@dataclass(frozen=True, slots=True)
class ExchangeKey:
    """An active key as its owner sees it."""

    key_id: UUID
    exchange_name: str
    market_type: str
    label: str | None
    permissions: str
    api_key_last4: str
    created_at: datetime
    updated_at: datetime

    @property
    def masked(self) -> str:
        """The API key as it is shown."""
        return f"****{self.api_key_last4}"


COLUMNS: Final = tuple(EXCHANGE_KEYS.c[field.name] for field in fields(ExchangeKey))


@dataclass(frozen=True, slots=True, repr=False)
class NewKey:
    """A key to be stored: trimmed, nothing blank but None."""

    exchange_name: str
    market_type: str
    permissions: str
    label: str | None
    api_key: str
    api_secret: str
    passphrase: str | None


def new_key(request: ExchangeKeyRequest) -> NewKey:
    """The key of a request: trimmed, blank texts are none.

    Raises: InvalidRequest for a blank key or secret, or a control character in what is shown.
    """
    label = _stripped(request.label)
    passphrase = request.passphrase
    new = NewKey(
        exchange_name=request.exchange_name,
        market_type=request.market_type,
        permissions=request.permissions,
        label=label,
        api_key=request.api_key.get_secret_value().strip(),
        api_secret=request.api_secret.get_secret_value().strip(),
        passphrase=_stripped(None if passphrase is None else passphrase.get_secret_value()),
    )
    faults = [
        {"path": f"body.{name}", "code": "invalid_exchange_key_payload", "message": message}
        for name, message in (
            ("api_key", None if new.api_key else "must not be blank"),
            ("api_key", _CONTROL.search(new.api_key) and "must be without control characters"),
            ("api_secret", None if new.api_secret else "must not be blank"),
            ("label", _CONTROL.search(label or "") and "must be without control characters"),
        )
        if message
    ]
    if faults:
        error = InvalidRequest("Validation failed", faults)
        error.details["error"] = "invalid_exchange_key_payload"
        raise error
    return new


def _stripped(text: str | None) -> str | None:
    return (text or "").strip() or None


class ExchangeKeys:
    """The keys of all users."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._audit = identity.audit
        self._vault = Vault(PREFIX, identity.settings.exchange_keys)

    async def add(self, user_id: UUID, new: NewKey) -> ExchangeKey:
        """The stored key.

        Raises: Conflict when the user has it for this market already, or too many.
        """
        key_id = uuid4()
        seal, passphrase = self._vault.seal, new.passphrase
        async with self._identity.transaction() as connection:
            await locked(connection, user_id)
            await _check_room(connection, user_id)
            pepper = await self._pepper(connection)
            made = insert(EXCHANGE_KEYS).values(
                key_id=key_id,
                user_id=user_id,
                exchange_name=new.exchange_name,
                market_type=new.market_type,
                label=new.label,
                permissions=new.permissions,
                api_key_enc=seal(new.api_key, exchange_binding(user_id, key_id, "api_key")),
                api_key_hash=hmac.digest(pepper, new.api_key.encode(), "sha256"),
                api_key_last4=new.api_key[-SHOWN:] if len(new.api_key) > SHOWN else "",
                api_secret_enc=seal(
                    new.api_secret, exchange_binding(user_id, key_id, "api_secret")
                ),
                passphrase_enc=None
                if passphrase is None
                else seal(passphrase, exchange_binding(user_id, key_id, "passphrase")),
                created_at=NOW,
                updated_at=NOW,
                is_deleted=False,
            )
            query = made.on_conflict_do_nothing(
                index_elements=["user_id", "exchange_name", "market_type", "api_key_hash"],
                index_where=~EXCHANGE_KEYS.c.is_deleted,
            ).returning(*COLUMNS)
            row = (await connection.execute(query)).first()
            event = "exchange_key.refused" if row is None else "exchange_key.added"
            details = {
                "exchange_name": new.exchange_name,
                "market_type": new.market_type,
                "permissions": new.permissions,
                "key_id": None if row is None else str(key_id),
            }
            await self._audit.record(connection, user_id, event, details)
        if row is None:
            raise Conflict(
                "Exchange API key already exists.", details={"error": "exchange_key_already_exists"}
            )
        return _key(row)

    async def listed(self, user_id: UUID) -> list[ExchangeKey]:
        """The user's active keys, oldest first; nothing is decrypted for it."""
        query = (
            select(*COLUMNS)
            .where(EXCHANGE_KEYS.c.user_id == user_id, ~EXCHANGE_KEYS.c.is_deleted)
            .order_by(EXCHANGE_KEYS.c.created_at, EXCHANGE_KEYS.c.key_id)
        )
        async with self._identity.transaction() as connection:
            return [_key(row) for row in await connection.execute(query)]

    async def delete(self, user_id: UUID, key_id: UUID) -> None:
        """Wipes the secrets of a key; what it was for stays.

        Raises: NotFound, also for a key of somebody else or one that is deleted.
        """
        query = (
            update(EXCHANGE_KEYS)
            .where(
                EXCHANGE_KEYS.c.key_id == key_id,
                EXCHANGE_KEYS.c.user_id == user_id,
                ~EXCHANGE_KEYS.c.is_deleted,
            )
            .values(
                is_deleted=True,
                deleted_at=NOW,
                updated_at=NOW,
                api_key_enc=None,
                api_secret_enc=None,
                passphrase_enc=None,
            )
        )
        async with self._identity.transaction() as connection:
            if (await connection.execute(query)).rowcount == 0:
                raise NotFound(
                    "there is no such exchange key", details={"error": "exchange_key_not_found"}
                )
            details = {"key_id": str(key_id)}
            await self._audit.record(connection, user_id, "exchange_key.deleted", details)

    async def _pepper(self, connection: AsyncConnection) -> bytes:
        """The key of the hashes: made once for a database, and sealed like the keys themselves."""
        query = select(PEPPERS.c.pepper_enc).where(PEPPERS.c.name == _PEPPER_NAME)
        blob = (await connection.execute(query)).scalar()
        if blob is None:
            made = self._vault.seal(secrets.token_hex(32), PEPPER)
            await connection.execute(
                insert(PEPPERS).values(name=_PEPPER_NAME, pepper_enc=made).on_conflict_do_nothing()
            )
            blob = (await connection.execute(query)).scalar_one()
        return bytes.fromhex(self._vault.open(blob, PEPPER))


async def _check_room(connection: AsyncConnection, user_id: UUID) -> None:
    mine = (EXCHANGE_KEYS.c.user_id == user_id, ~EXCHANGE_KEYS.c.is_deleted)
    count = select(func.count()).select_from(EXCHANGE_KEYS).where(*mine)
    if (await connection.execute(count)).scalar_one() >= MAX_KEYS:
        raise Conflict(
            f"the user has {MAX_KEYS} exchange keys; delete one",
            details={"error": "too_many_exchange_keys", "max_keys": MAX_KEYS},
        )


async def exported_keys(connection: AsyncConnection, user_id: UUID) -> list[dict[str, Any]]:
    """All that is stored of a user's keys, deleted ones too, but their secrets."""
    query = (
        select(*COLUMNS, EXCHANGE_KEYS.c.deleted_at)
        .where(EXCHANGE_KEYS.c.user_id == user_id)
        .order_by(EXCHANGE_KEYS.c.created_at, EXCHANGE_KEYS.c.key_id)
    )
    found = [dict(row._mapping) for row in await connection.execute(query)]
    return [{"api_key": f"****{key.pop('api_key_last4')}", **key} for key in found]


def _key(row: Row) -> ExchangeKey:
    return ExchangeKey(*row)
