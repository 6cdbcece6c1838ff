"""Instruments shared among runners: each is held under a lease by one of them.

All times are those of the database. A runner that dies is replaced when its leases end, one that
stops gives them back; none holds more than its share while another could.
"""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Final

from sqlalchemy import ColumnElement, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from compute.errors import RoehubError
from compute.market.period import epoch_ms
from live.tables import LEASES, RUNNERS

_NOW: Final = func.clock_timestamp()

# As text, for it is part of each commit: the query of a fence would cost more than its answer.
_FENCE: Final = """
    UPDATE live_leases SET lease_until = clock_timestamp() + $4
    WHERE instrument_key = $1 AND owner = $2 AND token = $3 AND lease_until > clock_timestamp()
    RETURNING 1
"""


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
    length: timedelta

    async def fence(self, connection: AsyncConnection) -> None:
        """Keeps the lease from being taken until the transaction ends, and renews it with that.

        Raises: LeaseLost.
        """
        known = self.instrument_key, self.owner, self.token, self.length
        if (await connection.exec_driver_sql(_FENCE, known)).one_or_none() is None:
            raise LeaseLost(self.instrument_key)


class Leases:
    """The instruments that one runner holds; `owner` names it, and no other ever."""

    def __init__(self, engine: AsyncEngine, owner: str, lease_seconds: float) -> None:
        self._engine, self.owner = engine, owner
        self._length = timedelta(seconds=lease_seconds)

    async def share(self, wanted: Collection[str]) -> Mapping[str, Lease]:
        """The leases of this runner on `wanted` from now on: kept, taken, and given back.

        With n runners alive one keeps at most its n-th part, rounded up. Call it more often than
        leases last. It waits for no commit: what is being committed is renewed by that.
        """
        async with self._engine.begin() as connection:
            most = -(-len(wanted) // await self._runners(connection))
            query = select(LEASES.c.instrument_key, LEASES.c.token).where(
                LEASES.c.owner == self.owner, LEASES.c.lease_until > _NOW
            )
            held = {key: self._lease(key, token) for key, token in await connection.execute(query)}
            kept = sorted(held.keys() & set(wanted))[:most]
            await self._set(connection, kept, _NOW + self._length)
            await self._set(connection, held.keys() - set(kept), _NOW)
            taken = {key: held[key] for key in kept}
            others = sorted(set(wanted) - held.keys())
            if len(kept) < most and others:
                taken |= await self._taken(connection, others, most - len(kept))
        return taken

    async def now_ms(self) -> int:
        """The time of the database."""
        async with self._engine.connect() as connection:
            return epoch_ms((await connection.execute(select(_NOW))).scalar_one())

    async def release(self) -> None:
        """Gives everything back at once."""
        async with self._engine.begin() as connection:
            await connection.execute(
                update(LEASES).where(LEASES.c.owner == self.owner).values(lease_until=_NOW)
            )
            await connection.execute(delete(RUNNERS).where(RUNNERS.c.owner == self.owner))

    def _lease(self, key: str, token: int) -> Lease:
        return Lease(key, self.owner, token, self._length)

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
        return await runners_alive(connection)

    async def _set(
        self, connection: AsyncConnection, keys: Collection[str], until: ColumnElement[datetime]
    ) -> None:
        """Moves the ends of leases of ours that no commit holds."""
        if not keys:
            return
        free = (
            select(LEASES.c.instrument_key)
            .where(LEASES.c.instrument_key.in_(keys), LEASES.c.owner == self.owner)
            .with_for_update(skip_locked=True)
        )
        await connection.execute(
            update(LEASES).where(LEASES.c.instrument_key.in_(free)).values(lease_until=until)
        )

    async def _taken(
        self, connection: AsyncConnection, keys: Sequence[str], most: int
    ) -> dict[str, Lease]:
        """Leases on at most so many of `keys` that nobody holds; they last their whole length.

        A lease that ended keeps its row, so that its token grows.
        """
        query = select(LEASES.c.instrument_key).where(LEASES.c.instrument_key.in_(keys))
        known = set((await connection.execute(query)).scalars())
        ended = query.where(LEASES.c.lease_until <= _NOW).with_for_update(skip_locked=True)
        free = set((await connection.execute(ended)).scalars())
        some = [key for key in keys if key in free or key not in known][:most]
        if not some:
            return {}
        rows = insert(LEASES).values(
            [
                {"instrument_key": key, "owner": self.owner, "token": 1,
                 "lease_until": _NOW + self._length}
                for key in some
            ]
        )  # fmt: skip
        taking = rows.on_conflict_do_update(
            index_elements=["instrument_key"],
            set_={
                "owner": rows.excluded.owner,
                "token": LEASES.c.token + 1,
                "lease_until": rows.excluded.lease_until,
            },
            where=LEASES.c.lease_until <= _NOW,
        ).returning(LEASES.c.instrument_key, LEASES.c.token)
        return {key: self._lease(key, token) for key, token in await connection.execute(taking)}


async def runners_alive(connection: AsyncConnection) -> int:
    """How many runners were seen within the length of their leases."""
    query = select(func.count()).select_from(RUNNERS).where(RUNNERS.c.seen_until > _NOW)
    return (await connection.execute(query)).scalar_one()
