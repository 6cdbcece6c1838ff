"""A server of our own: where it listens, whom it belongs to, what it leaves behind."""

from __future__ import annotations

import os
import pwd
import stat
from pathlib import Path

import asyncpg
import psutil
import pytest

from cluster.postgres import binaries
from cluster.postgres.server import embedded_postgres, postgres, running
from cluster.postgres.settings import PostgresSettings
from compute.errors import InvalidInput
from tests.cluster.postgres.user import assert_all_gone, processes
from tests.postgres import CHAIN, FAST, execute, rows


def test_data_survive_a_restart_and_nothing_runs_in_between(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path / "db", FAST) as dsn:
        execute(dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
        first = running(tmp_path / "db")
        assert first is not None
    assert running(tmp_path / "db") is None
    assert not processes(tmp_path / "db")
    with embedded_postgres(tmp_path / "db", FAST) as again:
        assert rows(again, "SELECT n FROM kept") == [(7,)]
        second = running(tmp_path / "db")
        assert second is not None
        assert second.server != first.server
    assert_all_gone(tmp_path / "db")


def test_it_listens_on_loopback_only_and_asks_for_the_password(
    postgres: str, postgres_directory: Path
) -> None:
    found = running(postgres_directory)
    assert found is not None
    sockets = psutil.Process(found.server).net_connections(kind="all")
    listening = [s for s in sockets if s.status == psutil.CONN_LISTEN]
    assert [(s.laddr.ip, s.laddr.port) for s in listening] == [("127.0.0.1", found.port)]
    assert not [s for s in sockets if s.family.name == "AF_UNIX" and s.laddr]
    (method,) = rows(postgres, "SELECT DISTINCT auth_method FROM pg_hba_file_rules")
    assert method == ("scram-sha-256",)
    password = (postgres_directory / "password").read_text()
    with pytest.raises(asyncpg.InvalidPasswordError):
        rows(postgres.replace(password, "guessed"), "SELECT 1")


def test_secrets_and_data_are_private(postgres: str, postgres_directory: Path) -> None:
    password = postgres_directory / "password"
    assert stat.S_IMODE(password.stat().st_mode) == 0o600
    assert stat.S_IMODE((postgres_directory / "data").stat().st_mode) == 0o700
    log = postgres_directory / "server.log"
    assert stat.S_IMODE(log.stat().st_mode) == 0o600
    assert "ready to accept connections" in log.read_text()
    assert password.read_text() not in log.read_text()
    for process in processes(postgres_directory):
        assert password.read_text() not in " ".join(process.cmdline())


@pytest.mark.skipif(os.geteuid() != 0, reason="only root needs another user")
def test_for_root_it_runs_as_nobody_where_nobody_may_look(tmp_path: Path) -> None:
    private = tmp_path / "private"
    private.mkdir(mode=0o700)
    parents = {path: path.stat().st_mode for path in (private, *private.parents)}
    with embedded_postgres(private / "db", FAST) as dsn:
        assert rows(dsn, "SELECT 1") == [(1,)]
        found = running(private / "db")
        assert found is not None
        nobody = pwd.getpwnam("nobody")
        server = psutil.Process(found.server)
        assert set(server.uids()) == {nobody.pw_uid}
        assert set(server.gids()) == {nobody.pw_gid}
        assert Path(server.exe()).is_relative_to(binaries.COPIES)
    assert {path: path.stat().st_mode for path in parents} == parents


def test_two_openings_in_one_process_share_the_server(tmp_path: Path) -> None:
    with embedded_postgres(tmp_path, FAST) as outer:
        with embedded_postgres(tmp_path, FAST) as inner:
            assert inner == outer
        assert rows(outer, "SELECT 1") == [(1,)]
    assert_all_gone(tmp_path)


def test_a_given_server_is_used_as_it_is(tmp_path: Path) -> None:
    settings = PostgresSettings(tmp_path / "db", "postgresql+asyncpg://u:p@db.example/roehub")
    with postgres(settings) as dsn:
        assert dsn == "postgresql://u:p@db.example/roehub"
    assert not (tmp_path / "db").exists()


def test_our_own_is_migrated_when_it_is_opened(tmp_path: Path) -> None:
    with postgres(PostgresSettings(tmp_path)) as dsn:
        assert rows(dsn, "SELECT version_num::text FROM alembic_version") == [(CHAIN[-1][:4],)]
        assert rows(dsn, "SHOW fsync") == [("on",)]


def test_a_server_for_migrations_only_is_refused(tmp_path: Path) -> None:
    settings = PostgresSettings(tmp_path, None, "postgresql://u:p@db.example/roehub")
    with pytest.raises(InvalidInput, match="set STRATEGY_PG_DSN too"), postgres(settings):
        pass
