"""The schema of the database: one Alembic chain of explicit SQL, forwards only."""

from __future__ import annotations

import asyncio
import functools
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Connection, text
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.postgres.engine import engine, engine_place, typed
from cluster.postgres.errors import SchemaAhead, SchemaOutdated

DIRECTORY: Final = Path(__file__).parent
LOCK: Final = 0x726F65687562  # "roehub": whoever migrates this database holds it
LONGEST_MIGRATION_S: Final = 3600.0
COMMAND: Final = "roehub db migrate"


@dataclass(frozen=True, slots=True)
class SchemaStatus:
    """How a database stands to this version: what it has, and what it still needs, in order."""

    place: str
    current: str | None
    pending: tuple[str, ...]
    ahead: bool

    @property
    def up_to_date(self) -> bool:
        """Whether the database has the schema of this version, no less and no more."""
        return not self.pending and not self.ahead


def migrate(dsn: str) -> list[str]:
    """Names of the migrations that were applied now, in order; blocks until they are.

    Several may migrate one database at once: one does, the others wait and find it done.

    Raises:
        SchemaAhead: the database was migrated by a later version.
        DatabaseUnavailable, DatabaseFailed: it cannot be reached, or refuses a statement.
    """

    async def migrated() -> list[str]:
        found = engine(dsn, connections=1, application=COMMAND, statement_s=LONGEST_MIGRATION_S)
        try:
            return await upgrade(found)
        finally:
            await found.dispose()

    # A thread of its own, for callers in whose thread an event loop runs.
    with ThreadPoolExecutor(1, "migrate") as thread:
        return thread.submit(asyncio.run, migrated()).result()


async def upgrade(found: AsyncEngine) -> list[str]:
    """Like `migrate`, on an engine whose statements may take long."""
    with typed(engine_place(found)):
        async with found.connect() as connection:
            await connection.execute(text("SELECT pg_advisory_lock(:lock)"), {"lock": LOCK})
            await connection.commit()
            try:
                status = await connection.run_sync(_status, engine_place(found))
                _refuse_ahead(status)
                await connection.run_sync(_upgrade)
            finally:
                # The lock ends with its session: the connection must not go back to the pool.
                await connection.invalidate()
    return list(status.pending)


async def schema_status(found: AsyncEngine) -> SchemaStatus:
    """How the database stands to this version.

    Raises: DatabaseUnavailable, DatabaseFailed.
    """
    with typed(engine_place(found)):
        async with found.connect() as connection:
            return await connection.run_sync(_status, engine_place(found))


def no_schema(place: str) -> SchemaStatus:
    """The status of a database that is not there yet."""
    return SchemaStatus(place, None, tuple(_chain().values()), ahead=False)


async def require_schema(found: AsyncEngine) -> None:
    """Returns when the database has the schema of this version, no less and no more.

    Raises:
        SchemaOutdated: migrations are missing; the message names the command.
        SchemaAhead: the database was migrated by a later version.
        DatabaseUnavailable, DatabaseFailed: it cannot be asked.
    """
    status = await schema_status(found)
    _refuse_ahead(status)
    if status.pending:
        raise SchemaOutdated(
            f"the database at {status.place} lacks {', '.join(status.pending)}; run `{COMMAND}`",
            details={"current": status.current, "pending": list(status.pending)},
        )


def _refuse_ahead(status: SchemaStatus) -> None:
    if status.ahead:
        raise SchemaAhead(
            f"the database at {status.place} has migration {status.current}, which this version "
            "of roehub does not know; use the version that made it, or a later one",
            details={"current": status.current},
        )


@functools.cache
def _chain() -> dict[str, str]:
    """Name of every migration by its revision, first to last."""
    scripts = ScriptDirectory(str(DIRECTORY)).walk_revisions()
    return {script.revision: Path(script.path).stem for script in reversed(list(scripts))}


def _status(connection: Connection, place: str) -> SchemaStatus:
    chain = _chain()
    current = MigrationContext.configure(connection).get_current_revision()
    revisions = list(chain)
    if current is not None and current not in chain:
        return SchemaStatus(place, current, (), ahead=True)
    done = 0 if current is None else revisions.index(current) + 1
    name = None if current is None else chain[current]
    return SchemaStatus(place, name, tuple(chain[r] for r in revisions[done:]), ahead=False)


def _upgrade(connection: Connection) -> None:
    config = Config()
    config.set_main_option("script_location", str(DIRECTORY).replace("%", "%%"))
    config.attributes["connection"] = connection
    command.upgrade(config, "head")
    connection.commit()
