"""The commands of the database: its schema, and how far it is."""

from __future__ import annotations

import json
import os
from typing import TYPE_CHECKING, Annotated

import typer

if TYPE_CHECKING:
    from cluster.postgres.schema import SchemaStatus

app = typer.Typer(
    name="db",
    help="The database of jobs, users and strategies: its schema.",
    no_args_is_help=True,
)
AsJson = Annotated[bool, typer.Option("--json", help="JSON to stdout, nothing else.")]


@app.command()
def migrate(context: typer.Context, as_json: AsJson = False) -> None:
    """Bring the database's tables to this version; safe to run again, and by several at once.

    POSTGRES_DSN (else STRATEGY_PG_DSN) names the server. Without them it is our own under
    ROEHUB_DATA_DIR, which every command that opens it migrates anyway.
    """
    context.ensure_object(dict)["json"] = as_json
    from cluster.postgres.schema import migrate as migrated
    from cluster.postgres.server import embedded_postgres
    from cluster.postgres.settings import PostgresSettings

    settings = PostgresSettings.from_environment(os.environ)
    if settings.migrations_dsn is not None:
        applied = migrated(settings.migrations_dsn)
    else:
        with embedded_postgres(settings.directory) as dsn:
            applied = migrated(dsn)
    if as_json:
        print(json.dumps({"database": settings.place, "applied": applied}))
        return
    for name in applied:
        print(f"applied {name}")
    print(f"the database at {settings.place} is up to date")


@app.command()
def status(context: typer.Context, as_json: AsJson = False) -> None:
    """Which migrations the database has and lacks. Exit code 0 when it is up to date, else 2."""
    context.ensure_object(dict)["json"] = as_json
    from cluster.postgres.schema import no_schema
    from cluster.postgres.server import embedded_postgres
    from cluster.postgres.settings import PostgresSettings

    settings = PostgresSettings.from_environment(os.environ)
    if settings.migrations_dsn is not None:
        found = _status(settings.migrations_dsn)
    elif not settings.directory.exists():  # to ask makes nothing
        found = no_schema(settings.place)
    else:
        with embedded_postgres(settings.directory) as dsn:
            found = _status(dsn)
    if as_json:
        record = {"database": settings.place, "current": found.current}
        print(json.dumps(record | {"pending": list(found.pending), "ahead": found.ahead}))
    else:
        print(f"database: {settings.place}")
        print(f"current:  {found.current or 'no schema yet'}")
        for name in found.pending:
            print(f"pending:  {name}")
        if found.ahead:
            print("This version of roehub does not know that migration; use a later one.")
        elif found.pending:
            print("Run `roehub db migrate`.")
    if not found.up_to_date:
        raise typer.Exit(2)


def _status(dsn: str) -> SchemaStatus:
    import asyncio

    from cluster.postgres.engine import engine
    from cluster.postgres.schema import schema_status

    async def asked() -> SchemaStatus:
        found = engine(dsn, connections=1, application="roehub db status")
        try:
            return await schema_status(found)
        finally:
            await found.dispose()

    return asyncio.run(asked())
