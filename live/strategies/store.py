"""Strategies as their owners see them: made, looked at, listed, deleted; never changed."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any, Final
from uuid import UUID, uuid4

from sqlalchemy import func, insert, select, tuple_, update
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from cluster.postgres.idempotency import check_key, take_turn
from cluster.postgres.keyset import Place, cursor_of, place_of
from cluster.postgres.owners import hold_owner
from live.strategies.errors import (
    ForeignStrategy,
    IdempotencyConflict,
    QuotaExceeded,
    StrategyActive,
    StrategyNotFound,
)
from live.strategies.events import append
from live.strategies.names import spec_hash, strategy_name
from live.strategies.rows import columns, moment, now, row_of
from live.strategies.runs import ACTIVE
from live.strategies.spec import shown_spec
from live.strategies.tables import RUNS, STRATEGIES

CURSOR: Final = ("created_at", "strategy_id")
Record = dict[str, Any]


@dataclass(frozen=True, slots=True, kw_only=True)
class Strategy:
    """A strategy as it is stored; name and hash are those of its creation."""

    strategy_id: UUID
    user_id: UUID
    name: str
    spec_json: Record
    spec_hash: str
    created_at: datetime
    is_deleted: bool

    def record(self) -> Record:
        """The JSON-able strategy."""
        return {
            "strategy_id": str(self.strategy_id),
            "user_id": str(self.user_id),
            "name": self.name,
            "created_at": moment(self.created_at),
            "is_deleted": self.is_deleted,
            "spec_hash": self.spec_hash,
            "spec": shown_spec(self.spec_json),
        }

    def cursor(self) -> str:
        """Where a page goes on after this strategy."""
        return cursor_of((self.created_at, self.strategy_id), CURSOR)


@dataclass(frozen=True, slots=True)
class Draft:
    """A strategy before it is stored: its specification, and the event that tells of it."""

    spec: Record
    event_type: str = "strategy_created"
    payload: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Sent:
    """An idempotency key, and the hash of the request that came with it."""

    key: str
    request_hash: str


def strategy_cursor(raw: str | None) -> Place | None:
    """The place to go on from; blank is the beginning. Raises: InvalidCursor."""
    return place_of(raw, CURSOR, "strategies") if raw and raw.strip() else None


class StrategyStore:
    """The strategies of all users; what is done is done for a user, and of others refused."""

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine
        self._reads = engine.execution_options(isolation_level="AUTOCOMMIT")

    async def create(
        self, draft: Draft, user_id: UUID, *, most: int, sent: Sent | None = None
    ) -> tuple[Strategy, bool]:
        """(the strategy, whether it is new): made now, or by the same key before.

        Quota, key, row and event are one transaction, and creations of a user come one by one.
        Raises: QuotaExceeded; IdempotencyConflict where the key belongs to another request;
        AccountErased.
        """
        check_key(None if sent is None else sent.key)
        async with self._engine.begin() as connection:
            await hold_owner(connection, user_id)
            await take_turn(connection, f"strategy_strategies {user_id}")
            if sent is not None:
                known = await _keyed(connection, user_id, sent)
                if known is not None:
                    return known, False
            await _check_quota(connection, user_id, most)
            made = await _inserted(connection, draft.spec, user_id, sent)
            await append(
                connection, draft.event_type, made.created_at,
                user_id=user_id, strategy_id=made.strategy_id, **draft.payload,
            )  # fmt: skip
            return made, True

    async def get(self, strategy_id: UUID) -> Strategy | None:
        """A strategy of anybody that is not deleted."""
        async with self._reads.connect() as connection:
            found = await _found(connection, strategy_id)
        return None if found is None or found.is_deleted else found

    async def owned(self, strategy_id: UUID, user_id: UUID) -> Strategy:
        """A strategy of this user. Raises: StrategyNotFound, ForeignStrategy."""
        async with self._reads.connect() as connection:
            return await owned(connection, strategy_id, user_id)

    async def page(
        self,
        user_id: UUID,
        limit: int,
        after: Place | None = None,
        tags: Mapping[str, str | None] | None = None,
        *,
        symbol_part: str | None = None,
        newest_first: bool = False,
    ) -> list[Strategy]:
        """Strategies of a user, oldest first: one more than `limit` where there are more.

        `tags` are values of symbol, market_type and timeframe; None is any. `symbol_part` is what
        a symbol contains.
        """
        order = (STRATEGIES.c.created_at, STRATEGIES.c.strategy_id)
        place = tuple_(*order)
        query = (
            _SELECT.where(STRATEGIES.c.user_id == user_id, STRATEGIES.c.is_deleted.is_(False))
            .order_by(*(one.desc() if newest_first else one for one in order))
            .limit(limit + 1)
        )
        if symbol_part is not None:
            query = query.where(STRATEGIES.c.symbol.contains(symbol_part, autoescape=True))
        for name, value in (tags or {}).items():
            if value is not None:
                query = query.where(STRATEGIES.c[name] == value)
        if after is not None:
            query = query.where(place < after if newest_first else place > after)
        async with self._reads.connect() as connection:
            return [row_of(Strategy, row) for row in await connection.execute(query)]

    async def delete(self, strategy_id: UUID, user_id: UUID) -> None:
        """Forgets a strategy; its runs and events stay.

        Raises: StrategyNotFound, ForeignStrategy; StrategyActive while a run is active.
        """
        async with self._engine.begin() as connection:
            await owned(connection, strategy_id, user_id, lock=True)
            active = await active_run(connection, strategy_id)
            if active is not None:
                raise StrategyActive(strategy_id, *active)
            await connection.execute(
                update(STRATEGIES)
                .where(STRATEGIES.c.strategy_id == strategy_id)
                .values(is_deleted=True)
            )
            await append(
                connection, "strategy_deleted", await now(connection),
                user_id=user_id, strategy_id=strategy_id,
            )  # fmt: skip


_SELECT: Final = select(*(STRATEGIES.c[name] for name in columns(Strategy)))


async def owned(
    connection: AsyncConnection, strategy_id: UUID, user_id: UUID, *, lock: bool = False
) -> Strategy:
    """A strategy of this user, locked for the transaction if that is asked for.

    Raises: StrategyNotFound where it is missing or deleted, ForeignStrategy where it is another's.
    """
    found = await _found(connection, strategy_id, lock=lock)
    if found is None or found.is_deleted:
        raise StrategyNotFound(strategy_id)
    if found.user_id != user_id:
        raise ForeignStrategy(strategy_id)
    return found


async def active_run(connection: AsyncConnection, strategy_id: UUID) -> tuple[UUID, str] | None:
    """(id, state) of the run of a strategy that has not ended."""
    query = select(RUNS.c.run_id, RUNS.c.state).where(
        RUNS.c.strategy_id == strategy_id, RUNS.c.state.in_(ACTIVE)
    )
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else (row[0], row[1])


async def _found(
    connection: AsyncConnection, strategy_id: UUID, *, lock: bool = False
) -> Strategy | None:
    query = _SELECT.where(STRATEGIES.c.strategy_id == strategy_id)
    if lock:  # not against those that only refer to the row, as the log does
        query = query.with_for_update(key_share=True)
    row = (await connection.execute(query)).one_or_none()
    return None if row is None else row_of(Strategy, row)


async def _keyed(connection: AsyncConnection, user_id: UUID, sent: Sent) -> Strategy | None:
    query = _SELECT.add_columns(STRATEGIES.c.request_hash).where(
        STRATEGIES.c.user_id == user_id, STRATEGIES.c.idempotency_key == sent.key
    )
    row = (await connection.execute(query)).one_or_none()
    if row is None:
        return None
    known = row_of(Strategy, row)
    if row.request_hash != sent.request_hash:
        raise IdempotencyConflict(strategy_id=known.strategy_id)
    return known


async def _check_quota(connection: AsyncConnection, user_id: UUID, most: int) -> None:
    query = select(func.count()).where(
        STRATEGIES.c.user_id == user_id, STRATEGIES.c.is_deleted.is_(False)
    )
    if (await connection.execute(query)).scalar_one() >= most:
        raise QuotaExceeded("Strategies", "max_strategies", most, "delete one that is not needed")


async def _inserted(
    connection: AsyncConnection, spec: Record, user_id: UUID, sent: Sent | None
) -> Strategy:
    tags = ("instrument_id", "instrument_key", "market_type", "symbol", "timeframe")
    query = (
        insert(STRATEGIES)
        .values(
            strategy_id=uuid4(),
            user_id=user_id,
            name=strategy_name(spec, user_id),
            indicators_json=spec["indicators"],
            spec_json=spec,
            spec_hash=spec_hash(spec),
            idempotency_key=None if sent is None else sent.key,
            request_hash=None if sent is None else sent.request_hash,
            created_at=func.clock_timestamp(),
            is_deleted=False,
            **{name: spec[name] for name in tags},
        )
        .returning(*(STRATEGIES.c[name] for name in columns(Strategy)))
    )
    return row_of(Strategy, (await connection.execute(query)).one())
