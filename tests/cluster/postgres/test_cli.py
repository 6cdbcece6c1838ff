"""`roehub db` as one calls it: what it says, and its exit codes."""

from __future__ import annotations

import json
from pathlib import Path

import pytest

from tests.cluster.cli import call
from tests.cluster.postgres.user import assert_all_gone
from tests.postgres import CHAIN, execute


def listed(word: str) -> str:
    """A line for each migration."""
    return "".join(f"{word}{name}\n" for name in CHAIN)


@pytest.fixture(autouse=True)
def environment(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """No server but the one a test names; the directory of our own."""
    for name in ("STRATEGY_PG_DSN", "POSTGRES_DSN"):
        monkeypatch.delenv(name, raising=False)
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path))
    return tmp_path / "postgres"


def test_our_own_database_is_made_and_migrated(environment: Path) -> None:
    before = call("db", "status")
    assert before.status == 2
    assert listed("pending:  ") + "Run `roehub db migrate`.\n" in before.stdout
    assert not environment.exists()
    done = call("db", "migrate")
    assert done.status == 0, done.stderr
    assert done.stdout == listed("applied ") + f"the database at {environment} is up to date\n"
    again = call("db", "migrate", "--json")
    assert json.loads(again.stdout) == {"database": str(environment), "applied": []}
    after = call("db", "status", "--json")
    assert after.status == 0
    assert json.loads(after.stdout) == {
        "database": str(environment),
        "current": CHAIN[-1],
        "pending": [],
        "ahead": False,
    }
    assert_all_gone(environment)


def test_a_server_is_migrated_by_the_dsn_of_migrations(
    empty_database: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("STRATEGY_PG_DSN", "postgresql://nobody:no@127.0.0.1:1/no")
    monkeypatch.setenv("POSTGRES_DSN", empty_database)
    done = call("db", "migrate")
    assert done.status == 0, done.stderr
    assert done.stdout.startswith(listed("applied ") + "the database at postgresql://127.0.0.1:")
    assert "@" not in done.stdout


def test_a_newer_schema_is_told(database: str, monkeypatch: pytest.MonkeyPatch) -> None:
    execute(database, "UPDATE alembic_version SET version_num = '9999'")
    monkeypatch.setenv("STRATEGY_PG_DSN", database)
    status = call("db", "status")
    assert status.status == 2
    assert "This version of roehub does not know that migration" in status.stdout
    migrate = call("db", "migrate", "--json")
    assert migrate.status == 2
    error = json.loads(migrate.stdout)["error"]
    assert error["details"] == {"current": "9999"}


def test_a_server_that_is_down_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("STRATEGY_PG_DSN", "postgresql://u:secret@127.0.0.1:1/roehub")
    done = call("db", "migrate")
    assert done.status == 1
    assert "the database at postgresql://127.0.0.1:1/roehub cannot be used" in done.stderr
    assert "secret" not in done.stderr
