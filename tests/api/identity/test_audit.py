"""The audit log: written with what it tells of, and never changed."""

from __future__ import annotations

from uuid import UUID

import pytest
from sqlalchemy.exc import DBAPIError
from sqlalchemy.ext.asyncio import AsyncEngine

from api.identity.audit import AuditLog
from tests.api.identity.database import with_engine
from tests.postgres import execute, rows

ANN = UUID("00000000-0000-0000-0000-00000000000a")


async def recorded(engine: AsyncEngine) -> None:
    async with engine.begin() as connection:
        await AuditLog().record(connection, ANN, "login.succeeded", {"session": "s"})


def test_an_event_is_there_with_its_transaction(database: str) -> None:
    with_engine(database, recorded)

    async def undone(engine: AsyncEngine) -> None:
        async with engine.connect() as connection:
            await AuditLog().record(connection, ANN, "login.undone")
            await connection.rollback()

    with_engine(database, undone)

    async def read(engine: AsyncEngine) -> list[dict[str, object]]:
        async with engine.connect() as connection:
            return await AuditLog().of(connection, ANN)

    (event,) = with_engine(database, read)
    assert (event["event"], event["details"]) == ("login.succeeded", {"session": "s"})


@pytest.mark.parametrize(
    "statement",
    [
        "UPDATE identity_audit SET event = 'login.forged'",
        "DELETE FROM identity_audit",
        "TRUNCATE identity_audit",
    ],
)
def test_what_is_written_stays(database: str, statement: str) -> None:
    with_engine(database, recorded)
    with pytest.raises(Exception, match="append-only"):
        execute(database, statement)
    assert rows(database, "SELECT event FROM identity_audit") == [("login.succeeded",)]


def test_an_event_without_a_form_is_refused(database: str) -> None:
    async def wrong(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await AuditLog().record(connection, ANN, "Logged in!")

    with pytest.raises(DBAPIError, match="identity_audit_event_chk"):
        with_engine(database, wrong)
