"""A runner's surroundings: the schema it needs, and what it answers over HTTP."""

from __future__ import annotations

import logging
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from prometheus_client import CollectorRegistry
from sqlalchemy import text

from cluster.jobs.database import Database
from cluster.jobs.runner import COMPONENT
from cluster.postgres.engine import engine_place, typed
from cluster.postgres.schema import require_schema
from ingest.health import HealthServer

_START_SECONDS: Final = 30.0

_LOG = logging.getLogger(__name__)


def startable(database: Database) -> None:
    """Waits for the database, and looks whether its tables are those of this version.

    Raises: SchemaOutdated; DatabaseUnavailable after half a minute.
    """
    until = time.monotonic() + _START_SECONDS
    with typed(engine_place(database.engine)):
        database.call(lambda: require_schema(database.engine), lambda: until)


@contextmanager
def served(
    database: Database, registry: CollectorRegistry, host: str, port: int
) -> Iterator[HealthServer]:
    """Answers /metrics, /health and /ready while the block lasts. Raises: InvalidInput."""

    async def reachable() -> str | None:
        async with database.engine.connect() as connection:
            await connection.execute(text("select 1"))
        return None

    server = HealthServer(registry, {"database": reachable}, host=host, port=port)
    database.start(server.__aenter__()).result()
    _LOG.info("component=%s event=metrics_started host=%s port=%d", COMPONENT, host, server.port)
    try:
        yield server
    finally:
        database.start(server.__aexit__()).result()
