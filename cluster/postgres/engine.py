"""Connections to PostgreSQL, and its failures in our words."""

from __future__ import annotations

import functools
import json
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Any, Final

import asyncpg
from sqlalchemy import event
from sqlalchemy.exc import DBAPIError, DisconnectionError, InterfaceError, OperationalError
from sqlalchemy.exc import TimeoutError as PoolTimeout
from sqlalchemy.ext.asyncio import AsyncEngine, create_async_engine

from cluster.postgres.errors import DatabaseFailed, DatabaseUnavailable, DiskFull
from cluster.postgres.settings import place, plain_dsn

CONNECT_S: Final = 10
POOL_S: Final = 10.0  # for a connection that others use
STATEMENT_S: Final = 30.0

# Classes of SQLSTATE after which the same statement may succeed on a new connection: connection
# exceptions, transaction rollbacks, insufficient resources, operator intervention.
_TRANSIENT: Final = ("08", "40", "53", "57")
_DISK_FULL: Final = "53100"


def engine(
    dsn: str,
    *,
    connections: int = 10,
    application: str = "roehub",
    statement_s: float = STATEMENT_S,
) -> AsyncEngine:
    """An engine for one event loop; dispose of it at the end. Nothing is connected yet.

    A connection that broke in the pool is replaced before use. A statement ends after
    `statement_s` on the server, a forgotten transaction after twice that.
    """
    milliseconds = str(int(statement_s * 1000))
    session = {
        "application_name": application,
        "timezone": "UTC",
        "jit": "off",
        "statement_timeout": milliseconds,
        "idle_in_transaction_session_timeout": str(2 * int(milliseconds)),
    }
    plain = plain_dsn(dsn)

    async def connected() -> Any:
        # The driver reads the DSN itself: SQLAlchemy would take its options for arguments.
        return await asyncpg.connect(plain, timeout=CONNECT_S, server_settings=session)

    found = create_async_engine(
        f"postgresql+asyncpg://{plain.partition('://')[2]}",
        async_creator=connected,
        pool_size=connections,
        max_overflow=0,
        pool_timeout=POOL_S,
        hide_parameters=True,  # values of statements are in no error and no log
        json_serializer=functools.partial(json.dumps, allow_nan=False, separators=(",", ":")),
    )
    event.listen(found.sync_engine, "checkout", _refuse_closed)
    return found


def _refuse_closed(connection: Any, *_: object) -> None:
    """Has a connection that has ended replaced: the driver sees that as it happens, where a ping
    costs three round trips each time. Raises: DisconnectionError."""
    if connection.driver_connection.is_closed():
        raise DisconnectionError


def transient(error: BaseException) -> bool:
    """Whether the same work may succeed on another connection, now or later."""
    if isinstance(error, DatabaseFailed):
        return isinstance(error, DatabaseUnavailable)
    if isinstance(error, PoolTimeout):
        return True
    if isinstance(error, DBAPIError):
        state = _sqlstate(error)
        if state is None:  # the connection ended without a word from the server
            return isinstance(error, OperationalError | InterfaceError) or (
                error.connection_invalidated
            )
        return state.startswith(_TRANSIENT)
    state = getattr(error, "sqlstate", None)
    if isinstance(error, asyncpg.PostgresError) and isinstance(state, str):
        return state.startswith(_TRANSIENT)
    return isinstance(error, OSError | TimeoutError | asyncpg.InterfaceError)


@contextmanager
def typed(dsn_place: str | None = None) -> Iterator[None]:
    """Turns failures of driver and server inside into `DatabaseFailed` and its kinds.

    Violated constraints pass as they are: who wrote the statement knows what they mean.
    """
    try:
        yield
    except (DBAPIError, PoolTimeout, asyncpg.PostgresError, asyncpg.InterfaceError, OSError) as e:
        state = _sqlstate(e)
        if state is not None and state.startswith("23"):
            raise
        raise failure(e, dsn_place) from e


def failure(error: BaseException, dsn_place: str | None = None) -> DatabaseFailed:
    """The typed error for a failure of driver or server; it names the server, no password."""
    where = "the database" if dsn_place is None else f"the database at {dsn_place}"
    original = getattr(error, "orig", None) or error
    reason = str(original).strip().splitlines()
    said = reason[0].partition(">: ")[2] or reason[0] if reason else type(original).__name__
    if _sqlstate(error) == _DISK_FULL:
        return DiskFull(f"{where} has no space left on its disk: {said}; make room there")
    if transient(error):
        return DatabaseUnavailable(f"{where} cannot be used at the moment: {said}")
    return DatabaseFailed(f"{where} refused: {said}")


def engine_place(found: AsyncEngine) -> str:
    """The server of an engine as messages name it."""
    return place(found.url.render_as_string(hide_password=True))


def _sqlstate(error: BaseException) -> str | None:
    original: Any = getattr(error, "orig", None) or error
    state = getattr(original, "sqlstate", None)
    return state if isinstance(state, str) else None
