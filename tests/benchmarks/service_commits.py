"""What it costs to commit every span: the executor of jobs beside the one it computes on."""

from __future__ import annotations

import itertools
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from hashlib import sha256
from pathlib import Path
from typing import Any, Final

import numpy as np

from cluster.jobs.committed import CommittedExecutor
from cluster.jobs.database import Database
from cluster.jobs.holding import Holding
from cluster.jobs.job import Job
from cluster.jobs.leases import Leases
from cluster.jobs.part_files import PartFiles
from cluster.jobs.store import JobStore
from compute.control import Control
from compute.executor import Executor, LocalExecutor
from compute.pipeline import backtest
from tests.benchmarks.findings import Goal, Table
from tests.benchmarks.proof import Unequal
from tests.benchmarks.rounds import Times, Work, interleaved
from tests.benchmarks.service_place import Place, user_of
from tests.benchmarks.stages import UNGUARDED
from tests.benchmarks.workloads import Workload
from tests.cluster.jobs.requests import made
from tests.cluster.jobs.stored import SETTINGS
from tests.cluster.problems import outcome_bytes

MIB: Final = 1 << 20
AT_MOST: Final = 1.25
_OWNER: Final = "the benchmark"


@dataclass(frozen=True, slots=True)
class Committed:
    """Seconds by executor and columns, and what one committed run left, by columns."""

    workload: Workload
    times: Times
    spans: dict[bool, int]
    stored_bytes: dict[bool, int]


def commits(where: Place, workload: Workload, *, threads: int, rounds: int) -> Committed:
    """Runs a workload both ways in turn, each committed run under a plan of its own.

    Raises: Unequal where both find something else.
    """
    bench = _Bench(where, workload)
    numbers = itertools.count(1)
    with Database(where.dsn) as database, LocalExecutor(threads) as inner:
        found: dict[bool, list[object]] = {}
        for columns in (False, True):
            found[columns] = bench.run(inner, columns=columns)
            with bench.committed(database, inner, next(numbers)) as executor:
                if bench.run(executor, columns=columns) != found[columns]:
                    raise Unequal(f"a committed run differs; columns: {columns}")
            bench.note(columns)

        def work(*, columns: bool, committed: bool) -> Work:
            def done() -> None:
                if not committed:
                    bench.searched(inner, columns=columns)
                    return
                with bench.committed(database, inner, next(numbers)) as executor:
                    bench.searched(executor, columns=columns)

            return done

        works = {
            name(columns=columns, committed=committed): work(columns=columns, committed=committed)
            for columns in (False, True)
            for committed in (False, True)
        }
        times = interleaved(works, rounds=rounds)
    return Committed(workload, times, bench.spans, bench.stored_bytes)


def name(*, columns: bool, committed: bool) -> str:
    """Of a work."""
    return ("committed" if committed else "plain") + (", columns" if columns else "")


class _Bench:
    """One workload and the plans that its committed runs leave."""

    def __init__(self, where: Place, workload: Workload) -> None:
        self._where, self._workload = where, workload
        self._timeline = workload.timeline()
        self._snapshot = made()  # of any request: the job is a lease and the name of a plan
        self.spans: dict[bool, int] = {}
        self.stored_bytes: dict[bool, int] = {}
        self._last: Path

    def searched(self, executor: Executor, *, columns: bool) -> tuple[Any, list[dict[str, Any]]]:
        """(outcome, blocks of columns) of a run."""
        blocks: list[dict[str, Any]] = []
        outcome = backtest(
            self._workload.job, self._timeline, executor, limits=UNGUARDED,
            sink=blocks.append if columns else None,
        )  # fmt: skip
        return outcome, blocks

    def run(self, executor: Executor, *, columns: bool) -> list[object]:
        """All that a run finds, to the bit; of columns their digests, in the order of the grid."""
        outcome, blocks = self.searched(executor, columns=columns)
        found = list(outcome_bytes(outcome))
        if columns:
            index = np.concatenate([block["index"] for block in blocks])
            order = np.argsort(index)
            for member in sorted(blocks[0]):
                values = np.concatenate([block[member] for block in blocks])[order]
                found.append((member, len(values), sha256(values.tobytes()).hexdigest()))
        return found

    @contextmanager
    def committed(
        self, database: Database, inner: Executor, number: int
    ) -> Iterator[CommittedExecutor]:
        """An executor that commits under a plan that nobody has begun."""
        job = self._claimed(database, f"{number:064x}")
        leases = Leases(database.engine, _OWNER, SETTINGS)
        files = PartFiles(self._where.results, job.plan_key)
        self._last = files.directory
        with (
            Holding(job, leases, database, Control(), time.monotonic()) as holding,
            CommittedExecutor(inner, holding, files) as executor,
        ):
            yield executor
            executor.close()
            holding.cancelled()

    def _claimed(self, database: Database, plan_key: str) -> Job:
        store, leases = JobStore(database.engine), Leases(database.engine, _OWNER, SETTINGS)

        async def claimed() -> Job:
            await store.create(
                replace(self._snapshot, plan_key=plan_key), user_of(1), max_active=1,
                results_dir=str(self._where.results),
            )  # fmt: skip
            job = await leases.claim()
            if job is None or job.plan_key != plan_key:
                raise RuntimeError("another job was queued in the database of the benchmark")
            return job

        return database.call(claimed, time.monotonic)

    def note(self, columns: bool) -> None:
        """Counts what the last committed run left."""
        files = list(self._last.iterdir())
        self.spans[columns] = sum(not one.stem.endswith("-columns") for one in files)
        self.stored_bytes[columns] = sum(one.stat().st_size for one in files)


def commit_findings(found: Committed, *, judged: bool) -> tuple[Table, list[Goal]]:
    """The table of both executors with and without columns, and a goal for each."""
    rows: list[tuple[Any, ...]] = []
    goals: list[Goal] = []
    for columns in (False, True):
        plain = name(columns=columns, committed=False)
        committed = name(columns=columns, committed=True)
        ratio = found.times.ratio(committed, plain)
        least = found.times.least_ratio(committed, plain)
        for one in (plain, committed):
            mine = one is committed
            rows.append(
                (one, found.times.median(one), ratio if mine else 1.0,
                 found.spans[columns] if mine else None,
                 found.stored_bytes[columns] / MIB if mine else None)
            )  # fmt: skip
        what = "with columns" if columns else "without columns"
        goals.append(
            Goal(f"every span committed, {what}, over the plain executor", "at most", AT_MOST,
                 least, judged=judged)
        )  # fmt: skip
    table = Table(
        f"Committing every span: {found.workload.job.grid.total} base variants, "
        f"{found.workload.bars} bars",
        ("executor", "seconds", "ratio", "parts committed", "MiB written and synced"),
        rows,
        "candles in memory to top-50 on threads; equal to the bit was asserted; a committed run "
        "includes its job's creation, claim and end; PostgreSQL with the settings that users have",
    )
    return table, goals
