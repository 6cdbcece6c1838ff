"""Connections: how a DSN is read, what failures are called, what a pool survives."""

from __future__ import annotations

import asyncio
from collections.abc import Awaitable, Callable
from pathlib import Path

import pytest
from sqlalchemy import text
from sqlalchemy.exc import IntegrityError
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.postgres.engine import engine, transient, typed
from cluster.postgres.errors import DatabaseFailed, DatabaseUnavailable, DiskFull
from cluster.postgres.server import embedded_postgres
from tests.postgres import FAST, await_server, kill_server


def on(dsn: str, work: Callable[[AsyncEngine], Awaitable[None]], **options: float) -> None:
    """Does the work on an engine of its own."""

    async def run() -> None:
        found = engine(dsn, **options)  # type: ignore[arg-type]
        try:
            await work(found)
        finally:
            await found.dispose()

    asyncio.run(run())


async def asked(found: AsyncEngine, statement: str) -> object:
    """The first value of a statement, committed."""
    async with found.begin() as connection:
        return (await connection.execute(text(statement))).scalar()


def test_a_session_is_utc_named_and_bounded(postgres: str) -> None:
    async def work(found: AsyncEngine) -> None:
        assert await asked(found, "SHOW timezone") == "UTC"
        assert await asked(found, "SHOW application_name") == "roehub"
        with pytest.raises(DatabaseUnavailable, match="statement timeout"), typed():
            await asked(found, "SELECT pg_sleep(60)")

    on(postgres, work, statement_s=0.2)


@pytest.mark.parametrize("scheme", ["postgres", "postgresql", "postgresql+asyncpg"])
def test_options_of_a_dsn_reach_the_server(postgres: str, scheme: str) -> None:
    async def work(found: AsyncEngine) -> None:
        assert await asked(found, "SHOW search_path") == "elsewhere"
        assert await asked(found, "SHOW work_mem") == "5MB"

    options = "?sslmode=disable&search_path=elsewhere&work_mem=5MB"
    on(f"{scheme}{postgres.removeprefix('postgresql')}{options}", work)


def test_an_option_that_no_server_has_is_refused_in_its_words(postgres: str) -> None:
    async def work(found: AsyncEngine) -> None:
        with pytest.raises(DatabaseFailed, match="connect_timeout"), typed():
            await asked(found, "SELECT 1")

    on(f"{postgres}?connect_timeout=10", work)


def test_a_defect_is_not_called_transient(postgres: str) -> None:
    async def work(found: AsyncEngine) -> None:
        with pytest.raises(DatabaseFailed, match="nowhere") as caught, typed("HERE"):
            await asked(found, "SELECT * FROM nowhere")
        assert not transient(caught.value)
        assert caught.value.message.startswith("the database at HERE refused: ")

    on(postgres, work)


def test_a_violated_constraint_passes_as_it_is(database: str) -> None:
    span = "INSERT INTO backtest_spans VALUES (repeat('0', 64), -1, 0, 1, repeat('0', 64), 0)"

    async def work(found: AsyncEngine) -> None:
        with pytest.raises(IntegrityError) as caught, typed():
            await asked(found, span)
        assert not transient(caught.value)

    on(database, work)


def test_a_full_pool_says_so(postgres: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("cluster.postgres.engine.POOL_S", 0.2)

    async def work(found: AsyncEngine) -> None:
        async with found.connect():
            with pytest.raises(DatabaseUnavailable), typed():
                await asked(found, "SELECT 1")

    on(postgres, work, connections=1)


def test_an_ended_connection_is_transient_and_replaced(postgres: str) -> None:
    async def work(found: AsyncEngine) -> None:
        with pytest.raises(DatabaseUnavailable) as caught, typed():
            await asked(found, "SELECT pg_terminate_backend(pg_backend_pid())")
        assert transient(caught.value)
        assert await asked(found, "SELECT 1") == 1

    on(postgres, work)


def test_a_pool_goes_on_after_the_server_was_killed(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path, FAST) as dsn:

        async def work(found: AsyncEngine) -> None:
            assert await asked(found, "SELECT 1") == 1
            async with found.connect() as connection:
                await connection.execute(text("SELECT 1"))
                ended = kill_server(tmp_path)
                await asyncio.to_thread(await_server, tmp_path, ended)
                with pytest.raises(DatabaseUnavailable), typed():
                    await connection.execute(text("SELECT 1"))
            assert await asked(found, "SELECT 1") == 1

        on(dsn, work)


def test_a_full_disk_has_its_own_name(postgres: str) -> None:
    raised = "DO $$ BEGIN RAISE EXCEPTION 'could not extend' USING ERRCODE = '53100'; END $$"

    async def work(found: AsyncEngine) -> None:
        with pytest.raises(DiskFull, match="no space left on its disk: could not extend"), typed():
            await asked(found, raised)

    on(postgres, work)
