"""Recovery codes: shown once, kept as hashes, each good for one reset of the second factor."""

from __future__ import annotations

import base64
import hashlib
import re
import secrets
from typing import Final
from uuid import UUID

from sqlalchemy import delete, func, insert, select
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import invalid
from api.identity.secret_tables import RECOVERY_CODES
from compute.errors import InvalidRequest

COUNT: Final = 10
BYTES: Final = 15
"""120 random bits: so many cannot be guessed, and a plain hash hides them (ASVS 5.0, 6.5.2)."""
_CODE: Final = re.compile(r"[A-Z2-7]{24}")


def new_code() -> str:
    """A code as people read it: six groups of four characters."""
    text = base64.b32encode(secrets.token_bytes(BYTES)).decode()
    return "-".join(text[i : i + 4] for i in range(0, len(text), 4))


def code_hash(user_id: UUID, text: str) -> bytes:
    """The hash of a user's code, however it is grouped and in either case.

    Raises: InvalidRequest for what is no such code.
    """
    code = re.sub(r"[\s-]", "", text).upper()
    if not _CODE.fullmatch(code):
        raise wrong_recovery_code("a recovery code is 24 of the characters A-Z and 2-7")
    return hashlib.sha256(f"roehub.identity.recovery.v1|{user_id}|{code}".encode()).digest()


def wrong_recovery_code(message: str) -> InvalidRequest:
    """The refusal of a code."""
    error = invalid(message, "invalid_recovery_code", "body.recovery_code")
    error.details["error"] = "invalid_recovery_code"
    return error


async def renewed_codes(connection: AsyncConnection, user_id: UUID) -> list[str]:
    """Ten new codes of a user in place of those before; nobody sees them again."""
    codes = [new_code() for _ in range(COUNT)]
    await connection.execute(delete(RECOVERY_CODES).where(RECOVERY_CODES.c.user_id == user_id))
    hashes = [{"user_id": user_id, "code_hash": code_hash(user_id, code)} for code in codes]
    await connection.execute(
        insert(RECOVERY_CODES).values(created_at=func.statement_timestamp()), hashes
    )
    return codes


async def spent_code(connection: AsyncConnection, user_id: UUID, hashed: bytes) -> bool:
    """Whether the user had this code, which is gone now."""
    query = delete(RECOVERY_CODES).where(
        RECOVERY_CODES.c.user_id == user_id, RECOVERY_CODES.c.code_hash == hashed
    )
    return (await connection.execute(query)).rowcount == 1


async def codes_left(connection: AsyncConnection, user_id: UUID) -> int:
    """How many codes a user has."""
    query = select(func.count()).where(RECOVERY_CODES.c.user_id == user_id)
    return (await connection.execute(query)).scalar_one()
