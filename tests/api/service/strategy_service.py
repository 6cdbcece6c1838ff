"""The service with strategies over a real database, and what its users send."""

from __future__ import annotations

import itertools
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from pathlib import Path
from typing import Any
from uuid import UUID

import httpx

from api.app import add_strategies, create_app, end_streams
from api.context import AppContext
from api.jobs import Jobs
from cluster.postgres.engine import engine
from compute.settings import Cpu
from ingest.stores.clickhouse import ClickHouse
from live.strategies.settings import StrategySettings
from tests.api.service.job_service import QUICK
from tests.api.service.market import context_of
from tests.api.service.serving import served
from tests.postgres import TEMPLATE, execute, of_database

PATH = "/strategies"
USER = "X-Roehub-User"
NOBODY = str(UUID(int=0xFFFF))
_numbers = itertools.count(0xA000)

V2: dict[str, Any] = {
    "schema_version": 2,
    "instrument_id": {"market_id": 1, "symbol": "btcusdt"},
    "timeframe": "1h",
    "indicators": [
        {"id": "momentum.rsi", "inputs": {"source": "close"}, "params": {"window": 14}},
        {"id": "ma.sma", "inputs": {"source": "close"}, "params": {"window": 20}},
    ],
    "signals": {"momentum.rsi": {"long_threshold": 50, "short_threshold": 40}},
    "direction_mode": "long-only",
    "risk": {"sl_enabled": True, "sl_pct": 2},
    "execution": {"fee_pct": 0.2},
}
V1: dict[str, Any] = {
    "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
    "instrument_key": "binance:spot:BTCUSDT",
    "market_type": "spot",
    "timeframe": "1m",
    "indicators": [{"name": "MA", "params": {"slow": 50, "fast": 20}}],
}


def user() -> dict[str, str]:
    """The headers of a user whom no other test knows."""
    return {USER: str(UUID(int=next(_numbers)))}


@contextmanager
def own_database(postgres: str, name: str) -> Iterator[str]:
    """A migrated database of a module of tests."""
    execute(postgres, f"CREATE DATABASE {name} TEMPLATE {TEMPLATE}")
    try:
        yield of_database(postgres, name)
    finally:
        execute(postgres, f"DROP DATABASE IF EXISTS {name} WITH (FORCE)")


@contextmanager
def strategy_service(
    dsn: str,
    *,
    store: ClickHouse | None = None,
    results_dir: Path | None = None,
    **settings: Any,
) -> Iterator[httpx.Client]:
    """A client of a service with strategies; with jobs, too, where there is a `results_dir`."""
    held: list[Jobs] = []
    contexts: list[AppContext] = []

    def context() -> AppContext:
        found = context_of(store, engine=engine(dsn), results_dir=results_dir, cpu=Cpu(2))
        if results_dir is not None:
            held.append(Jobs(found, dsn, QUICK))
            found.parts["jobs"] = held[0]
        add_strategies(found, replace(StrategySettings(), **settings), dsn)
        contexts.append(found)
        return found

    def stopping() -> None:
        for jobs in held:
            jobs.feed.close()
        for found in contexts:
            end_streams(found)

    with (
        served(lambda: create_app(context()), stopping=stopping) as url,
        httpx.Client(base_url=url, timeout=180) as client,
    ):
        yield client


def made(client: httpx.Client, headers: dict[str, str], body: Any = V2, **more: str) -> Any:
    """A new strategy."""
    answer = client.post(PATH, json=body, headers=headers | more)
    assert answer.status_code == 201, answer.text
    return answer.json()
