"""The candle store as commands open it: its schema is there, or it says what to run."""

from __future__ import annotations

from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate, require_schema
from ingest.stores.settings import ClickHouseSettings


def ready_store(settings: ClickHouseSettings, owner: str) -> ClickHouse:
    """The opened store with the schema of this version; a context manager.

    An embedded store is migrated on the way: it is the user's own, and a first run should need no
    ceremony. A server is shared, so its schema changes when somebody says so.

    Raises:
        SchemaOutdated: the server's schema is another one; `roehub ingest migrate` is the cure.
        StoreInUse, StoreUnavailable, InvalidInput: it cannot be opened.
    """
    db = open_clickhouse(settings, owner)
    try:
        if db.embedded:
            migrate(db)
        else:
            require_schema(db)
    except BaseException:
        db.close()
        raise
    return db
