"""A new key-encryption key takes over: the key of each secret is wrapped anew, batch by batch.

The secrets themselves stay encrypted throughout, and nothing is written but the new blobs. A batch
is a transaction, so what was interrupted goes on where it was, and a second run finds nothing.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import asdict, dataclass, field
from typing import Any, Final

from sqlalchemy import Column, Row, Table, func, or_, select, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.identity.audit import AuditLog
from api.identity.envelope import (
    FIRST,
    PEPPER,
    VERSION,
    Binding,
    SecretUnreadable,
    Vault,
    exchange_binding,
    head_of,
    totp_binding,
)
from api.identity.secret_tables import EXCHANGE_KEYS, PEPPERS, TWO_FACTOR

BATCH: Final = 100


@dataclass(slots=True)
class Count:
    """Blobs of one column: now under the newest key, under it before, those nobody can read, and
    those that somebody wrote under another key meanwhile."""

    rewrapped: int = 0
    current: int = 0
    unreadable: int = 0
    late: int = 0


@dataclass(slots=True)
class Rotation:
    """What a rotation did, by table and column."""

    counts: dict[str, Count] = field(default_factory=dict)

    @property
    def complete(self) -> bool:
        """Whether everything is under the newest key, so that the one before may go."""
        return not any(count.unreadable or count.late for count in self.counts.values())

    def record(self) -> dict[str, dict[str, int]]:
        """The JSON-able counts."""
        return {name: asdict(count) for name, count in self.counts.items()}


@dataclass(frozen=True, slots=True)
class _Blobs:
    """A column of blobs, and what each belongs to."""

    column: Column[Any]
    key: Column[Any]
    vault: Vault
    binding: Callable[[Row], Binding]

    @property
    def table(self) -> Table:
        return self.column.table

    @property
    def name(self) -> str:
        return f"{self.table.name}.{self.column.name}"


def _columns(two_factor: Vault, exchange: Vault) -> list[_Blobs]:
    keys = EXCHANGE_KEYS.c

    def of_field(name: Any) -> Callable[[Row], Binding]:
        return lambda row: exchange_binding(row.user_id, row.key_id, name)

    return [
        _Blobs(
            TWO_FACTOR.c.totp_secret_enc,
            TWO_FACTOR.c.user_id,
            two_factor,
            lambda row: totp_binding(row.user_id),
        ),
        *(
            _Blobs(keys[f"{name}_enc"], keys.key_id, exchange, of_field(name))
            for name in ("api_key", "api_secret", "passphrase")
        ),
        _Blobs(PEPPERS.c.pepper_enc, PEPPERS.c.name, exchange, lambda row: PEPPER),
    ]


async def rotate(
    engine: AsyncEngine, two_factor: Vault, exchange: Vault, batch: int = BATCH
) -> Rotation:
    """Every blob under the current key of its vault; one that cannot be read stays and counts."""
    done = Rotation()
    for blobs in _columns(two_factor, exchange):
        count = done.counts[blobs.name] = Count()
        async with engine.connect() as connection:
            count.current = (await connection.execute(_current(blobs))).scalar_one()
        after: Any = None
        while True:
            async with engine.begin() as connection:
                rows = list(await connection.execute(_next(blobs, after, batch)))
                for row in rows:
                    await _rewrap(connection, blobs, row, count)
            if not rows:
                break
            after = rows[-1]._mapping[blobs.key]
        async with engine.connect() as connection:
            left = (await connection.execute(_others(blobs))).scalar_one()
            count.late = max(0, left - count.unreadable)
    async with engine.begin() as connection:
        total = {
            name: sum(getattr(count, name) for count in done.counts.values())
            for name in ("rewrapped", "current", "unreadable", "late")
        }
        await AuditLog().record(connection, None, "secrets.rotated", total)
    return done


async def _rewrap(connection: AsyncConnection, blobs: _Blobs, row: Row, count: Count) -> None:
    try:
        blob = blobs.vault.rewrap(row._mapping[blobs.column], blobs.binding(row))
    except SecretUnreadable:
        count.unreadable += 1
        return
    where = blobs.key == row._mapping[blobs.key]
    await connection.execute(update(blobs.table).where(where).values({blobs.column: blob}))
    count.rewrapped += 1


def _under_current(blobs: _Blobs) -> Any:
    key = blobs.vault.keys.current
    head = func.substr(blobs.column, 1, len(head_of(key)))
    return or_(*(head == head_of(key, version) for version in (FIRST, VERSION)))


def _current(blobs: _Blobs) -> Any:
    return select(func.count()).select_from(blobs.table).where(_under_current(blobs))


def _others(blobs: _Blobs) -> Any:
    query = select(func.count()).select_from(blobs.table)
    return query.where(blobs.column.is_not(None), ~_under_current(blobs))


def _next(blobs: _Blobs, after: Any, batch: int) -> Any:
    """The next rows that another key is needed for, locked until they are done."""
    query = select(blobs.table).where(blobs.column.is_not(None), ~_under_current(blobs))
    if after is not None:
        query = query.where(blobs.key > after)
    return query.order_by(blobs.key).limit(batch).with_for_update()
