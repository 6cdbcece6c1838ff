"""Whoever is killed, and whenever: no server outlives its users, and no committed row is lost."""

from __future__ import annotations

import os
import signal
import time
from contextlib import ExitStack
from pathlib import Path

import psutil
import pytest

from cluster.postgres.server import embedded_postgres, running
from tests.cluster.postgres.user import assert_all_gone, processes, user
from tests.postgres import FAST, await_server, execute, kill_server, rows


@pytest.fixture
def directory(tmp_path: Path) -> Path:
    return tmp_path / "db"


def test_the_server_stays_until_its_last_user_leaves(directory: Path) -> None:
    with user(directory) as starter:
        found = starter.server()
        with user(directory) as joiner:
            assert joiner.server() == found
            assert starter.leave() == 0
            with embedded_postgres(directory) as dsn:
                assert rows(dsn, "SELECT 1") == [(1,)]
            assert running(directory) == found
            assert joiner.leave() == 0
    assert_all_gone(directory)


def test_a_killed_user_leaves_no_server(directory: Path) -> None:
    with user(directory) as only:
        found = only.server()
        only.kill()
    for pid in (found.keeper, found.server):
        if psutil.pid_exists(pid):
            psutil.wait_procs([psutil.Process(pid)], timeout=60)
    assert_all_gone(directory)


def test_a_killed_starter_takes_nothing_from_those_who_joined(directory: Path) -> None:
    with user(directory) as starter:
        found = starter.server()
        with embedded_postgres(directory) as dsn:
            starter.kill()
            execute(dsn, "CREATE TABLE kept (n int)")
            assert running(directory) == found
    assert_all_gone(directory)


def test_a_killed_keeper_leaves_no_server_and_the_next_opening_finds_the_data(
    directory: Path,
) -> None:
    with user(directory) as only:
        found = only.server()
        with embedded_postgres(directory) as dsn:
            execute(dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
            os.kill(found.keeper, signal.SIGKILL)
            until = time.monotonic() + 60
            while running(directory) == found:
                assert time.monotonic() < until
            with embedded_postgres(directory, FAST) as again:
                assert rows(again, "SELECT n FROM kept") == [(7,)]
                assert running(directory) != found
    assert_all_gone(directory)


def test_users_and_keeper_killed_together_leave_no_server(directory: Path) -> None:
    with user(directory) as only:
        found = only.server()
        only.kill()
        os.kill(found.keeper, signal.SIGKILL)
    assert_all_gone(directory)


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGINT])
def test_a_killed_server_comes_back_at_the_same_place(directory: Path, number: int) -> None:
    with embedded_postgres(directory) as dsn:
        execute(dsn, "CREATE TABLE kept (n int)", "INSERT INTO kept VALUES (7)")
        for _ in range(2):
            await_server(directory, kill_server(directory, number))
            assert rows(dsn, "SELECT n FROM kept") == [(7,)]
    assert_all_gone(directory)


def test_four_processes_that_open_at_once_share_one_server(directory: Path) -> None:
    with ExitStack() as stack:
        users = [stack.enter_context(user(directory)) for _ in range(4)]
        assert len({each.server() for each in users}) == 1
        assert [each.leave() for each in users] == [0] * 4
    assert_all_gone(directory)


@pytest.mark.parametrize("moment", ["data.new", "data", "data/postmaster.pid"])
def test_a_user_killed_while_it_starts_leaves_nothing_that_stops_the_next(
    directory: Path, moment: str
) -> None:
    with user(directory) as first:
        until = time.monotonic() + 60
        while not (directory / moment).exists():
            assert time.monotonic() < until
            time.sleep(0.001)
        first.kill()
    _, alive = psutil.wait_procs(processes(directory), timeout=60)
    assert not alive
    with embedded_postgres(directory, FAST) as dsn:
        assert rows(dsn, "SELECT 1") == [(1,)]
        assert not (directory / "data.new").exists()
    assert_all_gone(directory)


def test_an_opening_during_the_stop_waits_and_starts_anew(directory: Path) -> None:
    for _ in range(2):
        with user(directory) as leaver:
            before = leaver.server()
            assert leaver.process.stdin is not None
            leaver.process.stdin.close()
            with embedded_postgres(directory, FAST) as dsn:
                assert rows(dsn, "SELECT 1") == [(1,)]
                after = running(directory)
                assert after is not None
            assert leaver.process.wait(60) == 0
        assert before.port
    assert_all_gone(directory)
