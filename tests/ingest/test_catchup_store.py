"""Catching up while the store on a server breaks, and two processes at it at the same time."""

from __future__ import annotations

import asyncio
import json
import os
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import yaml

from compute.market.instrument import Instrument
from compute.market.period import Period
from configs.load import config
from ingest.catchup import CatchUpReport, catch_up, patient
from ingest.errors import StoreUnavailable
from ingest.fetching import Fetcher, FetchSettings
from ingest.http import HttpClients
from ingest.rows import MINUTE_MS, Origin, floor_minute, table_of
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse, open_clickhouse
from ingest.stores.migrate import migrate
from tests.cluster.cli import ROOT
from tests.ingest.candle_tables import candle_of
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.process import wall_clock
from tests.ingest.exchange_servers.settings import rest_settings
from tests.ingest.stand_in.process import StandIn

END = 3_000
# Of today: raw rows of another year's clock would expire before anybody could count them.
T0 = floor_minute(int(time.time() * 1000)) - END * MINUTE_MS
NOW_MS = T0 + END * MINUTE_MS + 30_000
RAW = "INSERT INTO `raw_binance"


@pytest.fixture(scope="module")
def db(stand_in: StandIn) -> Iterator[ClickHouse]:
    with open_clickhouse(stand_in.settings) as opened:
        migrate(opened)
        yield opened


@pytest.fixture(scope="module")
def server() -> Iterator[BinanceServer]:
    with BinanceServer(wall_clock) as started:
        yield started


def listed(server: BinanceServer, db: ClickHouse, symbol: str) -> Instrument:
    """An instrument with a whole exchange behind it and gaps in the store."""
    instrument = Instrument(1, symbol)
    server.tape(1).enlist(symbol, first_ms=T0)
    stored = [0, *range(100, 200), *range(1_900, 2_000)]
    rows = [candle_of(instrument, T0 + minute * MINUTE_MS) for minute in stored]
    CandleStore(db).insert(table_of(rows, Origin("file", NOW_MS)))
    return instrument


def assert_whole(db: ClickHouse, instrument: Instrument) -> None:
    """Every minute is stored as the exchange has it: nothing lost, nothing twice."""
    found = CandleStore(db).arrow(instrument, Period(T0, T0 + END * MINUTE_MS))
    wanted = [candle_of(instrument, T0 + minute * MINUTE_MS) for minute in range(END)]
    assert [t.value for t in found["ts_open"]] == [one.ts_open_ms for one in wanted]
    assert found["close"].to_pylist() == [one.close for one in wanted]


def caught_up(
    db: ClickHouse,
    server: BinanceServer,
    instrument: Instrument,
    sleep: Callable[[float], Awaitable[None]] | None = None,
) -> CatchUpReport:
    """A catch-up, which waits for the store where there is a way to."""

    async def run() -> CatchUpReport:
        clock = lambda: NOW_MS  # noqa: E731
        async with HttpClients({1: rest_settings(server.rest_url)}, clock=clock) as clients:
            run = asyncio.to_thread if sleep is None else patient(asyncio.to_thread, sleep=sleep)
            settings = FetchSettings(batch_rows=500)
            fetcher = Fetcher(db, clients, clock=clock, settings=settings, run=run)
            return await catch_up(fetcher, instrument)

    return asyncio.run(run())


def test_a_store_that_is_down_for_a_while_is_waited_for(
    db: ClickHouse, server: BinanceServer, stand_in: StandIn
) -> None:
    instrument = listed(server, db, "AWHILEUSDT")
    rests: list[float] = []

    async def sleep(seconds: float) -> None:
        rests.append(seconds)

    stand_in.fail("status", 503, times=3, matching=RAW)
    report = caught_up(db, server, instrument, sleep)
    assert rests == [0.5, 1, 2]
    assert report.tail_rows_written + report.gap_rows_written == END - 201
    assert_whole(db, instrument)


def test_a_store_that_was_killed_is_used_again_in_the_same_run(
    db: ClickHouse, server: BinanceServer, stand_in: StandIn
) -> None:
    instrument = listed(server, db, "RESTARTUSDT")
    stand_in.fail("drop", matching=RAW)

    async def sleep(seconds: float) -> None:
        await asyncio.to_thread(stand_in.kill)
        await asyncio.to_thread(stand_in.start)

    caught_up(db, server, instrument, sleep)
    assert_whole(db, instrument)


def test_a_lost_acknowledgement_stores_one_candle(
    db: ClickHouse, server: BinanceServer, stand_in: StandIn
) -> None:
    instrument = listed(server, db, "LOSTACKUSDT")
    stand_in.fail("lose", times=2, matching=RAW)

    async def sleep(seconds: float) -> None:
        """No time passes."""

    caught_up(db, server, instrument, sleep)
    assert_whole(db, instrument)


@pytest.mark.parametrize("table", [RAW, "INSERT INTO `gap_ledger"])
def test_without_patience_it_fails_and_the_next_run_goes_on(
    db: ClickHouse, server: BinanceServer, stand_in: StandIn, table: str
) -> None:
    instrument = listed(server, db, f"FAIL{table[-3:].upper()}USDT")
    stand_in.fail("status", 503, matching=table)
    with pytest.raises(StoreUnavailable):
        caught_up(db, server, instrument)
    caught_up(db, server, instrument)
    assert_whole(db, instrument)
    assert caught_up(db, server, instrument).gap_days_with_gaps == 0


def test_two_catch_ups_at_once_over_a_server(db: ClickHouse, server: BinanceServer) -> None:
    instrument = listed(server, db, "BOTHUSDT")
    with ThreadPoolExecutor(2) as pool:  # a loop, a fetcher and clients of the store each
        both = [pool.submit(caught_up, db, server, instrument) for _ in range(2)]
        assert all(one.result().instrument_id == instrument for one in both)
    assert_whole(db, instrument)


@pytest.mark.soak
def test_two_processes_at_once(
    db: ClickHouse, server: BinanceServer, stand_in: StandIn, tmp_path: Path
) -> None:
    instrument = listed(server, db, "TWOUSDT")
    document = yaml.safe_load(config("market_data", {"ROEHUB_ENV": "test"}).path.read_text())
    markets = document["market_data"]["markets"]
    document["market_data"]["markets"] = [one for one in markets if one["market_id"] == 1]
    document["market_data"]["markets"][0]["rest"]["base_url"] = server.rest_url
    path = tmp_path / "market_data.yaml"
    path.write_text(yaml.safe_dump(document))
    command = [
        sys.executable, "-m", "api.cli", "ingest", "rest-catchup", "--config", str(path),
        "--market-id", "1", "--symbol", instrument.symbol, "--batch-size", "1000",
        "--report-format", "json",
    ]  # fmt: skip
    processes = [
        subprocess.Popen(
            command, cwd=ROOT, env=os.environ | stand_in.environ, stdout=subprocess.PIPE, text=True
        )
        for _ in range(2)
    ]
    for one in processes:
        said, _ = one.communicate(timeout=120)
        assert one.returncode == 0
        assert json.loads(said)["instrument_id"]["symbol"] == "TWOUSDT"
    assert_whole(db, instrument)
