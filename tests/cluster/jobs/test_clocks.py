"""Clocks that jump by hours, of processes and of the database: no job is lost, none hangs."""

from __future__ import annotations

import re
import time
from collections.abc import Iterator
from contextlib import ExitStack
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.jobs.durable import UNFINISHED, sweep
from cluster.jobs.job import Job
from cluster.jobs.store import JobStore
from compute.executor import LocalExecutor
from tests.cluster.jobs.runner_process import Paced
from tests.cluster.jobs.running import (
    Looking,
    judge,
    runner_thread,
    spans_of,
    submit,
    undisturbed,
    until,
)
from tests.cluster.jobs.stored import claimed, created, execute, fetch, leases, run
from tests.cluster.jobs.test_faults import BODY, Watched, held, moments
from tests.cluster.jobs.test_leases import WRITES
from tests.cluster.problems import fine_lattice, request
from tests.postgres import execute as at_once

ROOT = Path(__file__).parents[3]
HOURS = (5, -12, 9)
TOLD_TO_PEOPLE = {"cluster/jobs/run.py", "cluster/session.py", "cluster/postgres/keeper.py"}
"""They write into a result, or a log, when something happened."""
WHAT_OTHERS_DATE = {"api/context.py"}
"""Logins of Telegram and one-time codes carry a time of their own."""
WHAT_IS_HISTORY = {"ingest/commands/options.py", "live/service.py"}
"""They say which candles of an exchange are closed by now."""


TIME_OF_DAY = re.compile(
    r"\btime\.(time|time_ns|localtime|gmtime)\(|\bdatetime\.(now|utcnow|today)\(|\bdate\.today\("
    r"|from time import"
)


@pytest.fixture
def many_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.executor.lattice", fine_lattice)
    monkeypatch.setattr("cluster.jobs.committed.LEAST_NS", 0.0)


class Wall:
    """The wall clock of this process, which may be put forward and back."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.seconds = 0.0
        real = time.time
        patch.setattr(time, "time", lambda: real() + self.seconds)
        patch.setattr(time, "time_ns", lambda: int((real() + self.seconds) * 1e9))


@pytest.fixture
def wall(monkeypatch: pytest.MonkeyPatch) -> Iterator[Wall]:
    with monkeypatch.context() as patch:
        yield Wall(patch)


def test_nothing_is_decided_by_the_wall_clock_of_a_process() -> None:
    found = {
        str(path.relative_to(ROOT))
        for layer in ("compute", "ingest", "cluster", "live", "api")
        for path in (ROOT / layer).rglob("*.py")
        if TIME_OF_DAY.search(path.read_text())
    }
    assert found == TOLD_TO_PEOPLE | WHAT_OTHERS_DATE | WHAT_IS_HISTORY


@pytest.mark.usefixtures("many_spans")
def test_a_runner_whose_clock_jumps(
    database: str, tmp_path: Path, local: LocalExecutor, wall: Wall
) -> None:
    undisturbed(BODY)
    [job_id] = submit(database, tmp_path, BODY)
    watched = Watched(database, tmp_path, job_id)
    with (
        runner_thread(database, tmp_path, held(Paced(local, 0.005))) as (_, metrics),
        Looking(database) as looking,
    ):
        for moment, hours in zip(moments(), HOURS, strict=True):
            until(lambda moment=moment: looking.spans() >= moment)
            wall.seconds += hours * 3600
            watched.note()
        until(looking.ended)
    total = watched.note()
    told = judge(database, job_id, BODY)
    assert (told["attempt"], told["spans_computed"]) == (1, total)
    assert metrics.spans_computed._value.get() == total  # pyright: ignore


def test_what_a_writer_is_about_to_finish_outlasts_a_jump(tmp_path: Path, wall: Wall) -> None:
    unfinished = tmp_path / f".part.0123{UNFINISHED}"
    unfinished.touch()
    for hours in HOURS:
        wall.seconds += hours * 3600
        sweep(tmp_path)
        assert unfinished.exists()


def jump(dsn: str, hours: int) -> None:
    """Leases as if the clock of the database had been put forward by some hours, or back."""
    columns = ("locked_at", "heartbeat_at", "lease_expires_at")
    moved = ", ".join(f"{name} = {name} - interval '{hours} hours'" for name in columns)
    at_once(dsn, f"update backtest_jobs set {moved} where state = 'running'")


@pytest.mark.slow
@pytest.mark.usefixtures("many_spans")
def test_leases_that_all_end_while_runners_compute(database: str, tmp_path: Path) -> None:
    """The clock of the database goes forward, so that all leases are over, and back."""
    bodies = [request(windows=9 + i, periods=7, preselect=20) for i in range(3)]
    for body in bodies:
        undisturbed(body)
    ids = submit(database, tmp_path, *bodies)
    before: dict[Any, Any] = {}

    def noted() -> int:
        """How many spans are committed; those that were stay as they were."""
        now = spans_of(database)
        assert {key: now[key] for key in before} == before
        before.update(now)
        return len(now)

    with ExitStack() as stack:
        looking = stack.enter_context(Looking(database))
        for number in range(2):
            pool = Paced(stack.enter_context(LocalExecutor(1)), 0.02)
            stack.enter_context(
                runner_thread(database, tmp_path, held(pool), owner=f"host-{number}")
            )
        for moment, hours in zip(moments(), HOURS, strict=True):
            until(lambda moment=moment: looking.spans() >= moment)
            jump(database, hours)
            noted()
        until(looking.ended)
    total = noted()
    told = [judge(database, job_id, body) for job_id, body in zip(ids, bodies, strict=True)]
    assert sum(one["spans_computed"] + one["spans_reused"] for one in told) == total
    assert max(one["attempt"] for one in told) > 1
    assert max(one["spans_reused"] for one in told) > 0


@pytest.mark.parametrize("name", WRITES)
def test_an_owner_may_write_after_the_clock_was_put_back(database: str, name: str) -> None:
    async def claim(found: AsyncEngine) -> Job:
        await created(found)
        return await claimed(found)

    job = run(database, claim)
    jump(database, -5)

    async def write(found: AsyncEngine) -> None:
        await WRITES[name](leases(found), job)

    run(database, write)


def test_a_lease_of_a_dead_runner_ends_though_the_clock_was_put_back(database: str) -> None:
    async def work(found: AsyncEngine) -> None:
        job = await created(found)
        first = await claimed(found)
        await execute(
            found,
            "update backtest_jobs set " + ", ".join(
                f"{name} = {name} + interval '5 hours'"
                for name in ("locked_at", "heartbeat_at", "lease_expires_at")
            ),
        )  # fmt: skip
        assert await leases(found, "host-2").claim() is None  # it may live
        [(left,)] = await fetch(
            found,
            "select extract(epoch from lease_expires_at - clock_timestamp()) from backtest_jobs",
        )
        assert 0 < left <= 60
        seen = await leases(found).heartbeat(first)  # and if it does, it goes on
        now = await JobStore(found).get(job.job_id)
        assert now is not None
        assert now.lease_expires_at == seen.lease_expires_at
        assert now.attempt == 1

    run(database, work)
