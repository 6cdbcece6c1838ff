"""The commands over a server: with `CH_*` set everything is as over a directory."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from compute.market.instrument import Instrument
from compute.market.timeframe import TIMEFRAMES
from compute.results import canonical_result
from ingest.synthetic import synthetic_candles, write_candles
from tests.cluster.cli import START_MS, Called, call, request, write_json
from tests.ingest.stand_in.process import StandIn

INSTRUMENT = Instrument(4, "SERVEDUSDT")
NAMED = ("--market-id", 4, "--symbol", "SERVEDUSDT")


@pytest.fixture(autouse=True)
def environ(stand_in: StandIn, monkeypatch: pytest.MonkeyPatch) -> None:
    for name, value in stand_in.environ.items():
        monkeypatch.setenv(name, value)


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = TIMEFRAMES["1m"]
    made = synthetic_candles(seed=12, bars=9 * 1440, frame=frame, start_ms=START_MS)
    path = tmp_path_factory.mktemp("files") / "candles.parquet"
    write_candles(path, made, frame=frame, instrument=INSTRUMENT, synthetic=False)
    return path


def found(done: Called) -> dict[str, Any]:
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def test_a_server_is_migrated_only_when_told_and_then_serves(file: Path, tmp_path: Path) -> None:
    body = request(
        {
            "template.instrument_id": {"market_id": 4, "symbol": "SERVEDUSDT"},
            "time_range": {"start": "2024-01-06T00:00:00Z", "end": "2024-01-09T12:00:00Z"},
        }
    )
    path = write_json(tmp_path / "request.json", body)
    load = ("ingest", "backfill-1m", *NAMED, "--parquet", file, "--report-format", "json")
    over_store = ("backtest", path, "--executor", "local", "--json")
    for command in (load, over_store, ("ingest", "coverage")):
        refused = call(*command)
        assert refused.status == 2
        assert "run `roehub ingest migrate`" in refused.stderr
    assert (
        "0001_reference" in found(call("ingest", "migrate", "--report-format", "json"))["applied"]
    )
    assert found(call(*load))["rows_written"] > 9 * 1000
    result = found(call(*over_store))
    over_file = found(call(*over_store, "--candles", file))
    assert canonical_result(result) == canonical_result(over_file)
    assert found(call("ingest", "quality", *NAMED, "--report-format", "json"))["duplicates"] == 0
    (row,) = found(call("ingest", "coverage", "--report-format", "json"))["instruments"]
    assert row["symbol"] == "SERVEDUSDT"
    deleted = found(call("ingest", "delete-candles", *NAMED, "--yes", "--report-format", "json"))
    assert deleted["candles"] == deleted["raw_rows"] == row["minutes"]
    assert found(call("ingest", "coverage", "--report-format", "json"))["instruments"] == []


def test_a_wrong_password_is_bad_input(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("CH_PASSWORD", "wrong")
    done = call("ingest", "coverage")
    assert done.status == 2
    assert "check CH_USER and CH_PASSWORD" in done.stderr
    assert "wrong" not in done.stderr
