"""Requests that are sent again: keys that tell them, and turns that keep counts true."""

from __future__ import annotations

from typing import Final

from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from cluster.postgres.errors import RejectedRequest

LONGEST_KEY: Final = 255


def check_key(key: str | None) -> None:
    """Refuses what is no idempotency key. Raises: RejectedRequest."""
    if key is not None and not (
        0 < len(key) <= LONGEST_KEY and key.isascii() and key.isprintable()
    ):
        raise RejectedRequest(
            f"an idempotency key is 1..{LONGEST_KEY} printable ASCII characters",
            "header.Idempotency-Key",
            "invalid_value",
        )


async def take_turn(connection: AsyncConnection, name: str) -> None:
    """Returns when no other transaction has the turn of `name`; it is over with this one."""
    await connection.execute(
        text("select pg_advisory_xact_lock(hashtextextended(:name, 0))"), {"name": name}
    )
