"""Jobs that are really run: submitted over made-up candles, and judged by an undisturbed run."""

from __future__ import annotations

import asyncio
import functools
import json
import threading
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any
from uuid import UUID

import numpy as np
from prometheus_client import CollectorRegistry

from cluster.jobs.database import Database
from cluster.jobs.job import TERMINAL, Job
from cluster.jobs.market_file import write_market
from cluster.jobs.metrics import RunnerMetrics
from cluster.jobs.parts import METRICS
from cluster.jobs.runner import OpenExecutor, Runner
from cluster.jobs.settings import JobSettings
from cluster.jobs.snapshot import Snapshot, snapshot
from cluster.jobs.store import JobStore, TopRow
from cluster.postgres.engine import engine
from compute.backtest import Backtest
from compute.executor import LocalExecutor
from compute.market.timeline import Timeline, timeline
from compute.pipeline import backtest
from compute.results import canonical_result, result_document
from compute.settings import Defaults, Limits
from ingest.synthetic import synthetic_candles
from tests.cluster.jobs.stored import ANN, fetch, run
from tests.cluster.problems import DAY_MS, DAYS, FRAME, START_MS, WARMUP_BARS

LIMITS = Limits(10**7, 2**33)
PATIENCE_SECONDS = 180.0
FAST = JobSettings(
    enabled=True,
    top_k_persisted_default=300,
    max_active_jobs_per_user=100,
    claim_poll_seconds=0.05,
    lease_seconds=2.0,
    heartbeat_seconds=0.4,
    parallel_workers=1,
    snapshot_seconds=0.2,
    max_attempts=50,
)

Body = dict[str, Any]


@functools.cache
def _bars(seed: int) -> Any:
    bars = DAYS * DAY_MS // FRAME.ms + WARMUP_BARS
    start_ms = START_MS - WARMUP_BARS * FRAME.ms
    return synthetic_candles(seed=seed, bars=bars, frame=FRAME, start_ms=start_ms)


def market(job: Backtest) -> Timeline:
    return timeline(_bars(11), FRAME, job.instrument, job.timeframe, job.period, job.warmup_bars)


def made(body: Body, workers: int = 2, **options: Any) -> Snapshot:
    given: dict[str, Any] = {
        "defaults": Defaults(),
        "indicator_defaults": {},
        "limits": LIMITS,
        "workers": workers,
        "read_market": market,
    }
    return snapshot(body, **(given | options))


def submit(
    dsn: str, results: Path, *bodies: Body, user_id: UUID = ANN, max_attempts: int = 50
) -> list[UUID]:
    """Queues a job for each body."""

    async def create(found: Any) -> list[UUID]:
        ids: list[UUID] = []
        for body in bodies:
            one = made(body)
            write_market(results, one.timeline)
            job, _ = await JobStore(found).create(
                one, user_id, max_active=1000, results_dir=str(results), max_attempts=max_attempts
            )
            ids.append(job.job_id)
        return ids

    return run(dsn, create)


@dataclass(frozen=True, slots=True)
class Undisturbed:
    """What a run leaves that nothing and nobody disturbs."""

    canonical: bytes
    shortlist: list[int]
    columns: list[bytes]


@functools.cache
def _undisturbed(text: str) -> Undisturbed:
    one = made(json.loads(text))
    blocks: list[dict[str, Any]] = []
    with LocalExecutor(2) as executor:
        outcome = backtest(
            one.backtest, one.timeline, executor, limits=LIMITS,
            sink=blocks.append if one.keep_columns else None,
        )  # fmt: skip
        document = result_document(outcome, executor, run={})
    return Undisturbed(
        canonical_result(document), outcome.shortlist.index.tolist(), column_bytes(blocks)
    )


def undisturbed(body: Body) -> Undisturbed:
    return _undisturbed(json.dumps(body, sort_keys=True))


def column_bytes(blocks: list[dict[str, Any]]) -> list[bytes]:
    """The columns of all base variants in flat order; each variant must be there once."""
    index = np.concatenate([block["index"] for block in blocks])
    rows = np.argsort(index)
    assert np.array_equal(index[rows], np.arange(len(index)))
    return [np.concatenate([b[name] for b in blocks])[rows].tobytes() for name in METRICS]


def stored_columns(job: Job) -> list[bytes]:
    import pyarrow.parquet as pq

    blocks: list[dict[str, Any]] = []
    for path in (Path(job.results_dir) / "plans" / job.plan_key).glob("*-columns.parquet"):
        table = pq.read_table(path)
        blocks.append(
            {"index": table["flat_index"].to_numpy()}
            | {name: table[name].to_numpy() for name in METRICS}
        )
    return column_bytes(blocks)


def job_of(dsn: str, job_id: UUID) -> Job:
    found = run(dsn, lambda engine: JobStore(engine).get(job_id))
    assert found is not None
    return found


def top_of(dsn: str, job_id: UUID) -> list[TopRow]:
    return run(dsn, lambda engine: JobStore(engine).top(job_id))


def spans_of(dsn: str) -> dict[tuple[str, int, int], tuple[Any, ...]]:
    """(digest, time of its commit) of every committed span."""
    rows = run(
        dsn,
        lambda e: fetch(
            e, "select plan_key, fold, start_at, digest, committed_at from backtest_spans"
        ),
    )
    return {row[:3]: row[3:] for row in rows}  # type: ignore[misc]


def judge(dsn: str, job_id: UUID, body: Body) -> dict[str, Any]:
    """Holds all that a job left against the undisturbed run; the `run` of its result."""
    job, expected = job_of(dsn, job_id), undisturbed(body)
    assert job.state == "succeeded", job.last_error_json
    assert (job.stage, job.processed_units, job.total_units) == ("finalizing", 1, 1)
    document = json.loads((job.directory / "result.json").read_text())
    assert canonical_result(document) == expected.canonical
    assert (job.directory / "report.html").read_text().startswith("<!")
    assert not list(job.directory.glob(".*"))
    top = [
        {
            "variant_key": row.variant_key,
            "indicator_variant_key": row.indicator_variant_key,
            "variant_index": row.variant_index,
            "total_return_pct": row.total_return_pct,
            "payload": row.payload,
        }
        for row in top_of(dsn, job_id)
    ]
    assert top == [{name: variant[name] for name in top[0]} for variant in document["variants"]]
    query = "select stage_a_indexes_json from backtest_job_stage_a_shortlist where job_id = :j"
    assert run(dsn, lambda e: fetch(e, query, j=job_id)) == [(expected.shortlist,)]
    if job.keep_columns:
        assert stored_columns(job) == expected.columns
    return document["run"]


@contextmanager
def runner_thread(
    dsn: str,
    results: Path,
    open_executor: OpenExecutor,
    settings: JobSettings = FAST,
    owner: str = "host-1",
) -> Iterator[tuple[Runner, RunnerMetrics]]:
    """A runner in a thread of this process, until the block ends."""
    failed: list[BaseException] = []
    metrics = RunnerMetrics(CollectorRegistry())
    with Database(dsn) as database:
        runner = Runner(
            database, settings, open_executor, metrics, owner=owner, results_dir=results
        )

        def work() -> None:
            try:
                runner.run()
            except BaseException as error:
                failed.append(error)

        thread = threading.Thread(target=work)
        thread.start()
        try:
            yield runner, metrics
        finally:
            runner.stop()
            thread.join()
    if failed:
        raise failed[0]


def until(check: Callable[[], Any], seconds: float = PATIENCE_SECONDS) -> Any:
    """What `check()` returns as soon as it is true."""
    end = time.monotonic() + seconds
    while True:
        found = check()
        if found:
            return found
        assert time.monotonic() < end, "waited in vain"
        time.sleep(0.02)


class Looking:
    """Looks at a database again and again over one connection, from any thread."""

    def __init__(self, dsn: str) -> None:
        self._loop = asyncio.new_event_loop()
        self._engine = engine(dsn, connections=1)

    def __enter__(self) -> Looking:
        return self

    def __exit__(self, *error: object) -> None:
        self._loop.run_until_complete(self._engine.dispose())
        self._loop.close()

    def fetch(self, query: str, **values: Any) -> list[tuple[Any, ...]]:
        return self._loop.run_until_complete(fetch(self._engine, query, **values))

    def spans(self) -> int:
        return self.fetch("select count(*) from backtest_spans")[0][0]

    def attempt(self) -> int:
        """Attempt of the only job."""
        return self.fetch("select attempt from backtest_jobs")[0][0]

    def runners(self) -> int:
        """Connections of runners to the database."""
        return self.fetch(
            "select count(*) from pg_stat_activity"
            " where datname = current_database() and application_name = 'roehub jobs'"
        )[0][0]

    def ended(self) -> bool:
        """Whether all jobs are in a terminal state."""
        states = {state for (state,) in self.fetch("select state from backtest_jobs")}
        return states <= set(TERMINAL)


def settings(**changes: Any) -> JobSettings:
    return replace(FAST, **changes)
