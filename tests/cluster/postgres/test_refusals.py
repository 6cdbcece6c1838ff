"""Directories and machines that a server cannot run on: what is wrong, and what to do."""

from __future__ import annotations

import os
import shutil
import signal
import socket
import subprocess
from collections.abc import Iterator
from contextlib import suppress
from pathlib import Path

import pytest

from cluster.postgres import binaries, server
from cluster.postgres.data import ENVIRONMENT, HERE
from cluster.postgres.engine import typed
from cluster.postgres.errors import (
    DatabaseFailed,
    DatabaseUnavailable,
    DiskFull,
    ForeignDirectory,
    OtherVersion,
)
from cluster.postgres.server import embedded_postgres
from compute.errors import RoehubError
from tests.cluster.postgres.user import assert_all_gone
from tests.postgres import FAST, execute, rows

ROOT_ONLY = pytest.mark.skipif(os.geteuid() != 0, reason="needs root")


@pytest.fixture(scope="module")
def stopped(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """A directory with a database whose server has ended; tests copy it."""
    directory = tmp_path_factory.mktemp("stopped") / "db"
    with embedded_postgres(directory, FAST) as dsn:
        execute(dsn, "CREATE TABLE kept (n int)")
    return directory


@pytest.fixture
def directory(stopped: Path, tmp_path: Path) -> Path:
    """A copy of it, with owners and modes."""
    place = tmp_path / "db"
    subprocess.run(["cp", "-a", str(stopped), str(place)], check=True)
    return place


def refused(directory: Path, kind: type[RoehubError]) -> str:
    """What an opening is refused with; nothing runs afterwards."""
    with pytest.raises(kind) as caught, embedded_postgres(directory, FAST):
        pass
    assert_all_gone(directory)
    return caught.value.message


@pytest.mark.parametrize(
    ("name", "what"),
    [("PG_VERSION", "a data directory of another PostgreSQL"), ("notes.txt", "in use")],
)
def test_a_directory_with_something_else_in_it(tmp_path: Path, name: str, what: str) -> None:
    (tmp_path / name).write_text("18\n")
    message = refused(tmp_path, ForeignDirectory)
    assert f"{tmp_path} is {what}, it holds {name}" in message
    assert [path.name for path in tmp_path.iterdir()] == [name]


def test_a_file_in_the_place_of_the_directory(tmp_path: Path) -> None:
    (tmp_path / "db").write_text("")
    assert "ROEHUB_DATA_DIR" in refused(tmp_path / "db", ForeignDirectory)


def test_data_of_another_version(directory: Path) -> None:
    (directory / "data" / "PG_VERSION").write_text("17\n")
    message = refused(directory, OtherVersion)
    assert "made by PostgreSQL 17, the installed one is 18" in message
    assert "install embedded-postgres 17" in message


def test_data_without_a_password(directory: Path) -> None:
    (directory / "password").unlink()
    assert f"{directory / 'password'} is missing" in refused(directory, ForeignDirectory)


@ROOT_ONLY
def test_data_of_another_user(directory: Path) -> None:
    os.chown(directory / "data", 1, 1)
    assert "belongs to user daemon" in refused(directory, ForeignDirectory)


@pytest.fixture
def foreign_server(directory: Path) -> Iterator[int]:
    """The pid of a server over the data that somebody else started."""
    account = binaries.account()
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port = probe.getsockname()[1]
    process = subprocess.Popen(
        [str(binaries.programs() / "postgres"), "-D", HERE, "-p", str(port), "-k", ""],
        cwd=directory / "data",
        env=ENVIRONMENT,
        user=account.uid,
        group=account.gid,
        extra_groups=None if account.uid is None else [],
        stderr=subprocess.PIPE,
        text=True,
    )
    with process:
        assert process.stderr is not None
        for line in process.stderr:
            if "ready to accept connections" in line:
                break
        yield process.pid
        process.send_signal(signal.SIGINT)
        process.communicate()


def test_data_in_use_by_a_server_of_somebody_else(directory: Path, foreign_server: int) -> None:
    with pytest.raises(ForeignDirectory) as caught, embedded_postgres(directory, FAST):
        pass
    assert f"(pid {foreign_server})" in caught.value.message
    assert caught.value.details == {"pid": foreign_server}


def test_a_lock_file_whose_pid_is_another_process_by_now(directory: Path) -> None:
    account = binaries.account()
    extra = None if account.uid is None else []
    sleeper = subprocess.Popen(
        ["sleep", "600"], user=account.uid, group=account.gid, extra_groups=extra
    )
    with sleeper:
        try:
            lock = directory / "data" / "postmaster.pid"
            lock.write_text(f"{sleeper.pid}\n{HERE}\n1700000000\n5432\n\n127.0.0.1\n\nready\n")
            lock.chmod(0o600)
            with embedded_postgres(directory, FAST) as dsn:
                assert rows(dsn, "SELECT count(*) FROM kept") == [(0,)]
            assert sleeper.poll() is None
        finally:
            sleeper.kill()


def test_a_port_that_was_taken_in_the_meantime(
    directory: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    free = server._free_port
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        ports = iter([port, port])
        monkeypatch.setattr(server, "_free_port", lambda: next(ports, None) or free())
        with embedded_postgres(directory, FAST) as dsn:
            assert rows(dsn, "SELECT 1") == [(1,)]
            assert f":{port}/" not in dsn


def test_no_port_at_all(directory: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    with socket.create_server(("127.0.0.1", 0)) as taken:
        port = taken.getsockname()[1]
        monkeypatch.setattr(server, "_free_port", lambda: port)
        assert "try again" in refused(directory, DatabaseUnavailable)


def test_what_postgresql_says_is_passed_on(directory: Path) -> None:
    with pytest.raises(DatabaseFailed) as caught, embedded_postgres(directory, {"max_wal": "1"}):
        pass
    assert 'unrecognized configuration parameter "max_wal"' in caught.value.message
    assert str(directory / "server.log") in caught.value.message


@pytest.fixture
def small_disk(tmp_path: Path) -> Iterator[Path]:
    """A file system of 96 MB."""
    place = tmp_path / "small"
    place.mkdir()
    mount = ["mount", "-t", "tmpfs", "-o", "size=96m,mode=0755", "tmpfs", str(place)]
    done = subprocess.run(mount, capture_output=True, check=False)
    if done.returncode != 0:
        pytest.skip(f"cannot mount a small disk: {done.stderr.decode().strip()}")
    yield place
    subprocess.run(["umount", "-l", str(place)], check=True)


def fill(disk: Path) -> None:
    """Leaves not one byte free, in a file `ballast`."""
    with (disk / "ballast").open("wb", buffering=0) as ballast, suppress(OSError):
        while ballast.write(bytes(4096)):
            pass


@ROOT_ONLY
def test_no_space_to_make_the_database(small_disk: Path) -> None:
    ballast = small_disk / "ballast"
    ballast.write_bytes(bytes(70 << 20))
    message = refused(small_disk / "db", DiskFull)
    assert "no space" in message
    assert not (small_disk / "db" / "data").exists()
    assert not (small_disk / "db" / "data.new").exists()
    ballast.unlink()
    with embedded_postgres(small_disk / "db", FAST) as dsn:
        assert rows(dsn, "SELECT 1") == [(1,)]


@ROOT_ONLY
def test_no_space_to_start_it(small_disk: Path, stopped: Path) -> None:
    subprocess.run(["cp", "-a", str(stopped), str(small_disk / "db")], check=True)
    fill(small_disk)
    assert "no space is left" in refused(small_disk / "db", DiskFull)
    (small_disk / "ballast").unlink()
    with embedded_postgres(small_disk / "db", FAST) as dsn:
        assert rows(dsn, "SELECT count(*) FROM kept") == [(0,)]


@ROOT_ONLY
def test_copies_are_made_where_only_root_can_change_them(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    copies.mkdir(mode=0o755)
    copies.chmod(0o777)
    with pytest.raises(ForeignDirectory, match="only root can change"):
        binaries.copied(binaries._wheel(), copies)
    copies.rmdir()
    copies.symlink_to(tmp_path)
    with pytest.raises(ForeignDirectory):
        binaries.copied(binaries._wheel(), copies)


@ROOT_ONLY
def test_a_copy_is_made_once_and_repaired_when_it_lost_a_file(tmp_path: Path) -> None:
    copies = tmp_path / "copies"
    made = binaries.copied(binaries._wheel(), copies)
    number = made.stat().st_ino
    assert binaries.copied(binaries._wheel(), copies).stat().st_ino == number
    shutil.rmtree(next(made.rglob("timezonesets")))
    repaired = binaries.copied(binaries._wheel(), copies)
    assert repaired == made
    assert next(made.rglob("timezonesets")).is_dir()
    assert [path.name for path in copies.iterdir()] == [made.name]


@ROOT_ONLY
def test_a_disk_that_fills_while_it_runs_costs_the_statement_only(
    small_disk: Path, stopped: Path
) -> None:
    subprocess.run(["cp", "-a", str(stopped), str(small_disk / "db")], check=True)
    fill_table = "INSERT INTO kept SELECT generate_series(1, 100000)"
    with embedded_postgres(small_disk / "db") as dsn:
        execute(dsn, "INSERT INTO kept VALUES (7)")
        fill(small_disk)
        with pytest.raises(DiskFull, match="no space left on its disk"), typed():
            execute(dsn, fill_table)
        (small_disk / "ballast").unlink()
        execute(dsn, fill_table)
        assert rows(dsn, "SELECT count(*) FROM kept") == [(100_001,)]
