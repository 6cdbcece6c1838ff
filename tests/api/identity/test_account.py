"""The account: everything in it is handed out, and erased with nothing left but its id."""

from __future__ import annotations

import asyncio
import re
from collections.abc import Iterator
from typing import Any
from uuid import UUID

import httpx
import pytest
from sqlalchemy import text
from sqlalchemy.ext.asyncio import AsyncConnection

from tests.api.identity.people import (
    TELEGRAM_ANN,
    TELEGRAM_BOB,
    browser,
    fresh,
    refusal,
    user_id,
    user_service,
)
from tests.postgres import execute, rows


class Notes:
    """What another module stores of a user."""

    async def export(self, connection: AsyncConnection, user_id: UUID) -> Any:
        found = await connection.execute(
            text("SELECT note FROM notes WHERE user_id = :id"), {"id": user_id}
        )
        return [row.note for row in found]

    async def erase(self, connection: AsyncConnection, user_id: UUID) -> None:
        await connection.execute(text("DELETE FROM notes WHERE user_id = :id"), {"id": user_id})


@pytest.fixture
def url(database: str) -> Iterator[str]:
    execute(database, "CREATE TABLE notes (user_id uuid, note text)")
    with user_service(database, parts={"notes": Notes()}) as found:
        yield found


@pytest.fixture
def ann(url: str, database: str) -> Iterator[httpx.Client]:
    with browser(url) as client:
        ann = user_id(client)
        execute(
            database,
            f"INSERT INTO notes VALUES ('{ann}', 'a note of Ann')",
            f"INSERT INTO identity_telegram_channels VALUES ('{ann}', -77, TRUE, now())",
        )
        yield client


def test_the_export_has_everything_but_secrets(ann: httpx.Client) -> None:
    token = ann.post("/access-tokens", json={"name": "n", "scopes": ["read"]}).json()["token"]
    answer = ann.get("/account/export")
    assert answer.headers["cache-control"] == "no-store"
    assert "attachment" in answer.headers["content-disposition"]
    found = answer.json()
    assert found["user"]["telegram_user_id"] == TELEGRAM_ANN
    assert found["user"]["user_id"] == str(user_id(ann))
    assert [one["network"] for one in found["sessions"]] == ["127.0.0.0/24"]
    assert [one["name"] for one in found["access_tokens"]] == ["n"]
    assert [one["chat_id"] for one in found["telegram_channels"]] == [-77]
    assert found["telegram_link"] is None
    assert found["notes"] == ["a note of Ann"]
    assert [one["event"] for one in found["audit"]] == ["login.succeeded", "access_token.made"]
    assert token not in answer.text
    assert ann.cookies["roehub_identity_jwt"] not in answer.text
    assert "hash" not in answer.text


def test_an_erased_account_leaves_its_id_in_the_audit_log_alone(
    url: str, ann: httpx.Client, database: str
) -> None:
    gone = user_id(ann)
    token = ann.post("/access-tokens", json={"name": "n", "scopes": ["read"]}).json()["token"]
    cookie = ann.cookies["roehub_identity_jwt"]
    with browser(url, TELEGRAM_BOB) as bob:
        answer = ann.delete("/account")
        assert answer.status_code == 204
        assert "Max-Age=0" in answer.headers["set-cookie"]
        assert bob.get("/auth/current-user").status_code == 200
    ann.cookies.set("roehub_identity_jwt", cookie)
    assert refusal(ann.get("/auth/current-user"), 401) == "unknown_user"
    ann.cookies.clear()
    bearer = {"Authorization": f"Bearer {token}"}
    assert refusal(ann.get("/auth/current-user", headers=bearer), 401) == "invalid_access_token"

    tables = rows(
        database, "SELECT tablename FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
    )
    holds = {}
    for (table,) in tables:
        whole = str(rows(database, f"SELECT t::text FROM {table} t"))
        holds[table] = str(gone) in whole
        assert not re.search(rf"\b{TELEGRAM_ANN}\b", whole), table
        assert "a note of Ann" not in whole
    assert [table for table, found in holds.items() if found] == ["identity_audit"]
    events = rows(
        database, "SELECT event FROM identity_audit WHERE user_id = $1 ORDER BY event_id", gone
    )
    assert events[-1] == ("account.erased",)
    details = "SELECT details FROM identity_audit WHERE event = 'account.erased'"
    assert rows(database, details) == [("{}",)]

    ann.post("/auth/telegram/login", json=fresh(2))
    assert user_id(ann) != gone


def test_what_cannot_be_erased_as_a_whole_is_not_erased_at_all(
    ann: httpx.Client, database: str
) -> None:
    execute(
        database,
        "CREATE FUNCTION refuse() RETURNS trigger LANGUAGE plpgsql AS"
        " $$ BEGIN RAISE EXCEPTION 'no'; END $$",
        "CREATE TRIGGER stays BEFORE DELETE ON identity_users FOR EACH ROW"
        " EXECUTE FUNCTION refuse()",
    )
    assert ann.delete("/account").status_code == 500
    assert rows(database, "SELECT note FROM notes") == [("a note of Ann",)]
    assert ann.get("/auth/current-user").status_code == 200


class Late:
    """A part of an account that changes while others are read."""

    def __init__(self, database: str) -> None:
        self._database = database

    async def export(self, connection: AsyncConnection, user_id: UUID) -> Any:
        query = text("SELECT count(*) FROM notes")
        before = (await connection.execute(query)).scalar()
        insert = f"INSERT INTO notes VALUES ('{user_id}', 'late')"
        await asyncio.to_thread(execute, self._database, insert)
        return [before, (await connection.execute(query)).scalar()]

    async def erase(self, connection: AsyncConnection, user_id: UUID) -> None: ...


def test_an_export_is_of_one_moment(database: str) -> None:
    execute(database, "CREATE TABLE notes (user_id uuid, note text)")
    with (
        user_service(database, parts={"late": Late(database)}) as url,
        browser(url) as client,
    ):
        assert client.get("/account/export").json()["late"] == [0, 0]
