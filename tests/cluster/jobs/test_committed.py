"""Committed spans are never computed again, and nothing shows in the result."""

from __future__ import annotations

import os
import random
import resource
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import numpy as np
import pytest

from cluster.jobs.committed import CommittedExecutor, FoldStart, units_of
from cluster.jobs.durable import ResultsUnwritable, sweep, write_all
from cluster.jobs.part_files import PartFiles
from compute.control import Control, Progress
from compute.errors import Cancelled
from compute.executor import Executor, LocalExecutor
from tests.cluster.jobs.ledgers import MemoryLedger, Recorder
from tests.cluster.problems import Problem, explicit, fine_lattice, outcome_bytes, request

SEED = 20260101


@pytest.fixture(autouse=True)
def many_spans(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("compute.executor.lattice", fine_lattice)


@pytest.fixture(scope="module")
def problem() -> Problem:
    return Problem(request())


@pytest.fixture(scope="module")
def crowded() -> Problem:
    """Nobody trades in most of 6 000 variants: a pass over ties follows the search."""
    body = request(windows=30, periods=20, preselect=50)
    body["template"]["signal_grids"]["momentum.rsi"] = {
        "long_threshold": explicit(*(100 - i / 100 for i in range(10))),
        "short_threshold": explicit(45),
    }
    body["template"]["direction_mode"] = "long-only"
    return Problem(body)


@pytest.fixture(scope="module")
def distinct() -> Problem:
    body = request(windows=8, periods=6, long_thresholds=(50, 55))
    body["ranking"] = {"primary_metric": "total_return_pct", "distinct": True}
    body["validation"] = {"holdout_fraction": 0.3}
    return Problem(body)


def columns_bytes(blocks: list[dict[str, Any]]) -> list[bytes]:
    index = np.concatenate([block["index"] for block in blocks])
    rows = np.argsort(index)
    assert np.array_equal(index[rows], np.arange(len(index)))
    return [np.concatenate([b[name] for b in blocks])[rows].tobytes() for name in sorted(blocks[0])]


class Bench:
    """Runs of one problem over one directory and one ledger."""

    def __init__(self, problem: Problem, directory: Path) -> None:
        self.problem, self.directory = problem, directory
        self.ledger = MemoryLedger()
        self.files = PartFiles(directory, "plan")

    def run(
        self, inner: Executor, *, columns: bool = True, control: Control | None = None,
        least_ns: float = 0.0, watch: Any = None,
    ) -> list[object]:  # fmt: skip
        """Everything that a run found, to the bit."""
        blocks: list[dict[str, Any]] = []
        with CommittedExecutor(
            inner, self.ledger, self.files, watch=watch, least_ns=least_ns
        ) as executor:
            outcome = self.problem.outcome(
                executor, sink=blocks.append if columns else None, control=control
            )
        return [*outcome_bytes(outcome), *(columns_bytes(blocks) if columns else ())]

    def plain(self, inner: Executor, *, columns: bool = True) -> list[object]:
        blocks: list[dict[str, Any]] = []
        outcome = self.problem.outcome(inner, sink=blocks.append if columns else None)
        return [*outcome_bytes(outcome), *(columns_bytes(blocks) if columns else ())]


@pytest.mark.parametrize("which", ["problem", "crowded", "distinct"])
def test_a_second_run_computes_nothing(
    which: str, request: pytest.FixtureRequest, local: LocalExecutor, tmp_path: Path
) -> None:
    bench = Bench(request.getfixturevalue(which), tmp_path)
    expected = bench.plain(local)
    first, second = Recorder(local), Recorder(local)
    assert bench.run(first) == expected
    assert first.spans == len(bench.ledger.rows) > 30
    assert bench.run(second) == expected
    assert second.spans == 0


@pytest.mark.parametrize("which", ["problem", "crowded", "distinct"])
def test_runs_that_are_stopped_again_and_again(
    which: str, request: pytest.FixtureRequest, local: LocalExecutor, tmp_path: Path
) -> None:
    bench = Bench(request.getfixturevalue(which), tmp_path)
    expected = bench.plain(local)
    chance = random.Random(SEED)
    computed: list[set[tuple[int, int, int]]] = []
    for _ in range(30):
        known = {(row.fold, row.start_at) for row in bench.ledger.rows.values()}
        control = Control()
        recorder = Recorder(local, chance.randrange(1, 25), lambda c=control: c.cancel("stop"))
        began: list[int] = []

        class Folds:
            def fold_started(self, fold: FoldStart, began: list[int] = began) -> None:
                if fold.reused < fold.spans:
                    began.append(fold.number)

            def part_merged(self, stage: Any, query: Any, merged: Any) -> None: ...

        try:
            found = bench.run(recorder, control=control, watch=Folds())
        except Cancelled:
            found = None
        asked = {
            (fold, *span)
            for fold, spans in zip(began, recorder.folds, strict=True)
            for span in spans
        }
        assert not {(fold, start) for fold, start, _ in asked} & known
        computed.append(asked)
        if found is not None:
            break
    else:
        pytest.fail("never finished")
    assert found == expected
    assert len(computed) > 3
    assert {(row.fold, row.start_at) for row in bench.ledger.rows.values()} == {
        (fold, start) for fold, start, _ in computed[0].union(*computed)
    }


def test_what_cannot_be_read_is_computed_again(
    problem: Problem, local: LocalExecutor, tmp_path: Path
) -> None:
    bench = Bench(problem, tmp_path)
    expected = bench.run(local)
    digests = {key: row.digest for key, row in bench.ledger.rows.items()}
    chance = random.Random(SEED)
    paths = sorted(bench.files.directory.glob("*.parquet"))
    chosen = chance.sample(paths, 6)
    for path in chosen[:3]:
        path.unlink()
    for path in chosen[3:]:
        path.write_bytes(path.read_bytes()[:-20])
    spans = {path.name.removesuffix("-columns.parquet").removesuffix(".parquet") for path in chosen}
    recorder = Recorder(local)
    assert bench.run(recorder) == expected
    assert recorder.spans == len(spans)
    assert {key: row.digest for key, row in bench.ledger.rows.items()} == digests


def test_parts_of_another_question_are_not_taken(local: LocalExecutor, tmp_path: Path) -> None:
    """Two plans under one key, which must never happen, still do not mix."""
    bench = Bench(Problem(request(windows=6, periods=6)), tmp_path)
    bench.run(local)
    bench.problem = Problem(request(windows=6, periods=6, preselect=20))
    assert bench.run(local) == bench.plain(local)


def test_parts_that_come_early_are_held_or_read_again(
    problem: Problem, local: LocalExecutor, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr("cluster.jobs.committed._HELD_PARTS", 2)

    class Backwards(Recorder):
        def fold(
            self, stage: Any, query: Any, spans: Any, meter: Any, control: Any, sink: Any = None
        ) -> Any:
            return super().fold(stage, query, spans[::-1], meter, control, sink)

    bench = Bench(problem, tmp_path)
    assert bench.run(Backwards(local)) == bench.plain(local)


def test_neighbours_share_a_file_where_they_are_cheap() -> None:
    spans = [(i, i + 1) for i in range(10)]
    assert [unit.spans for unit in units_of(spans, 1.0, 0.0)] == [(span,) for span in spans]
    joined = units_of(spans, 1.0, 4.0)
    assert [(unit.start, unit.stop) for unit in joined] == [(0, 4), (4, 8), (8, 10)]
    assert [span for unit in joined for span in unit.spans] == spans
    assert units_of([], 1.0, 4.0) == []


def test_shared_files_change_nothing(
    problem: Problem, local: LocalExecutor, tmp_path: Path
) -> None:
    bench = Bench(problem, tmp_path)
    recorder = Recorder(local)
    assert bench.run(recorder, least_ns=2e5) == bench.plain(local)
    assert 5 < len(bench.ledger.rows) < recorder.spans / 2
    again = Recorder(local)
    assert bench.run(again, least_ns=2e5) == bench.plain(local)
    assert again.spans == 0


def test_progress_counts_what_is_there_already(
    problem: Problem, local: LocalExecutor, tmp_path: Path
) -> None:
    bench = Bench(problem, tmp_path)
    bench.run(local)
    seen: list[Progress] = []
    with CommittedExecutor(local, bench.ledger, bench.files, least_ns=0.0) as executor:
        problem.outcome(executor, report=seen.append, sink=lambda _: None)
    for name, total in (("stage_a", 300), ("stage_b", 40 * 9)):
        done = [p.done for p in seen if p.stage == name and p.total == total]
        assert done == [0, total]


def test_a_ledger_that_fails_stops_the_run(
    problem: Problem, local: LocalExecutor, tmp_path: Path
) -> None:
    bench = Bench(problem, tmp_path)
    bench.ledger = MemoryLedger(fail_after=1)
    with pytest.raises(RuntimeError, match="the ledger is gone"):
        bench.run(local)
    assert not [thread for thread in threading.enumerate() if thread.name == "committer"]
    bench.ledger.fail_after = None
    assert bench.run(local) == bench.plain(local)


@contextmanager
def largest_file(size: int) -> Iterator[None]:
    """No file may grow beyond `size`, as if the disk were full there."""
    import signal

    before = resource.getrlimit(resource.RLIMIT_FSIZE)
    handler = signal.signal(signal.SIGXFSZ, signal.SIG_IGN)
    resource.setrlimit(resource.RLIMIT_FSIZE, (size, before[1]))
    try:
        yield
    finally:
        resource.setrlimit(resource.RLIMIT_FSIZE, before)
        signal.signal(signal.SIGXFSZ, handler)


def test_a_full_disk_leaves_nothing_torn(
    problem: Problem, local: LocalExecutor, tmp_path: Path
) -> None:
    bench = Bench(problem, tmp_path)
    with (
        largest_file(1500),
        pytest.raises(ResultsUnwritable, match=r"cannot be written: .*free some space") as full,
    ):
        bench.run(local)
    assert full.value.details["error"] == "results_unwritable"
    assert not [path for path in bench.files.directory.iterdir() if path.suffix == ".part"]
    committed = Recorder(local)
    done = len(bench.ledger.rows)
    assert bench.run(committed) == bench.plain(local)
    assert committed.spans == len(bench.ledger.rows) - done


def test_files_are_written_together_or_not_at_all(tmp_path: Path) -> None:
    (tmp_path / "taken").mkdir()
    with pytest.raises(ResultsUnwritable):
        write_all({tmp_path / "taken": b"a directory is in the way"})
    assert os.listdir(tmp_path) == ["taken"]
    write_all({tmp_path / "a": b"1", tmp_path / "b": b"2"})
    assert sorted(os.listdir(tmp_path)) == ["a", "b", "taken"]
    write_all({})
    left = tmp_path / ".a.0123.part"
    left.touch()
    sweep(tmp_path)
    assert left.exists()  # its writer may be alive
    sweep(tmp_path, older_seconds=-1)
    assert not left.exists()


def test_the_workers_of_the_plan_decide_its_cut(local: LocalExecutor, tmp_path: Path) -> None:
    files = PartFiles(tmp_path, "plan")
    with CommittedExecutor(local, MemoryLedger(), files, workers=7) as executor:
        assert (executor.workers, executor.name) == (7, "local")
    with CommittedExecutor(local, MemoryLedger(), files) as executor:
        assert executor.workers == local.workers
