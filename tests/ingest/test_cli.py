"""`roehub ingest` as one calls it: stores, reference data, flags, exit codes, what stdout holds."""

from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest
import yaml

from compute.market.instrument import Instrument
from configs.load import config
from ingest.coverage import Coverage
from ingest.rows import Candle, Origin, table_of
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import open_clickhouse
from ingest.stores.ready import ready_store
from ingest.stores.settings import ClickHouseSettings
from tests.cluster.cli import ROOT, call
from tests.ingest.exchange_servers.binance import BinanceServer
from tests.ingest.exchange_servers.bybit import BybitServer
from tests.ingest.exchange_servers.server import ExchangeServer

START_MS = 1_704_067_200_000  # 2024-01-01
MINUTE_MS = 60_000


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def written_whitelist(tmp_path: Path, *rows: str) -> Path:
    path = tmp_path / "whitelist.csv"
    path.write_text("\n".join(["market_id,symbol,is_enabled", *rows]) + "\n")
    return path


def written_config(tmp_path: Path, servers: Mapping[int, ExchangeServer]) -> Path:
    """The test settings with the addresses of servers of the tests; markets without one go."""
    document = yaml.safe_load(config("market_data", {"ROEHUB_ENV": "test"}).path.read_text())
    section: dict[str, Any] = document["market_data"]
    section["markets"] = [one for one in section["markets"] if one["market_id"] in servers]
    for one in section["markets"]:
        server = servers[one["market_id"]]
        one["rest"]["base_url"] = server.rest_url
        one["rest"]["earliest_available_ts_utc"] = "2024-01-01T00:00:00Z"
        one["rest"]["retries"] = 0
        one["ws"]["url"] = server.stream_url(one["market_id"])
    path = tmp_path / "market_data.yaml"
    path.write_text(yaml.safe_dump(document))
    return path


@pytest.fixture
def servers() -> Iterator[dict[int, ExchangeServer]]:
    clock = lambda: START_MS + 600 * MINUTE_MS  # noqa: E731
    with BinanceServer(clock) as binance, BybitServer(clock) as bybit:
        found: dict[int, ExchangeServer] = {1: binance, 2: binance, 3: bybit, 4: bybit}
        for market_id, server in found.items():
            server.tape(market_id).enlist("BTCUSDT", first_ms=START_MS)
        yield found


def stored(*minutes: int) -> None:
    """Puts candles of 1:BTCUSDT into the store of the environment."""
    instrument = Instrument(1, "BTCUSDT")
    rows = [
        Candle(instrument, START_MS + minute * MINUTE_MS, 1.0, 2.0, 0.5, 1.5, 3.0)
        for minute in minutes
    ]
    with ready_store(ClickHouseSettings.from_environment(os.environ), "the tests") as db:
        CandleStore(db).insert(table_of(rows, Origin("file", START_MS)))


def test_help_names_every_command_and_imports_nothing_heavy() -> None:
    code = (
        "import sys, api.cli\n"
        "try:\n    api.cli.app(['ingest', '--help'])\n"
        "except SystemExit as ended:\n    assert not ended.code\n"
        "heavy = {'numpy', 'pyarrow', 'clickhouse_connect', 'chdb', 'httpx', 'redis', 'yaml',\n"
        "         'websockets', 'prometheus_client'} & set(sys.modules)\n"
        "assert not heavy, heavy\n"
    )
    done = subprocess.run(
        [sys.executable, "-c", code], cwd=ROOT, capture_output=True, text=True, check=False
    )
    assert done.returncode == 0, done.stderr
    for name in (
        "migrate", "backfill-1m", "rest-catchup", "coverage", "quality", "delete-candles",
        "sync-instruments", "enrich", "live", "schedule",
    ):  # fmt: skip
        assert f" {name} " in done.stdout


@pytest.mark.parametrize(
    ("arguments", "words"),
    [
        ([], "Usage"),
        (["backfil"], "No such command"),
        (["migrate", "--force"], "No such option"),
        (["coverage", "--symbol", "A"], "--market-id missing"),
        (["coverage", "--market-id", "9"], "market 9 is unknown"),
        (["backfill-1m", "--parquet", "a.csv", "b.csv"], "b.csv: repeat --parquet for each file"),
        (["coverage", "--market-id", "9", "--symbol", "A"], "market 9 is unknown"),
        (["quality", "--market-id", "1", "--symbol", "btc/usdt"], "write it like BTCUSDT"),
        (["coverage", "--report-format", "xml"], "xml"),
        (["sync-instruments", "--whitelist", "absent.csv"], "absent.csv: no such file"),
        (["sync-instruments", "--config", "absent.yaml"], "absent.yaml: cannot be read"),
    ],
)
def test_bad_arguments_exit_with_2(arguments: list[str], words: str) -> None:
    done = call("ingest", *arguments)
    assert done.status == 2
    assert words in done.stdout + done.stderr


def test_migrate_twice(data_dir: Path) -> None:
    first = call("ingest", "migrate")
    assert first.status == 0
    assert "applied 0001_reference" in first.stdout
    again = call("ingest", "migrate")
    assert "applied" not in again.stdout
    assert f"the store at {data_dir / 'clickhouse'} is up to date" in again.stdout
    found = json.loads(call("ingest", "migrate", "--report-format", "json").stdout)
    assert found == {"store": str(data_dir / "clickhouse"), "applied": []}


def test_coverage_of_an_empty_store_says_what_fills_it() -> None:
    done = call("ingest", "coverage")
    assert done.status == 0
    assert "has no candles; load some with `roehub ingest backfill-1m" in done.stdout
    chosen = call("ingest", "coverage", "--market-id", 2, "--symbol", "btcusdt")
    assert "has no candles of 2:BTCUSDT" in chosen.stdout
    assert "--market-id 2 --symbol BTCUSDT --parquet FILE" in chosen.stdout


def test_coverage_counts_what_is_missing() -> None:
    stored(0, 1, 2, 5, 1_445)
    done = call("ingest", "coverage")
    head, row = done.stdout.splitlines()
    assert head.split() == ["instrument", "first", "last", "minutes", "missing", "covered"]
    assert row.split() == [
        "1:BTCUSDT", "2024-01-01T00:00:00Z", "2024-01-02T00:05:00Z", "5", "1441", "0.34%",
    ]  # fmt: skip
    (found,) = json.loads(call("ingest", "coverage", "--report-format", "json").stdout)[
        "instruments"
    ]
    assert found == {
        "market_id": 1, "symbol": "BTCUSDT", "first": "2024-01-01T00:00:00Z",
        "last": "2024-01-02T00:05:00Z", "minutes": 5, "missing": 1441,
        "coverage_pct": 0.34,
    }  # fmt: skip


def test_a_market_alone_lists_its_instruments() -> None:
    stored(0)
    assert "1:BTCUSDT" in call("ingest", "coverage", "--market-id", 1).stdout
    other = call("ingest", "coverage", "--market-id", 2).stdout
    assert "has no candles of market 2; load some" in other
    assert "--market-id 2 --symbol SYMBOL" in other


@pytest.mark.parametrize("service", ["live", "schedule"])
def test_a_service_over_a_busy_store_fails_and_may_be_started_again(service: str) -> None:
    with open_clickhouse(ClickHouseSettings.from_environment(os.environ), "roehub up"):
        done = call("ingest", service, "--metrics-port", 0)
        assert call("ingest", "coverage").status == 2
    assert done.status == 1
    assert "used by roehub up (pid" in done.stderr


def test_nothing_to_delete_is_told_with_what_the_store_covers() -> None:
    stored(0, 1)
    chosen = ("--market-id", 1, "--symbol", "btcusdt", "--start", "2025-01-01T00:00:00Z", "--yes")
    done = call("ingest", "delete-candles", *chosen)
    assert done.status == 0
    assert "deleted: no" in done.stdout
    assert "nothing to delete: the store at " in done.stderr
    assert "has candles of 1:BTCUSDT in [2024-01-01T00:00:00Z, 2024-01-01T00:02:00Z)" in done.stderr
    none = call("ingest", "delete-candles", "--market-id", 1, "--symbol", "ETHUSDT")
    assert "has no candle of 1:ETHUSDT" in none.stderr


@pytest.mark.parametrize(
    ("minutes", "missing", "pct"), [(1, 0, 100.0), (525_599, 1, 99.99), (1, 99_999, 0.0)]
)
def test_only_whole_coverage_is_100_percent(minutes: int, missing: int, pct: float) -> None:
    last_ms = START_MS + (minutes + missing - 1) * MINUTE_MS
    assert Coverage(Instrument(1, "A"), START_MS, last_ms, minutes).coverage_pct == pct


def test_candles_are_counted_and_deleted_when_told() -> None:
    stored(0, 1, 2, 5, 1_445)
    chosen = ("--market-id", 1, "--symbol", "btcusdt", "--start", "2024-01-01T00:01:00Z",
              "--end", "2024-01-02T00:00:00Z")  # fmt: skip
    counted = call("ingest", "delete-candles", *chosen)
    assert counted.status == 0, counted.stderr
    assert "deleted: no" in counted.stdout
    assert "candles: 3" in counted.stdout
    assert "nothing was deleted; the same command with --yes" in counted.stderr
    assert minutes_stored() == 5
    done = call("ingest", "delete-candles", *chosen, "--yes", "--report-format", "json")
    told = json.loads(done.stdout)
    del told["raw_rows"]  # of a clock of 2024: expired already
    assert told == {
        "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
        "time_range": {"start": "2024-01-01T00:01:00.000Z", "end": "2024-01-02T00:00:00.000Z"},
        "deleted": True, "candles": 3, "first": "2024-01-01T00:01:00.000Z",
        "last": "2024-01-01T00:05:00.000Z", "gap_minutes": 0,
    }  # fmt: skip
    assert minutes_stored() == 2
    assert call("ingest", "delete-candles", *chosen[:4], "--yes").status == 0
    assert minutes_stored() == 0
    for wrong in (chosen[:2], (*chosen[:4], "--start", "yesterday")):
        assert call("ingest", "delete-candles", *wrong, "--yes").status == 2


def minutes_stored() -> int:
    report = json.loads(call("ingest", "coverage", "--report-format", "json").stdout)
    return sum(one["minutes"] for one in report["instruments"])


def test_sync_then_sync_again(tmp_path: Path) -> None:
    path = written_whitelist(tmp_path, "1,BTCUSDT,1", "1,BTCUSDT,1", "4,WLDUSDT,0")
    done = call("ingest", "sync-instruments", "--whitelist", path)
    assert done.status == 0, done.stderr
    assert "line 3 repeats 1:BTCUSDT of line 2" in done.stderr
    assert done.stdout.splitlines() == [
        "ref_market_inserted: 4",
        "ref_instruments_rows_total: 2",
        "ref_instruments_upserted: 2",
        "ref_instruments_skipped_unchanged: 0",
        "enabled_count: 1",
        "disabled_count: 1",
    ]
    again = call("ingest", "sync-instruments", "--whitelist", path, "--report-format", "json")
    assert json.loads(again.stdout) == {
        "ref_market_inserted": 0,
        "ref_instruments_rows_total": 2,
        "ref_instruments_upserted": 0,
        "ref_instruments_skipped_unchanged": 2,
        "enabled_count": 1,
        "disabled_count": 1,
    }


def test_the_whitelist_of_the_environment_is_the_default() -> None:
    found = json.loads(call("ingest", "sync-instruments", "--report-format", "json").stdout)
    assert found["ref_instruments_rows_total"] == 24


def test_files_named_by_the_container(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    path = written_whitelist(tmp_path, "1,ONLYUSDT,1")
    monkeypatch.setenv("MARKET_DATA_WHITELIST_PATH", str(path))
    found = json.loads(call("ingest", "sync-instruments", "--report-format", "json").stdout)
    assert found["ref_instruments_rows_total"] == 1


def test_enrich_asks_the_exchanges_of_the_settings(
    tmp_path: Path, servers: dict[int, ExchangeServer]
) -> None:
    chosen = written_config(tmp_path, servers)
    rows = [f"{market_id},BTCUSDT,1" for market_id in servers] + ["1,GONEUSDT,1"]
    listed = written_whitelist(tmp_path, *rows)
    assert call("ingest", "sync-instruments", "--whitelist", listed).status == 0
    done = call("ingest", "enrich", "--config", chosen, "--report-format", "json")
    assert done.status == 0, done.stderr
    found = json.loads(done.stdout)
    assert (found["instruments_total"], found["markets_total"], found["rows_upserted"]) == (5, 4, 4)
    assert found["missing"] == ["1:GONEUSDT"]
    again = call("ingest", "enrich", "--config", chosen)
    assert "rows_upserted: 0" in again.stdout
    servers[1].fail(status=503, times=9)
    failed = call("ingest", "enrich", "--config", chosen)
    assert failed.status == 1
    assert "market 1: binance:spot" in failed.stdout


def test_a_refusal_is_an_envelope_where_json_is_expected(tmp_path: Path) -> None:
    path = written_whitelist(tmp_path, "1,,1")
    done = call("ingest", "sync-instruments", "--whitelist", path, "--report-format", "json")
    assert done.status == 2
    envelope = json.loads(done.stdout)["error"]
    assert envelope["code"] == "validation_error"
    assert "line 2: symbol must be" in envelope["message"]


def test_a_server_that_is_down_is_a_failure(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CH_HOST", "127.0.0.1")
    monkeypatch.setenv("CH_PORT", "9")
    done = call("ingest", "coverage")
    assert done.status == 1
    assert "http://127.0.0.1:9/market_data" in done.stderr
    assert "check CH_HOST and CH_PORT" in done.stderr
