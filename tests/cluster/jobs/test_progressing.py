"""What is told of a run on its way: units, seconds left, the best rows so far."""

from __future__ import annotations

import asyncio
import time
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest

from cluster.jobs.best import Snapshots
from cluster.jobs.database import steady
from cluster.jobs.progressing import Course, Told
from cluster.jobs.store import TopRow
from compute.control import Progress
from compute.distinct import Groups
from compute.executor import LocalExecutor
from compute.selection import Best
from compute.stage_b import StageB
from tests.cluster.jobs.ledgers import Recorder
from tests.cluster.jobs.running import settings
from tests.cluster.problems import Problem, request


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_units_and_seconds_left() -> None:
    clock = Clock()
    course = Course(clock)
    assert course.stage == "stage_a"
    assert course.news() == []
    course(Progress("stage_a", 0, 1000))
    assert course.news() == [Told("stage_a", 0, 1000, None)]
    course(Progress("stage_a", 400, 1000))
    course.reused("stage_a", 400)  # was there before: tells nothing of the pace
    clock.now += 10
    assert course.news() == [Told("stage_a", 400, 1000, None)]
    course(Progress("stage_a", 600, 1000))
    # The first units of this run end what came before them; the pace is that of those after.
    assert course.news() == [Told("stage_a", 600, 1000, None)]
    clock.now += 10
    course(Progress("stage_a", 800, 1000))
    [told] = course.news()
    assert told == Told("stage_a", 800, 1000, 10.0)  # 200 in ten seconds, 200 to go
    course.written(told)
    assert course.news() == []
    course(Progress("stage_a_exact", 3, 5))  # a further pass
    assert course.news() == []
    course(Progress("stage_a", 1000, 1000))
    course(Progress("stage_b", 0, 7))
    assert course.news() == [Told("stage_a", 1000, 1000, 0.0), Told("stage_b", 0, 7, None)]
    assert (course.stage, course.done("stage_a"), course.done("finalizing")) == ("stage_b", 1000, 0)


def test_units_never_fall() -> None:
    course = Course(Clock())
    for done in (5, 3, 99):
        course(Progress("stage_b", done, 10))
    assert [told.done for told in course.news()] == [10]


class Searched:
    """Stage B of a small problem and its result."""

    def __init__(self, executor: LocalExecutor, **members: Any) -> None:
        self.problem = Problem(request(windows=6, periods=6, **members))
        self.stages: list[StageB] = []
        self.queries: list[Any] = []

        stages, queries = self.stages, self.queries

        class Spy(Recorder):
            def fold(
                self, stage: Any, query: Any, spans: Any, meter: Any, control: Any, sink: Any = None
            ) -> Any:
                if isinstance(stage, StageB) and stage.named is not None:
                    stages.append(stage)
                    queries.append(query)
                return super().fold(stage, query, spans, meter, control, sink)

        self.outcome = self.problem.outcome(Spy(executor))
        self.stage, self.scan = self.stages[0], self.queries[0]

    def part(self, start: int, stop: int) -> Any:
        return self.scan.part(self.stage, start, stop, lambda: None)


def test_the_last_snapshot_is_the_final_top(
    local: LocalExecutor, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.jobs.best._LEAST_SECONDS", 0.0)
    monkeypatch.setattr("cluster.jobs.best._SHARE", 1e9)
    found = Searched(local)
    shown: list[Sequence[TopRow]] = []
    snapshots = Snapshots(
        found.problem.job, settings(snapshot_seconds=None, snapshot_variants_step=18), shown.append
    )
    snapshots.stage_started()
    snapshots.block_started()
    merged: Any = None
    for rank in range(found.stage.total):
        part = found.part(rank, rank + 1)
        merged = found.scan.merge([part] if merged is None else [merged, part])
        snapshots.part_merged(found.stage, merged, 9 * (rank + 1))
        assert len(shown) <= (rank + 1) // 2  # a step is two ranks
    assert 1 < len(shown) <= found.stage.total // 2
    top = found.outcome.top
    assert [row.variant_index for row in shown[-1]] == top.index.tolist()
    assert [row.rank for row in shown[-1]] == [*range(1, 21)]
    assert [row.total_return_pct for row in shown[-1]] == ((top.equity - 1) * 100).tolist()
    keys = found.problem.job.key_template()
    flat, risk = found.outcome.flat(0), found.outcome.risk_index(0)
    assert shown[-1][0].variant_key == keys.variant_key(flat, risk)
    assert shown[-1][0].indicator_variant_key == keys.indicator_key(flat)
    assert shown[-1][0].payload["risk_params"] == found.problem.job.risk.params(risk)
    before = len(shown)
    snapshots.part_merged(found.stage, merged, 10_000)
    assert len(shown) == before  # nothing has changed


def test_snapshots_wait_for_their_time_and_know_no_groups(local: LocalExecutor) -> None:
    found = Searched(local)
    shown: list[Any] = []
    snapshots = Snapshots(
        found.problem.job, settings(snapshot_seconds=30.0, snapshot_variants_step=1), shown.append
    )
    snapshots.part_merged(found.stage, found.part(0, 3), 27)
    assert shown == []  # a step of one variant is due at once, but not within the first second
    snapshots._at = time.monotonic() - 31
    snapshots.part_merged(found.stage, Groups(np.empty(0, np.uint64), np.empty(0)), 30)
    assert shown == []
    snapshots.part_merged(found.stage, Best(np.empty(0, np.int64), np.empty(0)), 30)
    assert shown == []
    snapshots._at = time.monotonic() - 31
    snapshots.part_merged(found.stage, found.part(0, 3), 30)
    assert len(shown) == 1


def test_what_the_database_refuses_at_the_moment_is_tried_again() -> None:
    tried: list[float] = []

    async def third_time() -> str:
        tried.append(time.monotonic())
        if len(tried) < 3:
            raise ConnectionRefusedError("not yet")
        return "there"

    until = time.monotonic() + 30
    assert asyncio.run(steady(third_time, lambda: until)) == "there"
    assert len(tried) == 3

    async def never() -> None:
        tried.append(time.monotonic())
        raise ConnectionRefusedError("never")

    tried.clear()
    with pytest.raises(ConnectionRefusedError):
        asyncio.run(steady(never, lambda: time.monotonic() - 1))
    assert len(tried) == 1

    async def wrong() -> None:
        tried.append(time.monotonic())
        raise ValueError("a mistake of ours")

    tried.clear()
    with pytest.raises(ValueError, match="mistake"):
        asyncio.run(steady(wrong, lambda: until))
    assert len(tried) == 1
