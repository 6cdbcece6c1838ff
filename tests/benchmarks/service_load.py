"""Status and list of the service beside the bare endpoint, in turn, from a client process."""

from __future__ import annotations

import statistics
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final
from uuid import UUID

import httpx
import psutil

from tests.benchmarks.findings import Goal, Table
from tests.benchmarks.http_load import client, get, report
from tests.benchmarks.proof import Unequal
from tests.benchmarks.service_place import Served

CONNECTIONS: Final = 50
ASKED_JOBS: Final = 500
STATUS: Final = "GET /backtests/jobs/{id}"
LIST: Final = "GET /backtests/jobs"
BARE_STATUS: Final = "bare FastAPI, the same status"
BARE_LIST: Final = "bare FastAPI, the same list"
BARE_STATE: Final = "bare FastAPI, one column of one row"
HEALTH: Final = "GET /health"
_BARE: Final = {STATUS: BARE_STATUS, LIST: BARE_LIST}

Owned = Mapping[UUID, Sequence[UUID]]


@dataclass(frozen=True, slots=True)
class Asked:
    """What a client asks of a process."""

    served: Served
    requests: Sequence[str]


@dataclass(frozen=True, slots=True)
class Turn:
    """One turn of one work: answers a second, delays, CPU seconds of the process an answer."""

    rate: float
    p50: float
    p99: float
    cpu: float
    client_share: float


def load(
    api: Served, bare: Served, owned: Owned, *, rounds: int, seconds: float
) -> list[dict[str, Turn]]:
    """A turn of every work a round; what they answer is compared before."""
    prove(api.url, bare.url, owned)
    works = _works(api, bare, owned)
    for asked in works.values():
        _turn(asked, seconds / 2)  # connections, prepared statements, caches
    return [{name: _turn(asked, seconds) for name, asked in works.items()} for _ in range(rounds)]


def prove(api: str, bare: str, owned: Owned) -> None:
    """Asks both for a status of every kind and lists of all users. Raises: Unequal."""
    with httpx.Client(timeout=30, trust_env=False) as http:
        for user_id, job_ids in owned.items():
            mine = {"X-Roehub-User": str(user_id)}
            pairs = [(f"{api}/backtests/jobs", f"{bare}/jobs?user_id={user_id}")]
            pairs += [
                (f"{api}/backtests/jobs/{job_id}", f"{bare}/jobs/{job_id}")
                for job_id in job_ids[:5]
            ]
            for ours, theirs in pairs:
                found, expected = http.get(ours, headers=mine), http.get(theirs)
                if found.status_code != 200 or found.content != expected.content:
                    raise Unequal(f"{ours} and the bare endpoint answer differently")


def _works(api: Served, bare: Served, owned: Owned) -> dict[str, Asked]:
    jobs = [(user_id, job_id) for user_id, job_ids in owned.items() for job_id in job_ids]
    some = jobs[:: max(1, len(jobs) // ASKED_JOBS)]
    return {
        STATUS: Asked(api, [get(f"/backtests/jobs/{job_id}", user) for user, job_id in some]),
        BARE_STATUS: Asked(bare, [get(f"/jobs/{job_id}", user) for user, job_id in some]),
        BARE_STATE: Asked(bare, [get(f"/state/{job_id}", user) for user, job_id in some]),
        LIST: Asked(api, [get("/backtests/jobs", user) for user in owned]),
        BARE_LIST: Asked(bare, [get(f"/jobs?user_id={user}", user) for user in owned]),
        HEALTH: Asked(api, [get("/health", next(iter(owned)))]),
    }


def _turn(asked: Asked, seconds: float) -> Turn:
    before = cpu_seconds(asked.served.pid)
    found = report(
        client(asked.served.url, asked.requests, connections=CONNECTIONS, seconds=seconds)
    )
    if found["refused"] or not found["answers"]:
        raise RuntimeError(f"not answered with 200: {found['refused']}")
    return Turn(
        found["answers"] / found["seconds"],
        found["delays"]["p50"],
        found["delays"]["p99"],
        (cpu_seconds(asked.served.pid) - before) / found["answers"],
        found["cpu_seconds"] / found["seconds"],
    )


def cpu_seconds(pid: int) -> float:
    """CPU seconds of a process so far."""
    spent = psutil.Process(pid).cpu_times()
    return spent.user + spent.system


def load_findings(rounds: list[dict[str, Turn]], *, judged: bool) -> tuple[Table, list[Goal]]:
    """The table of the rounds, and the goals of status and list."""

    def median(name: str, member: str) -> float:
        return statistics.median(getattr(one[name], member) for one in rounds)

    def ratio(name: str, other: str, member: str = "rate") -> float:
        return statistics.median(
            getattr(one[name], member) / getattr(one[other], member) for one in rounds
        )

    rows: list[tuple[Any, ...]] = [
        (
            name,
            median(name, "rate"),
            1000 * median(name, "p50"),
            1000 * median(name, "p99"),
            1e6 * median(name, "cpu"),
            ratio(name, _BARE[name]) if name in _BARE else None,
            ratio(name, BARE_STATE),
        )
        for name in rounds[0]
    ]
    share = max(turn.client_share for one in rounds for turn in one.values())
    table = Table(
        f"The service over loopback, {CONNECTIONS} connections that stay",
        (
            "request", "answers/s", "p50 ms", "p99 ms", "server's CPU µs an answer",
            "of the same bare", "of one column",
        ),
        rows,
        "medians of rounds taken in turn; one server process each with the same server, pool and "
        "driver, PostgreSQL on the same cores; a client of one process, which took "
        f"{100 * share:.0f} % of a core at most; the bare endpoints answer the same bytes, or one "
        "column of one row",
    )  # fmt: skip
    goals = [
        Goal(f"{name} of the bare endpoint's rate", "at least", 0.5,
             ratio(name, _BARE[name]), judged=judged)
        for name in _BARE
    ]  # fmt: skip
    return table, goals
