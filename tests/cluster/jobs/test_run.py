"""A claimed job from its row to its end: what it leaves, what it tells, how it stops."""

from __future__ import annotations

import logging
import os
import threading
from collections.abc import Callable, Iterator, Sequence
from contextlib import AbstractContextManager, contextmanager
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from cluster.errors import ClusterLost
from cluster.jobs.market_file import market_path
from cluster.jobs.store import JobStore
from compute.control import Control, Meter
from compute.executor import Executor, LocalExecutor
from tests.cluster.jobs.ledgers import Recorder
from tests.cluster.jobs.running import (
    Looking,
    job_of,
    judge,
    runner_thread,
    settings,
    spans_of,
    submit,
    top_of,
    until,
)
from tests.cluster.jobs.stored import execute, run
from tests.cluster.problems import fine_lattice, request

Opened = Callable[[], AbstractContextManager[Executor]]


@pytest.fixture(autouse=True)
def many_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.executor.lattice", fine_lattice)
    monkeypatch.setattr("cluster.jobs.committed.LEAST_NS", 0.0)


class Gate(Recorder):
    """Lets `most` spans come back and holds the next one until it is opened."""

    def __init__(self, inner: Executor, most: int) -> None:
        super().__init__(inner, most, self._hold)
        self.reached, self.opened = threading.Event(), threading.Event()

    def _hold(self) -> None:
        self.reached.set()
        assert self.opened.wait(120)


class Second(Recorder):
    """Holds the second job that comes until it is opened."""

    def __init__(self, inner: Executor) -> None:
        super().__init__(inner)
        self.first: Control | None = None
        self.reached, self.opened = threading.Event(), threading.Event()

    def fold(
        self, stage: Any, query: Any, spans: Sequence[Any], meter: Meter, control: Control,
        sink: Any = None,
    ) -> Any:  # fmt: skip
        self.first = self.first or control
        if control is not self.first:
            self.reached.set()
            assert self.opened.wait(120)
        return super().fold(stage, query, spans, meter, control, sink)


def opener(executor: Executor) -> Opened:
    @contextmanager
    def opened() -> Iterator[Executor]:
        yield executor

    return opened


def finished(dsn: str) -> None:
    with Looking(dsn) as looking:
        until(looking.ended)


VARIED = [
    pytest.param({}, id="plain"),
    pytest.param(
        {
            "ranking": {"primary_metric": "total_return_pct", "distinct": True},
            "validation": {"holdout_fraction": 0.25},
        },
        id="distinct-holdout",
    ),
    pytest.param(
        {"ranking": {"primary_metric": "profit_factor", "min_trades": 3}}, id="profit-factor"
    ),
]


@pytest.mark.parametrize("members", VARIED)
def test_a_job_leaves_what_an_undisturbed_run_finds(
    database: str, tmp_path: Path, local: LocalExecutor, members: dict[str, Any]
) -> None:
    body = request(windows=8, periods=6, **members)
    [job_id] = submit(database, tmp_path, body)
    with runner_thread(database, tmp_path, opener(local)) as (_, metrics):
        finished(database)
    told = judge(database, job_id, body)
    assert told["spans_reused"] == 0
    assert told["spans_computed"] == len(spans_of(database))
    job = job_of(database, job_id)
    assert job.result_digest is not None
    value = metrics.claim._value.get()  # pyright: ignore[reportAttributeAccessIssue]
    assert value == 1
    assert metrics.ended["succeeded"]._value.get() == 1  # pyright: ignore


def test_progress_in_order_and_to_the_end(
    database: str, tmp_path: Path, local: LocalExecutor
) -> None:
    body = request(windows=8, periods=6)
    [job_id] = submit(database, tmp_path, body)
    with runner_thread(database, tmp_path, opener(local)), Looking(database) as looking:
        until(looking.ended)
        told = [
            (data["stage"], data["processed_units"], data["total_units"])
            for (data,) in looking.fetch(
                "select data from backtest_job_events where kind = 'progress' order by event_id"
            )
        ]
        kinds = [
            kind
            for (kind,) in looking.fetch("select kind from backtest_job_events order by event_id")
        ]
    assert told == [("stage_a", 48, 48), ("stage_b", 40 * 9, 40 * 9), ("finalizing", 0, 1)]
    assert kinds[-2:] == ["best", "state"]
    assert len(top_of(database, job_id)) == 20


def test_a_stop_hands_the_job_back_and_the_next_runner_goes_on(
    database: str, tmp_path: Path, local: LocalExecutor
) -> None:
    body = request(windows=8, periods=6)
    [job_id] = submit(database, tmp_path, body)
    gate = Gate(local, 20)
    slow = settings(lease_seconds=600.0, heartbeat_seconds=100.0)
    with runner_thread(database, tmp_path, opener(gate), slow) as (runner, metrics):
        gate.reached.wait(120)
        runner.stop()
        gate.opened.set()
    assert metrics.ended["released"]._value.get() == 1  # pyright: ignore
    before = spans_of(database)
    assert job_of(database, job_id).state == "running"
    assert len(before) >= 20
    rest = Recorder(local)
    with runner_thread(database, tmp_path, opener(rest), slow, owner="host-2"):
        finished(database)
    told = judge(database, job_id, body)
    assert told["attempt"] == 2
    assert told["spans_reused"] == len(before)
    after = spans_of(database)
    assert rest.spans == told["spans_computed"] == len(after) - len(before)
    assert {key: after[key] for key in before} == before


def test_cancelling_a_running_job_keeps_its_best_rows(
    database: str, tmp_path: Path, local: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.jobs.best._LEAST_SECONDS", 0.0)
    body = request(windows=8, periods=6)
    [job_id] = submit(database, tmp_path, body)
    always = settings(snapshot_seconds=0.001)

    class InStageB(Gate):
        """Holds the search of Stage B in its middle."""

        def fold(
            self, stage: Any, query: Any, spans: Sequence[Any], *rest: Any, **more: Any
        ) -> Any:
            self.delivered = 0 if stage.name == "stage_b" else -1_000_000
            return super().fold(stage, query, spans, *rest, **more)

    gate = InStageB(local, 15)
    with (
        runner_thread(database, tmp_path, opener(gate), always) as (_, metrics),
        Looking(database) as looking,
    ):
        gate.reached.wait(120)
        until(lambda: looking.fetch("select 1 from backtest_job_top_variants limit 1"))
        run(database, lambda engine: JobStore(engine).cancel(job_id))
        threading.Timer(2.0, gate.opened.set).start()  # past the next look at the row
        until(looking.ended)
    job = job_of(database, job_id)
    assert (job.state, job.stage) == ("cancelled", "stage_b")
    assert metrics.ended["cancelled"]._value.get() == 1  # pyright: ignore
    rows = top_of(database, job_id)
    assert [row.rank for row in rows] == [*range(1, len(rows) + 1)]
    returns = [row.total_return_pct for row in rows]
    assert returns == sorted(returns, reverse=True)


def test_a_lost_lease_ends_the_run_without_a_word(
    database: str, tmp_path: Path, local: LocalExecutor
) -> None:
    body = request(windows=8, periods=6)
    [job_id] = submit(database, tmp_path, body)
    gate = Gate(local, 20)
    slow = settings(claim_poll_seconds=600.0)
    with runner_thread(database, tmp_path, opener(gate), slow) as (_, metrics):
        gate.reached.wait(120)
        taken = "update backtest_jobs set locked_by = 'other', attempt = attempt + 1"
        run(database, lambda engine: execute(engine, taken))
        before = spans_of(database)
        gate.opened.set()
        until(lambda: metrics.ended["lease_lost"]._value.get())  # pyright: ignore
        assert spans_of(database) == before
        job = job_of(database, job_id)
        assert (job.state, job.locked_by) == ("running", "other")
        assert not job.directory.exists()


def test_a_lost_cluster_is_opened_again_and_the_attempt_counts(
    database: str, tmp_path: Path, local: LocalExecutor
) -> None:
    body = request(windows=8, periods=6)
    [job_id] = submit(database, tmp_path, body)
    opened: list[Executor] = []

    def lose() -> None:
        raise ClusterLost("the cluster is gone")

    @contextmanager
    def opening() -> Iterator[Executor]:
        opened.append(Recorder(local, 20, lose) if not opened else local)
        yield opened[-1]

    with runner_thread(database, tmp_path, opening) as (_, metrics):
        finished(database)
    assert len(opened) == 2
    told = judge(database, job_id, body)
    assert told["attempt"] == 2
    assert told["spans_reused"] >= 20
    assert metrics.ended["executor_lost"]._value.get() == 1  # pyright: ignore
    assert job_of(database, job_id).max_attempts == 50


def test_a_job_whose_end_cannot_be_written_holds_up_no_other(
    database: str, tmp_path: Path, local: LocalExecutor
) -> None:
    body = request(windows=8, periods=6)
    poison, other = submit(database, tmp_path, body, body)

    async def guard(found: AsyncEngine) -> None:
        await execute(
            found,
            "create function keep() returns trigger language plpgsql as"
            " $$ begin raise exception 'not this one'; end $$",
        )
        await execute(
            found,
            "create trigger keep before update on backtest_jobs for each row"
            f" when (new.job_id = '{poison}' and new.finished_at is not null)"
            " execute function keep()",
        )

    run(database, guard)
    with runner_thread(database, tmp_path, opener(local)) as (_, metrics):
        until(lambda: job_of(database, other).state == "succeeded")
    assert metrics.ended["crashed"]._value.get() >= 1  # pyright: ignore
    assert job_of(database, poison).state == "running"


def test_a_mount_that_is_gone_fails_no_job(
    database: str, tmp_path: Path, local: LocalExecutor, caplog: pytest.LogCaptureFixture
) -> None:
    body = request(windows=8, periods=6)
    caplog.set_level(logging.INFO)
    results, away = tmp_path / "results", tmp_path / "away"
    results.mkdir()
    with runner_thread(database, results, opener(local)):
        results.rename(away)
        results.mkdir()  # what is left of a mount
        until(lambda: "results_missing" in caplog.text)
        [job_id] = submit(database, away, body)

        async def move(found: AsyncEngine) -> None:
            await execute(found, f"update backtest_jobs set results_dir = '{results}'")

        run(database, move)
        assert job_of(database, job_id).attempt == 0
        results.rmdir()
        away.rename(results)
        finished(database)
    judge(database, job_id, body)
    assert "results_back" in caplog.text


def test_a_runner_that_is_never_idle_sweeps_all_the_same(
    database: str, tmp_path: Path, local: LocalExecutor
) -> None:
    body = request(windows=8, periods=6)
    submit(database, tmp_path, body, request(windows=7, periods=6))
    loose = tmp_path / "candles" / f"{'0' * 64}-1h.arrow"
    loose.write_text("of a job that was deleted")
    os.utime(loose, (1e9, 1e9))
    second = Second(local)
    with runner_thread(database, tmp_path, opener(second)):
        assert second.reached.wait(120)
        there = loose.exists()
        second.opened.set()
        finished(database)
    assert not there


def test_a_failure_keeps_its_code_message_and_details(
    database: str, tmp_path: Path, local: LocalExecutor
) -> None:
    body = request(windows=8, periods=6)
    [lost] = submit(database, tmp_path, body)
    job = job_of(database, lost)
    market_path(tmp_path, job.candles_fingerprint, "15m").unlink()
    with runner_thread(database, tmp_path, opener(local)):
        finished(database)
    job = job_of(database, lost)
    assert job.state == "failed"
    assert job.last_error_json is not None
    assert job.last_error_json["details"]["error"] == "market_file_lost"
    assert "submit the request again" in (job.last_error or "")


def test_a_full_disk_fails_the_job_with_its_cure(
    database: str, tmp_path: Path, local: LocalExecutor
) -> None:
    body = request(windows=8, periods=6)
    [job_id] = submit(database, tmp_path, body)
    (tmp_path / "plans").write_text("a file is in the way of the directory")
    with runner_thread(database, tmp_path, opener(local)):
        finished(database)
    job = job_of(database, job_id)
    assert job.state == "failed"
    assert job.last_error_json is not None
    assert job.last_error_json["details"]["error"] == "results_unwritable"
    assert "free some space" in (job.last_error or "")
    assert spans_of(database) == {}


def test_another_build_of_the_engine_reuses_nothing(
    database: str, tmp_path: Path, local: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    body = request(windows=8, periods=6)
    with monkeypatch.context() as older:
        older.setattr("cluster.jobs.snapshot.ENGINE_VERSION", "0.0.1")
        first, second = submit(database, tmp_path, body, body)
        with runner_thread(database, tmp_path, opener(Recorder(local, 5, _boom))):
            until(lambda: job_of(database, first).state == "failed")
            until(lambda: job_of(database, second).state == "succeeded")
    old = job_of(database, second).plan_key
    [third] = submit(database, tmp_path, body)
    run(database, lambda e: execute(
        e, "update backtest_jobs set plan_key = :old where job_id = :j", old=old, j=third
    ))  # fmt: skip
    with runner_thread(database, tmp_path, opener(local)):
        finished(database)
    assert judge(database, third, body)["spans_reused"] == 0
    assert job_of(database, third).plan_key != old


def _boom() -> None:
    raise ValueError("a mistake of ours")
