"""`roehub ingest rest-catchup` as one calls it: reports, exit codes, what stdout holds."""

from __future__ import annotations

import json
import os
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
import yaml

from compute.market.instrument import Instrument
from compute.market.period import Period
from configs.load import config
from ingest.rows import MINUTE_MS, Origin, floor_minute, table_of
from ingest.stores.candles import CandleStore
from ingest.stores.ready import ready_store
from ingest.stores.references import ENABLED, InstrumentRow, ReferenceStore
from ingest.stores.settings import ClickHouseSettings
from tests.cluster.cli import call
from tests.ingest.candle_tables import candle_of
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.process import wall_clock
from tests.ingest.exchange_servers.tape import made_up

T0 = floor_minute(int(time.time() * 1000)) - 120 * MINUTE_MS
FIELDS = [
    "instrument_id", "tail_start", "tail_end", "tail_rows_read", "tail_rows_written",
    "tail_batches", "gap_scan_start", "gap_scan_end", "gap_days_scanned", "gap_days_with_gaps",
    "gap_ranges_filled", "gap_rows_read", "gap_rows_written", "gap_rows_skipped_existing",
    "gap_batches",
]  # fmt: skip
BTC, ETH, NEW, BAD = (Instrument(1, f"{name}USDT") for name in ("BTC", "ETH", "NEW", "BAD"))


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path / "data"))


@pytest.fixture(scope="module")
def server() -> Iterator[BinanceServer]:
    with BinanceServer(wall_clock) as started:
        started.tape(1).enlist("BTCUSDT", "ETHUSDT", "NEWUSDT", first_ms=T0)
        yield started


@pytest.fixture
def settings(tmp_path: Path, server: BinanceServer) -> Path:
    """The test settings with one market, at the server."""
    document = yaml.safe_load(config("market_data", {"ROEHUB_ENV": "test"}).path.read_text())
    section: dict[str, Any] = document["market_data"]
    section["markets"] = [one for one in section["markets"] if one["market_id"] == 1]
    section["markets"][0]["rest"] |= {"base_url": server.rest_url, "retries": 0}
    section["ingestion"]["rest_inter_instrument_delay_s"] = 0.0
    path = tmp_path / "market_data.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


def seed(instruments: list[Instrument], minutes: list[int], price: float | None = None) -> None:
    candles = [candle_of(i, T0 + m * MINUTE_MS, price) for i in instruments for m in minutes]
    with ready_store(ClickHouseSettings.from_environment(os.environ), "the tests") as db:
        CandleStore(db).insert(table_of(candles, Origin("file", T0)))


def assert_whole(instrument: Instrument, end: int) -> None:
    """The first minutes are stored as the exchange has them, none twice, none left out."""
    with ready_store(ClickHouseSettings.from_environment(os.environ), "the tests") as db:
        store, period = CandleStore(db), Period(T0, T0 + end * MINUTE_MS)
        wanted = [made_up(instrument.symbol, T0 + m * MINUTE_MS).close for m in range(end)]
        assert store.arrow(instrument, period)["close"].to_pylist() == wanted
        assert store.missing(instrument, period) == []


def catch_up(settings: Path, *arguments: str) -> Any:
    return call("ingest", "rest-catchup", "--config", str(settings), *arguments)


ONE = ("--market-id", "1", "--symbol", "btcusdt")
JSON = ("--report-format", "json")


def test_one_instrument_as_json_and_as_text(settings: Path) -> None:
    seed([BTC], [0, 1, 5])
    done = catch_up(settings, *ONE, *JSON)
    assert done.status == 0, done.stderr
    report = json.loads(done.stdout)  # and nothing else
    assert list(report)[: len(FIELDS)] == FIELDS
    assert report["instrument_id"] == {"market_id": 1, "symbol": "BTCUSDT"}
    assert report["gap_rows_written"] == 3
    assert report["tail_rows_written"] >= 114
    assert_whole(BTC, 120)
    again = catch_up(settings, *ONE)
    assert again.status == 0
    assert "instrument_id: 1:BTCUSDT\n" in again.stdout
    assert "gap_rows_written: 0\n" in again.stdout
    assert "tail_rows_read: " in again.stdout


def test_an_instrument_without_a_candle(settings: Path) -> None:
    none = catch_up(settings, *ONE, *JSON)
    assert none.status == 2
    assert "--with-history" in json.loads(none.stdout)["error"]["message"]
    whole = catch_up(settings, *ONE, *JSON, "--with-history")
    assert whole.status == 0, whole.stderr
    assert json.loads(whole.stdout)["history_rows_written"] >= 119
    assert_whole(BTC, 119)


def test_force_writes_newer_versions(settings: Path) -> None:
    seed([BTC], list(range(30)), price=7.0)
    bounds = ("--start", stamp(0), "--end", stamp(10))
    done = catch_up(settings, *ONE, *JSON, "--force", *bounds)
    assert done.status == 0, done.stderr
    assert json.loads(done.stdout)["gap_rows_written"] == 10
    assert_whole(BTC, 10)
    assert catch_up(settings, *ONE, "--force").status == 0
    assert_whole(BTC, 119)


def stamp(minute: int) -> str:
    seconds = (T0 + minute * MINUTE_MS) // 1000
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(seconds))


def test_every_active_instrument_and_a_failure_stops_no_other(settings: Path) -> None:
    seed([BTC, ETH, BAD], [0, 1])
    off = Instrument(1, "OFFUSDT")
    with ready_store(ClickHouseSettings.from_environment(os.environ), "the tests") as db:
        rows = [InstrumentRow(one, ENABLED, True, T0) for one in (BTC, ETH, NEW, BAD, off)]
        rows.append(InstrumentRow(off, "DISABLED", False, T0 + 1))
        ReferenceStore(db).upsert(rows)
    done = catch_up(settings, "--all-from-ref-instruments", *JSON)
    assert done.status == 2
    found = json.loads(done.stdout)
    assert (found["instruments_total"], found["instruments_ok"]) == (4, 2)
    assert (found["instruments_failed"], found["instruments_skipped_no_seed"]) == (1, 1)
    statuses = {o["instrument_id"]["symbol"]: o["status"] for o in found["outcomes"]}
    assert statuses == {
        "BADUSDT": "failed",
        "BTCUSDT": "ok",
        "ETHUSDT": "ok",
        "NEWUSDT": "skipped_no_seed",
    }
    assert_whole(BTC, 119)
    assert_whole(ETH, 119)
    text = catch_up(settings, "--all-from-ref-instruments")
    assert text.status == 2
    assert "instruments_failed: 1\n" in text.stdout
    assert text.stderr.count("BADUSDT") == 1
    assert "BADUSDT" in text.stdout


def test_unreachable_exchanges_are_told_once(settings: Path, server: BinanceServer) -> None:
    seed([BTC, ETH], [0])
    with ready_store(ClickHouseSettings.from_environment(os.environ), "the tests") as db:
        rows = [InstrumentRow(one, ENABLED, True, T0) for one in (BTC, ETH)]
        ReferenceStore(db).upsert(rows)
    server.fail(status=503, path="klines", times=2)
    done = catch_up(settings, "--all-from-ref-instruments")
    assert done.status == 2
    assert "2 instruments, 1:BTCUSDT the first: " in done.stderr


def test_nothing_is_active(settings: Path) -> None:
    done = catch_up(settings, "--all-from-ref-instruments", *JSON)
    assert done.status == 0
    assert json.loads(done.stdout)["instruments_total"] == 0
    assert "sync-instruments" in done.stderr


def test_an_exchange_that_is_down_is_a_failure(settings: Path, server: BinanceServer) -> None:
    seed([BTC], [0])
    server.fail(status=503, path="klines")
    done = catch_up(settings, *ONE, *JSON)
    assert done.status == 1
    assert json.loads(done.stdout)["error"]["code"] == "exchange_error"
    assert catch_up(settings, *ONE).status == 0
    assert_whole(BTC, 119)


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ((), "--market-id and --symbol missing"),
        (("--market-id", "1"), "--symbol missing"),
        (("--market-id", "2", "--symbol", "A"), "market 2 is not configured"),
        ((*ONE, "--all-from-ref-instruments"), "drop the others"),
        ((*ONE, "--start", "2024-01-01T00:00:00Z"), "add --force"),
        ((*ONE, "--force", "--start", "2024-01-01"), "no time zone"),
        ((*ONE, "--force", "--with-history"), "two runs"),
        ((*ONE, "--batch-size", "0"), "batch-size"),
    ],
)
def test_bad_arguments_exit_with_2(settings: Path, arguments: tuple[str, ...], words: str) -> None:
    done = catch_up(settings, *arguments)
    assert done.status == 2
    assert words in done.stdout + done.stderr
