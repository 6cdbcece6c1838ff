"""Processes killed while they load history: run again, nothing is lost and nothing twice.

No test here opens a store while another one is open: a process has one embedded store at a time.
"""

from __future__ import annotations

import asyncio
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.backfill import backfill
from ingest.catchup import catch_up
from ingest.fetching import Fetcher
from ingest.http import HttpClients
from ingest.rows import MINUTE_MS, Origin, floor_minute, table_of
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate
from ingest.stores.settings import ClickHouseSettings
from tests.ingest.candle_tables import candle_of, candle_table, parquet
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.settings import rest_settings
from tests.ingest.exchange_servers.tape import made_up

ROOT = Path(__file__).resolve().parents[2]
SYMBOL = "KILLUSDT"
INSTRUMENT = Instrument(1, SYMBOL)
ROWS = 5_000
# Of today: raw rows of another year's clock would expire before anybody could count them.
NOW = int(time.time() * 1000)
T0 = floor_minute(NOW) - ROWS * MINUTE_MS
WHOLE = Period(T0, T0 + ROWS * MINUTE_MS)


def killed(path: Path, *arguments: object) -> None:
    """Runs a child until it is where it stops, and kills it there."""
    command = [sys.executable, "-m", "tests.ingest.history_child", str(path), *map(str, arguments)]
    process = subprocess.Popen(
        command, cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
    )
    assert process.stdout is not None
    try:
        assert process.stdout.readline() == "here\n"
    finally:
        process.kill()
        process.wait()
        process.stdout.close()


@contextmanager
def opened(path: Path) -> Iterator[ClickHouse]:
    with open_clickhouse(ClickHouseSettings(path=path), owner="the tests") as db:
        migrate(db)
        yield db


@pytest.mark.parametrize("point", ["2", "report"])
def test_a_backfill_that_was_killed_is_run_again(tmp_path: Path, point: str) -> None:
    table = candle_table(ROWS, start_ms=T0)
    file = parquet(tmp_path / "a.parquet", table)
    killed(tmp_path / "store", "backfill", file, SYMBOL, 1_000, point, NOW)
    with opened(tmp_path / "store") as db:
        store = CandleStore(db)
        # What was acknowledged is there: two inserts, or all of them.
        before = 2_000 if point == "2" else ROWS
        assert store.arrow(INSTRUMENT, WHOLE).num_rows == before
        report = backfill(store, INSTRUMENT, [file], clock=lambda: NOW, batch_rows=1_000)
        assert report.rows_written == ROWS
        here = store.arrow(INSTRUMENT, WHOLE)
        assert here["ts_open"].to_pylist() == table["ts_open"].to_pylist()
        assert here["close"].to_pylist() == table["close"].to_pylist()
        assert store.duplicates(INSTRUMENT, WHOLE) == before  # raw rows are evidence


async def again(db: ClickHouse, url: str, now_ms: int):
    async with HttpClients({1: rest_settings(url)}, clock=lambda: now_ms) as clients:
        return await catch_up(Fetcher(db, clients, clock=lambda: now_ms), INSTRUMENT)


def test_a_catch_up_that_was_killed_is_run_again(tmp_path: Path) -> None:
    """Killed in a gap, after its rows were stored and before the ledger heard of them."""
    now_ms = WHOLE.end_ms + 30_000
    with BinanceServer(lambda: now_ms) as server:
        server.tape(1).enlist(SYMBOL, first_ms=T0)
        seeded = [*range(100), *range(2_000, 3_000)]
        with opened(tmp_path / "store") as db:
            candles = [candle_of(INSTRUMENT, T0 + m * MINUTE_MS) for m in seeded]
            CandleStore(db).insert(table_of(candles, Origin("file", NOW)))
        killed(tmp_path / "store", "catch_up", server.rest_url, SYMBOL, 1_000, 3, now_ms)
        with opened(tmp_path / "store") as db:
            store = CandleStore(db)
            stored = len(store.minutes(INSTRUMENT, WHOLE))
            assert len(seeded) < stored < ROWS
            report = asyncio.run(again(db, server.rest_url, now_ms))
            assert report.tail_rows_written + report.gap_rows_written == ROWS - stored
            here = store.arrow(INSTRUMENT, WHOLE)
            assert here["close"].to_pylist() == [
                made_up(SYMBOL, T0 + m * MINUTE_MS).close for m in range(ROWS)
            ]
            assert store.duplicates(INSTRUMENT, WHOLE) == 0
            assert store.missing(INSTRUMENT, WHOLE) == []
