"""The chain of migrations: once each, whoever asks, and no service on another schema."""

from __future__ import annotations

import asyncio
import subprocess
import sys

import pytest

from cluster.postgres.engine import engine
from cluster.postgres.errors import DatabaseUnavailable, SchemaAhead, SchemaOutdated
from cluster.postgres.schema import migrate, require_schema, schema_status
from tests.cluster.cli import ROOT
from tests.postgres import CHAIN, execute, rows

DOWN = "postgresql://roehub:secret@127.0.0.1:1/roehub"


def required(dsn: str) -> None:
    """`require_schema` on an engine of its own."""

    async def run() -> None:
        found = engine(dsn)
        try:
            await require_schema(found)
        finally:
            await found.dispose()

    asyncio.run(run())


def test_every_migration_is_applied_once(empty_database: str) -> None:
    assert migrate(empty_database) == CHAIN
    assert migrate(empty_database) == []
    required(empty_database)


def test_it_can_be_called_where_an_event_loop_runs(empty_database: str) -> None:
    async def run() -> list[str]:
        return migrate(empty_database)

    assert asyncio.run(run()) == CHAIN


def test_of_several_processes_one_migrates_and_the_others_find_it_done(
    empty_database: str,
) -> None:
    code = (
        "import sys; from cluster.postgres.schema import migrate\n"
        "print('ready', flush=True); sys.stdin.read(); print(*migrate(sys.argv[1]))"
    )
    command = [sys.executable, "-c", code, empty_database]
    pipe = subprocess.PIPE
    several = [
        subprocess.Popen(command, cwd=ROOT, stdin=pipe, stdout=pipe, text=True) for _ in range(4)
    ]
    for one in several:
        assert one.stdin is not None
        assert one.stdout is not None
        assert one.stdout.readline() == "ready\n"
    for one in several:
        assert one.stdin is not None
        one.stdin.close()
        one.stdin = None
    said = [one.communicate(timeout=60)[0].split() for one in several]
    assert [one.returncode for one in several] == [0] * 4
    assert sorted(said) == [[], [], [], CHAIN]


def test_a_migration_that_fails_leaves_nothing(empty_database: str) -> None:
    execute(empty_database, "CREATE TABLE backtest_spans (n int)")
    with pytest.raises(Exception, match="backtest_spans"):
        migrate(empty_database)
    assert rows(empty_database, "SELECT to_regclass('backtest_jobs')::text") == [(None,)]
    execute(empty_database, "DROP TABLE backtest_spans")
    assert migrate(empty_database) == CHAIN


def test_an_older_schema_is_refused_with_the_command(empty_database: str) -> None:
    lacks = f"lacks {', '.join(CHAIN)}; run `roehub db migrate`"
    with pytest.raises(SchemaOutdated, match=lacks) as caught:
        required(empty_database)
    assert caught.value.details == {"current": None, "pending": CHAIN}
    assert "@" not in caught.value.message


def test_a_newer_schema_is_refused_by_services_and_by_migrations(database: str) -> None:
    execute(database, "UPDATE alembic_version SET version_num = '9999'")
    with pytest.raises(SchemaAhead, match="has migration 9999, which this version"):
        required(database)
    with pytest.raises(SchemaAhead):
        migrate(database)


def test_status_names_the_server_without_its_password(database: str) -> None:
    async def run() -> None:
        found = engine(database)
        try:
            status = await schema_status(found)
        finally:
            await found.dispose()
        assert status.up_to_date
        assert status.current == CHAIN[-1]
        assert "@" not in status.place

    asyncio.run(run())


def test_a_server_that_is_down() -> None:
    with pytest.raises(DatabaseUnavailable, match=r"postgresql://127\.0\.0\.1:1/roehub"):
        migrate(DOWN)
    with pytest.raises(DatabaseUnavailable):
        required(DOWN)
