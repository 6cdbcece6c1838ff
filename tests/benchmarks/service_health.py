"""`/health` of an idle service, and of one whose runs and jobs have all cores."""

from __future__ import annotations

import copy
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final

import httpx

from compute.market.period import instant
from compute.quantities import spaced
from ingest.rows import MINUTE_MS
from tests.benchmarks.findings import Goal, Table
from tests.benchmarks.http_load import client, get, post, report
from tests.benchmarks.service_place import MINUTES_START_MS, SYMBOL, Served, user_of
from tests.benchmarks.workloads import Workload, w2

RATE: Final = 100.0
GOAL_MS: Final = 50.0
RUNS: Final = 2
_CONNECTIONS: Final = 16
_SETTLE_SECONDS: Final = 60.0
_WARMUP_MINUTES: Final = 1_440


@dataclass(frozen=True, slots=True)
class Busy:
    """Delays of `/health` in seconds, and what else the service did meanwhile."""

    idle: dict[str, Any]
    busy: dict[str, Any]
    runs: int
    variants: int


def health(api: Served, *, seconds: float, minutes: int, large: bool = True) -> Busy:
    """Asks an idle service, then one at work; a runner waits, `minutes` candles are stored."""
    user = user_of(0)
    job, runs = _bodies(minutes, large=large)
    with httpx.Client(
        base_url=api.url, headers={"X-Roehub-User": str(user)}, timeout=120, trust_env=False
    ) as http:
        for body in runs:  # a process that has loaded its kernels
            http.post("/backtests", json=body).raise_for_status()
        idle = _asked(api, seconds)
        job_id = _queued(http, job)
        began = _units(http, job_id)
        requests = [post("/backtests", user, body) for body in runs]
        work = client(api.url, requests, connections=RUNS, seconds=seconds + 1)
        busy = _asked(api, seconds)
        variants = _units(http, job_id) - began
        found = report(work)
        http.post(f"/backtests/jobs/{job_id}/cancel").raise_for_status()
        _until(http, job_id, lambda status: status["finished_at"] is not None)
    if found["refused"]:
        raise RuntimeError(f"runs were not answered with 200: {found['refused']}")
    return Busy(idle, busy, found["answers"], variants)


def _bodies(minutes: int, *, large: bool) -> tuple[dict[str, Any], list[dict[str, Any]]]:
    """(a job of minutes, runs of a moment and of seconds); drawdown makes the long ones long."""
    bars = minutes - _WARMUP_MINUTES - 1
    heavy = w2(frame="1m", bars=bars).changed(ranking={"primary_metric": "max_drawdown_pct"})
    short, long, job = (
        _body(w2(frame="1m", bars=bars, average=10, rsi=10)),
        _body(heavy),
        _body(heavy),
    )
    if large:
        signals = job["template"]["signal_grids"]["momentum.rsi"]
        signals["long_threshold"] = _axis([53 + i / 2 for i in range(10)])
        signals["short_threshold"] = _axis([43 + i / 2 for i in range(10)])
    return job, [short, long] if large else [short]


def _axis(values: list[float]) -> dict[str, Any]:
    return {"mode": "explicit", "values": values}


def _body(grid: Workload) -> dict[str, Any]:
    """The request of a grid over as many candles of the store."""
    made = copy.deepcopy(grid.body)
    made["template"]["instrument_id"] = {"market_id": 1, "symbol": SYMBOL}
    at_ms = MINUTES_START_MS + _WARMUP_MINUTES * MINUTE_MS
    made["time_range"] = {"start": instant(at_ms), "end": instant(at_ms + grid.bars * MINUTE_MS)}
    return made


def _queued(http: httpx.Client, body: dict[str, Any]) -> str:
    """A job that is being computed."""
    answer = http.post("/backtests/jobs", json=body)
    answer.raise_for_status()
    job_id = answer.json()["job_id"]
    _until(http, job_id, lambda status: status["processed_units"] > 0)
    return job_id


def _until(http: httpx.Client, job_id: str, true: Callable[[dict[str, Any]], bool]) -> None:
    """Returns when something holds of a job's status."""
    until = time.monotonic() + _SETTLE_SECONDS
    while not true(status := http.get(f"/backtests/jobs/{job_id}").json()):
        if time.monotonic() > until:
            raise RuntimeError(f"the job does not get on: {status}")
        time.sleep(0.1)


def _units(http: httpx.Client, job_id: str) -> int:
    return http.get(f"/backtests/jobs/{job_id}").json()["processed_units"]


def _asked(api: Served, seconds: float) -> dict[str, Any]:
    found = report(
        client(
            api.url, [get("/health", user_of(0))],
            connections=_CONNECTIONS, seconds=seconds, rate=RATE,
        )
    )  # fmt: skip
    if found["refused"] or found["unanswered"]:
        raise RuntimeError(f"/health: {found['refused']}, {found['unanswered']} not answered")
    return found


def health_findings(found: Busy, *, judged: bool) -> tuple[Table, list[Goal]]:
    """The table of both states, and the goal of the second."""
    rows: list[tuple[Any, ...]] = [
        (
            name,
            *(1000 * one["delays"][which] for which in ("p50", "p99", "most")),
            1000 * one["late"]["p99"],
        )
        for name, one in (("idle", found.idle), ("runs and a job on all cores", found.busy))
    ]
    table = Table(
        f"GET /health, {RATE:.0f} times a second",
        ("the service is", "p50 ms", "p99 ms", "longest ms", "client itself late, p99 ms"),
        rows,
        "a delay counts from the time a request was due, the client's own lateness included; "
        f"meanwhile {RUNS} clients sent runs without pause, {found.runs} were answered, and a "
        f"runner computed {spaced(found.variants)} units of a job",
    )
    goal = Goal(
        "p99 of /health, runs and a job on all cores", "at most", GOAL_MS,
        1000 * found.busy["delays"]["p99"], "ms", judged=judged,
    )  # fmt: skip
    return table, [goal]
