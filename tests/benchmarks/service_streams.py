"""A thousand waiting event streams: what they weigh, and when an event has come to all of them."""

from __future__ import annotations

import json
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final

from cluster.jobs.database import Database
from cluster.jobs.job import Job
from cluster.jobs.leases import Leases
from cluster.jobs.store import JobStore
from tests.benchmarks.findings import Goal, Table
from tests.benchmarks.http_load import quantiles
from tests.benchmarks.observed import ROOT
from tests.benchmarks.service_load import cpu_seconds
from tests.benchmarks.service_place import Place, Served, user_of
from tests.cluster.jobs.requests import made
from tests.cluster.jobs.stored import SETTINGS

KIB: Final = 1024
GOAL_KIB: Final = 128.0
GOAL_S: Final = 1.0
_UNITS: Final = 1_000_000


@dataclass(frozen=True, slots=True)
class Streamed:
    """Bytes that the API grew by for all readers; seconds from the call of each commit to the
    first, the middle and the last reader; CPU seconds of the API an event."""

    readers: int
    grown_bytes: int
    seconds: Sequence[tuple[float, float, float]]
    cpu: float


def streams(where: Place, api: Served, *, readers: int, events: int) -> Streamed:
    """Opens the streams of one running job, then commits progress and waits for all readers."""
    with Database(where.dsn) as database:
        leases = Leases(database.engine, "the benchmark", SETTINGS)
        job = _running(where, database, leases)
        with _readers(api, job, 1) as few:  # what the first stream of a process brings along
            _line(few)
        before = _rss_bytes(api.pid)
        with _readers(api, job, readers) as process:
            if _line(process) != "open":
                raise RuntimeError("the readers did not open")
            grown = _rss_bytes(api.pid) - before
            cpu = cpu_seconds(api.pid)
            seconds = [_told(process, database, leases, job, done) for done in range(1, events + 1)]
            cpu = (cpu_seconds(api.pid) - cpu) / events
        database.call(lambda: leases.cancelled(job), time.monotonic)
    return Streamed(readers, grown, seconds, cpu)


def _told(
    process: subprocess.Popen[str], database: Database, leases: Leases, job: Job, done: int
) -> tuple[float, float, float]:
    """Seconds from the call that commits to the first, the middle and the last reader."""
    began = time.monotonic()
    database.call(lambda: leases.progress(job, "stage_a", done, _UNITS), time.monotonic)
    first, middle, last = json.loads(_line(process))
    return first - began, middle - began, last - began


def _running(where: Place, database: Database, leases: Leases) -> Job:
    store = JobStore(database.engine)

    async def claimed() -> Job:
        await store.create(made(), user_of(2), max_active=1, results_dir=str(where.results))
        job = await leases.claim()
        assert job is not None
        return job

    return database.call(claimed, time.monotonic)


@contextmanager
def _readers(api: Served, job: Job, count: int) -> Iterator[subprocess.Popen[str]]:
    host, _, port = api.url.removeprefix("http://").partition(":")
    process = subprocess.Popen(
        [
            sys.executable, "-m", "tests.benchmarks.event_readers", host, port,
            f"/backtests/jobs/{job.job_id}/events", str(job.user_id), str(count),
        ],
        cwd=ROOT, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    try:
        yield process
    finally:
        process.kill()
        process.wait()


def _line(process: subprocess.Popen[str]) -> str:
    assert process.stdout is not None
    line = process.stdout.readline()
    if not line:
        raise RuntimeError(f"the readers ended with {process.wait()}")
    return line.strip()


def _rss_bytes(pid: int) -> int:
    for line in Path(f"/proc/{pid}/status").read_text(encoding="ascii").splitlines():
        if line.startswith("VmRSS:"):
            return int(line.split()[1]) * KIB
    raise OSError(f"/proc/{pid}/status has no VmRSS")


def stream_findings(found: Streamed, *, judged: bool) -> tuple[Table, list[Goal]]:
    """The table of the readers, a goal of their memory and one of the last arrival."""
    each = found.grown_bytes / found.readers / KIB
    rows: list[tuple[Any, ...]] = []
    for at, which in enumerate(("first", "middle", "last")):
        spread = quantiles([one[at] for one in found.seconds])
        rows.append((f"the {which} reader", *(1000 * spread[name] for name in spread)))
    table = Table(
        f"{found.readers} event streams of one job: a committed event to its arrival",
        ("at", "p50 ms", "p99 ms", "longest ms"),
        rows,
        f"{len(found.seconds)} events of progress, from the call that commits them, its "
        "transaction included; the readers are one process; the API grew by "
        f"{found.grown_bytes / KIB / KIB:.0f} MiB, "
        f"{each:.0f} KiB a stream, and spent {1000 * found.cpu:.0f} ms of CPU an event",
    )
    last = quantiles([one[2] for one in found.seconds])
    goals = [
        Goal(f"memory of the API, {found.readers} streams", "at most", GOAL_KIB, each,
             "KiB a stream", judged=judged),
        Goal(f"an event at all {found.readers} streams, p99", "at most", GOAL_S, last["p99"], "s",
             judged=judged),
    ]  # fmt: skip
    return table, goals
