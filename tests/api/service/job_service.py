"""The service with jobs: a real database, a real store, and runners in threads of this process."""

from __future__ import annotations

import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any

import httpx
from prometheus_client import CollectorRegistry

from api.app import create_app
from api.context import AppContext
from api.jobs import Jobs
from api.saved import Strategies, no_strategies
from cluster.jobs.database import Database
from cluster.jobs.metrics import RunnerMetrics
from cluster.jobs.runner import Runner
from cluster.postgres.engine import engine
from compute.executor import LocalExecutor
from compute.settings import Cpu
from ingest.stores.clickhouse import ClickHouse
from tests.api.service.market import CLIENT_S, context_of
from tests.api.service.serving import served
from tests.cluster.jobs.stored import SETTINGS

ANN = "00000000-0000-0000-0000-00000000000a"
BOB = "00000000-0000-0000-0000-00000000000b"
QUICK = replace(SETTINGS, claim_poll_seconds=0.05, lease_seconds=5.0, heartbeat_seconds=1.0)


def axis(*values: object) -> dict[str, Any]:
    return {"mode": "explicit", "values": list(values)}


def request(windows: int = 4, **members: Any) -> dict[str, Any]:
    """A request of 3 × `windows` base variants and two stops over candles of the store."""
    return {
        "time_range": {"start": "2026-01-01T00:00:00Z", "end": "2026-01-08T00:00:00Z"},
        "template": {
            "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
            "timeframe": "1h",
            "indicator_grids": [
                {
                    "indicator_id": "ma.sma",
                    "source": axis("close"),
                    "params": {
                        "window": {
                            "mode": "range", "start": 5, "stop_incl": 4 + windows, "step": 1,
                        }
                    },
                },
                {
                    "indicator_id": "momentum.rsi",
                    "source": axis("close"),
                    "params": {"window": axis(7, 14, 21)},
                },
            ],
            "signal_grids": {
                "momentum.rsi": {"long_threshold": axis(50), "short_threshold": axis(50)}
            },
            "risk_grid": {"sl_enabled": True, "sl": axis(1, 2)},
        },
        "warmup_bars": 50,
        "top_k": 5,
        "preselect": 8,
        "top_trades_n": 1,
        **members,
    }  # fmt: skip


@contextmanager
def job_service(
    store: ClickHouse | None,
    database: str,
    results_dir: Path,
    strategies: Strategies = no_strategies,
    **settings: Any,
) -> Iterator[tuple[httpx.Client, Jobs]]:
    """(a client who is Ann, the jobs) of a service with these stored strategies."""
    held: list[Jobs] = []

    def context() -> AppContext:
        found = context_of(
            store,
            engine=engine(database),
            results_dir=results_dir,
            cpu=Cpu(2),
            strategies=strategies,
        )
        held.append(Jobs(found, database, replace(QUICK, **settings)))
        found.parts["jobs"] = held[0]
        return found

    with (
        served(lambda: create_app(context()), stopping=lambda: held[0].feed.close()) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S, headers={"X-Roehub-User": ANN}) as client,
    ):
        yield client, held[0]


@contextmanager
def running(database: str, results_dir: Path) -> Iterator[Runner]:
    """A runner on two threads, in a thread of its own."""
    with Database(database) as connected:
        runner = Runner(
            connected, QUICK, lambda: LocalExecutor(2), RunnerMetrics(CollectorRegistry()),
            results_dir=results_dir,
        )  # fmt: skip
        thread = threading.Thread(target=runner.run, name="runner")
        thread.start()
        try:
            yield runner
        finally:
            runner.stop()
            thread.join(30)
            assert not thread.is_alive()


def until_ended(client: httpx.Client, job_id: str, seconds: float = CLIENT_S) -> dict[str, Any]:
    """The status of a job that has come to its end."""
    deadline = time.monotonic() + seconds
    while True:
        status = client.get(f"/backtests/jobs/{job_id}").json()
        if status["finished_at"] is not None:
            return status
        assert time.monotonic() < deadline, status
        time.sleep(0.05)
