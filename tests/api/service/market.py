"""A real store for the service, filled from a file as a user would, and the service over it."""

from __future__ import annotations

from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import pytest

from api.app import create_app
from api.context import AppContext
from api.settings import SyncSettings
from api.users import developer
from compute.indicators.defaults import indicator_defaults
from compute.market.instrument import Instrument
from compute.market.timeframe import TIMEFRAMES
from configs.load import config
from ingest.backfill import backfill
from ingest.exchanges.registry import MARKETS
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.references import ENABLED, InstrumentRow, ReferenceStore
from ingest.stores.settings import ClickHouseSettings
from ingest.synthetic import synthetic_candles, write_candles
from tests.api.service.serving import served

START_MS = 1_766_620_800_000  # 2025-12-25
MINUTES = 20 * 1_440  # to 2026-01-14
NOW_MS = 1_772_323_200_000  # 2026-03-01
BTC = Instrument(1, "BTCUSDT")
CLIENT_S = 240
"""Patience of a client: the first run of all compiles the kernels."""


def fill(db: ClickHouse, directory: Path) -> None:
    """One-minute candles of 1:BTCUSDT, one of 1:ETHUSDT and 2:BTCUSDT each, and references."""
    store, references = CandleStore(db), ReferenceStore(db)
    frame = TIMEFRAMES["1m"]
    for number, (instrument, bars) in enumerate(
        ((BTC, MINUTES), (Instrument(1, "ETHUSDT"), 1), (Instrument(2, "BTCUSDT"), 1))
    ):
        path = directory / f"{number}.parquet"
        made = synthetic_candles(seed=number, bars=bars, frame=frame, start_ms=START_MS)
        write_candles(path, made, frame=frame, instrument=instrument, synthetic=True)
        backfill(store, instrument, [path], clock=lambda: NOW_MS)
    references.seed_markets(NOW_MS)
    symbols = ("BTCUSDT", "BTCUSDC", "ETHUSDT", "A_B", "A%B", "AXB")
    references.upsert(
        [InstrumentRow(Instrument(1, symbol), ENABLED, True, NOW_MS) for symbol in symbols]
        + [InstrumentRow(Instrument(1, "BTCOLD"), "DISABLED", True, NOW_MS)]
        + [InstrumentRow(Instrument(1, "BTCHALT"), ENABLED, False, NOW_MS)]
    )
    assert len(MARKETS) == 4


@pytest.fixture(scope="session")
def store_directory(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """The directory of a filled store that nobody has open."""
    root = tmp_path_factory.mktemp("service")
    with open_clickhouse(ClickHouseSettings(path=root / "clickhouse"), "the tests") as db:
        migrate(db)
        db.command("SYSTEM STOP TTL MERGES")
        fill(db, root)
    return root / "clickhouse"


@pytest.fixture(scope="module")
def store(store_directory: Path) -> Iterator[ClickHouse]:
    """The filled store, open in this process."""
    with open_clickhouse(ClickHouseSettings(path=store_directory), "the tests") as db:
        db.command("SYSTEM STOP TTL MERGES")
        yield db


def context_of(store: ClickHouse | None, **changes: Any) -> AppContext:
    """A context of the shipped test environment over `store`."""
    file = config("indicators", {"ROEHUB_ENV": "test"})
    values: dict[str, Any] = {
        "sync": SyncSettings(60.0),
        "indicator_defaults": indicator_defaults(file.document, str(file.path)),
        "login": developer,
        "store": store,
        **changes,
    }
    return AppContext(**values)


@contextmanager
def client_of(made: Callable[[], AppContext]) -> Iterator[httpx.Client]:
    """A client of a service over the context that `made` makes."""
    with (
        served(lambda: create_app(made())) as url,
        httpx.Client(base_url=url, timeout=CLIENT_S) as client,
    ):
        yield client


@pytest.fixture(scope="module")
def client(store: ClickHouse) -> Iterator[httpx.Client]:
    """A client of the service over the filled store."""
    with client_of(lambda: context_of(store)) as client:
        yield client


def refused(response: httpx.Response, status: int = 422) -> dict[str, Any]:
    """The error of a response, whose envelope is checked."""
    assert response.status_code == status, response.text
    assert response.headers["content-type"] == "application/json"
    body = response.json()
    assert [*body] == ["error"]
    assert [*body["error"]] == ["code", "message", "details"]
    return body["error"]
