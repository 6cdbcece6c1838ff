"""Instruments shared among runners: each is held under a lease by one of them.

All times are those of the database. A runner that dies is replaced when its leases end, one that
stops gives them back; none holds more than its share while another could.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping
from dataclasses import dataclass
from datetime import timedelta
from typing import Final

from sqlalchemy import case, delete, func, literal, select
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compute.errors import RoehubError
from compute.market.period import epoch_ms
from live.tables import LEASES, RUNNERS

_NOW: Final = func.clock_timestamp()


class LeaseLost(RoehubError):
    """An instrument that another runner has taken over; nothing may be written for it."""

    code = "conflict"

    def __init__(self, instrument_key: str) -> None:
        super().__init__(f"{instrument_key} is held by another runner now")


@dataclass(frozen=True, slots=True)
class Lease:
    """An instrument that this runner holds; `token` grows each time it changes hands."""

    instrument_key: str
    owner: str
    token: int

    async def fence(self, connection: AsyncConnection) -> None:
        """Keeps the lease from being taken until the transaction ends. Raises: LeaseLost."""
        query = (
            select(literal(1))
            .select_from(LEASES)
            .where(
                LEASES.c.instrument_key == self.instrument_key,
                LEASES.c.owner == self.owner,
                LEASES.c.token == self.token,
                LEASES.c.lease_until > _NOW,
            )
            .with_for_update(read=True)
        )
        if (await connection.execute(query)).one_or_none() is None:
            raise LeaseLost(self.instrument_key)


class Leases:
    """The instruments that one runner holds; `owner` names it among the others."""

    def __init__(self, engine: AsyncEngine, owner: str, lease_seconds: float) -> None:
        self._engine, self.owner = engine, owner
        self._length = timedelta(seconds=lease_seconds)

    async def share(self, wanted: Collection[str]) -> Mapping[str, Lease]:
        """The leases of this runner on `wanted` from now on: kept, taken, and given back.

        With n runners alive one keeps at most its n-th part, rounded up. Call it more often than
        leases last.
        """
        async with self._engine.begin() as connection:
            most = -(-len(wanted) // await self._runners(connection))
            query = select(LEASES.c.instrument_key).where(
                LEASES.c.owner == self.owner, LEASES.c.lease_until > _NOW
            )
            held = set((await connection.execute(query)).scalars())
            kept = sorted(held & set(wanted))[:most]
            await self._free(connection, held - set(kept))
            others = sorted(set(wanted) - held)
            taken = await self._taken(connection, kept)
            if len(kept) < most and others:
                free = await self._available(connection, others, most - len(kept))
                taken |= await self._taken(connection, free)
        return taken

    async def now_ms(self) -> int:
        """The time of the database."""
        async with self._engine.connect() as connection:
            return epoch_ms((await connection.execute(select(_NOW))).scalar_one())

    async def release(self) -> None:
        """Gives everything back at once."""
        async with self._engine.begin() as connection:
            await connection.execute(delete(LEASES).where(LEASES.c.owner == self.owner))
            await connection.execute(delete(RUNNERS).where(RUNNERS.c.owner == self.owner))

    async def _runners(self, connection: AsyncConnection) -> int:
        """How many runners are alive, this one included."""
        seen = insert(RUNNERS).values(owner=self.owner, seen_until=_NOW + self._length)
        await connection.execute(
            seen.on_conflict_do_update(
                index_elements=["owner"], set_={"seen_until": seen.excluded.seen_until}
            )
        )
        await connection.execute(
            delete(RUNNERS).where(RUNNERS.c.seen_until < _NOW - 10 * self._length)
        )
        query = select(func.count()).select_from(RUNNERS).where(RUNNERS.c.seen_until > _NOW)
        return (await connection.execute(query)).scalar_one()

    async def _available(
        self, connection: AsyncConnection, keys: Collection[str], most: int
    ) -> list[str]:
        query = select(LEASES.c.instrument_key).where(
            LEASES.c.instrument_key.in_(keys), LEASES.c.lease_until > _NOW
        )
        busy = set((await connection.execute(query)).scalars())
        return [key for key in keys if key not in busy][:most]

    async def _taken(self, connection: AsyncConnection, keys: Collection[str]) -> dict[str, Lease]:
        """The leases on those of `keys` that are ours or free, for their whole length."""
        if not keys:
            return {}
        rows = insert(LEASES).values(
            [
                {"instrument_key": key, "owner": self.owner, "token": 1,
                 "lease_until": _NOW + self._length}
                for key in sorted(keys)
            ]
        )  # fmt: skip
        ours = LEASES.c.owner == rows.excluded.owner
        alive = LEASES.c.lease_until > _NOW
        query = rows.on_conflict_do_update(
            index_elements=["instrument_key"],
            set_={
                "owner": rows.excluded.owner,
                "token": LEASES.c.token + case((ours & alive, 0), else_=1),
                "lease_until": rows.excluded.lease_until,
            },
            where=ours | ~alive,
        ).returning(LEASES.c.instrument_key, LEASES.c.token)
        found = await connection.execute(query)
        return {
            row.instrument_key: Lease(row.instrument_key, self.owner, row.token) for row in found
        }

    async def _free(self, connection: AsyncConnection, keys: Collection[str]) -> None:
        if keys:
            await connection.execute(
                delete(LEASES).where(
                    LEASES.c.owner == self.owner, LEASES.c.instrument_key.in_(keys)
                )
            )
