"""Section service: the API under load, while it is busy, its streams, and what commits cost.

One embedded PostgreSQL and one candle store for all; the service is the commands that users start.
"""

from __future__ import annotations

import tempfile
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from tests.benchmarks.findings import Findings, Goal, Table
from tests.benchmarks.options import Options
from tests.benchmarks.service_commits import commit_findings, commits
from tests.benchmarks.service_health import health, health_findings
from tests.benchmarks.service_load import load, load_findings
from tests.benchmarks.service_place import fill_candles, fill_jobs, place
from tests.benchmarks.service_streams import stream_findings, streams
from tests.benchmarks.workloads import Workload, many


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured: jobs in the database, rounds and seconds of the load, seconds of
    `/health`, minutes of candles, event streams and events, the committed grid and its rounds."""

    jobs: int
    rounds: int
    seconds: float
    health_seconds: float
    minutes: int
    readers: int
    events: int
    grid: Workload
    grid_rounds: int


FULL: Final = Sizes(4_000, 5, 2.0, 15.0, 100_000, 1_000, 30, many(1_000_000), 3)
QUICK: Final = Sizes(2_000, 2, 1.0, 5.0, 50_000, 200, 10, many(100_000), 2)


def section_service(options: Options) -> Findings:
    """Status and list, `/health` of a busy service, event streams, committed spans."""
    sizes, judged = QUICK if options.quick else FULL, not options.quick
    found: list[tuple[Table, list[Goal]]] = []
    with tempfile.TemporaryDirectory(prefix="roehub-bench-") as scratch, place(Path(scratch)) as on:
        options.say(f"service: {sizes.jobs} jobs and {sizes.minutes} minutes are stored")
        owned = fill_jobs(on, sizes.jobs)
        fill_candles(on, sizes.minutes)
        options.say(f"service: status and list, {sizes.rounds} rounds of {sizes.seconds} s each")
        with on.api() as api, on.bare() as bare:
            rounds = load(api, bare, owned, rounds=sizes.rounds, seconds=sizes.seconds)
        found.append(load_findings(rounds, judged=judged))
        options.say(f"service: /health, {sizes.health_seconds} s idle and busy")
        with on.api() as api, on.runner(max(options.threads)):
            busy = health(api, seconds=sizes.health_seconds, minutes=sizes.minutes)
        found.append(health_findings(busy, judged=judged))
        options.say(f"service: {sizes.readers} event streams, {sizes.events} events")
        with on.api() as api:
            streamed = streams(on, api, readers=sizes.readers, events=sizes.events)
        found.append(stream_findings(streamed, judged=judged))
        options.say(f"service: {sizes.grid.name} committed, {sizes.grid_rounds} rounds")
        committed = commits(on, sizes.grid, threads=max(options.threads), rounds=sizes.grid_rounds)
        found.append(commit_findings(committed, judged=judged))
    tables = [table for table, _ in found]
    return Findings("service", tables, [goal for _, goals in found for goal in goals])
