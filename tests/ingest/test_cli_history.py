"""`roehub ingest backfill-1m` and `quality`, and a back-test over what they stored."""

from __future__ import annotations

import json
import signal
import subprocess
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compute.market.instrument import Instrument
from compute.market.timeframe import TIMEFRAMES
from compute.results import canonical_result
from ingest.synthetic import synthetic_candles, write_candles
from tests.cluster.cli import START_MS, Called, call, request, started, write_json

INSTRUMENT = Instrument(1, "FILEDUSDT")
MINUTES = 12 * 1440
NAMED = ("--market-id", "1", "--symbol", "filedusdt")


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


@pytest.fixture(scope="module")
def file(tmp_path_factory: pytest.TempPathFactory) -> Path:
    frame = TIMEFRAMES["1m"]
    made = synthetic_candles(seed=11, bars=MINUTES, frame=frame, start_ms=START_MS)
    path = tmp_path_factory.mktemp("files") / "candles.parquet"
    write_candles(path, made, frame=frame, instrument=INSTRUMENT, synthetic=False)
    return path


def loaded(file: Path, *flags: object) -> Called:
    return call("ingest", "backfill-1m", *NAMED, "--parquet", file, *flags)


def found(done: Called) -> dict[str, Any]:
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def test_a_file_is_loaded_and_a_back_test_over_it_is_the_one_over_the_file(
    file: Path, tmp_path: Path
) -> None:
    body = request(
        {
            "template.instrument_id.symbol": INSTRUMENT.symbol,
            "time_range": {"start": "2024-01-07T00:00:00Z", "end": "2024-01-12T12:00:00Z"},
        }
    )
    path = write_json(tmp_path / "request.json", body)
    empty = call("backtest", path, "--executor", "local")
    assert empty.status == 2
    (told,) = [part for part in empty.stderr.split("`") if part.startswith("roehub ingest")]
    # What the refusal says to run, run.
    command = [str(file) if word == "FILE" else word for word in told.split()[1:]]
    report = found(call(*command, "--report-format", "json"))
    assert report["rows_written"] == report["candles_read"] > 0
    over_store = found(call("backtest", path, "--executor", "local", "--json"))
    over_file = found(call("backtest", path, "--candles", file, "--executor", "local", "--json"))
    assert canonical_result(over_store) == canonical_result(over_file)


def test_the_report(file: Path) -> None:
    report = found(loaded(file, "--report-format", "json", "--batch-size", "5000"))
    assert report["instrument_id"] == {"market_id": 1, "symbol": "FILEDUSDT"}
    assert report["time_range"]["start"] == "2024-01-01T00:00:00.000Z"
    assert report["batches_written"] == -(-report["rows_written"] // 5000)
    assert (report["synthetic_files"], report["rows_unnamed"]) == (0, 0)
    text = call("ingest", "backfill-1m", *NAMED, "--file", file, "--batch-size", "none")
    assert "instrument_id: 1:FILEDUSDT" in text.stdout
    assert "batches_written: 1" in text.stdout


def test_a_range_alone_is_loaded(file: Path) -> None:
    bounds = ("--start", "2024-01-02T00:00:00+00:00", "--end", "2024-01-02T10:00:00Z")
    report = found(loaded(file, *bounds, "--report-format", "json"))
    assert 0 < report["rows_written"] <= 600
    (row,) = found(call("ingest", "coverage", "--report-format", "json"))["instruments"]
    assert (row["first"], row["last"]) == ("2024-01-02T00:00:00Z", "2024-01-02T09:59:00Z")


@pytest.mark.parametrize(
    ("flags", "words"),
    [
        (["--start", "2024-01-02T00:00:00"], "has no time zone"),
        (["--start", "2999-01-01T00:00:00Z"], "lies in the future"),
        (["--end", "tomorrow"], "--end 'tomorrow' is not ISO 8601"),
        (["--start", "2024-01-03T00:00:00Z", "--end", "2024-01-02T00:00:00Z"], "start < end"),
        (["--batch-size", "0"], "--batch-size must be a whole number > 0 or none"),
        (["--only-enabled"], "No such option"),
        (["--parquet", "absent.parquet"], "absent.parquet: no such file"),
        (["--symbol", "OTHERUSDT"], "no row of 1:OTHERUSDT"),
        (["--market-id", "5"], "market 5 is unknown"),
        (["--symbol", "filed/usdt"], "write it like FILEDUSDT"),
        (
            ["--start", "2030-01-01T00:00:00Z", "--end", "2031-01-01T00:00:00Z"],
            "covers [2024-01-01",
        ),
        (["--market-id", "-1"], "-1"),
        (["--config", "absent.yaml"], "absent.yaml: cannot be read"),
    ],
)
def test_bad_arguments(file: Path, flags: list[str], words: str) -> None:
    done = loaded(file, *flags)
    assert done.status == 2
    assert words in done.stderr


def test_missing_arguments_are_named() -> None:
    done = call("ingest", "backfill-1m")
    assert done.status == 2
    assert "--market-id and --symbol missing" in done.stderr
    done = call("ingest", "backfill-1m", *NAMED)
    assert done.status == 2
    assert "no candle file was named" in done.stderr


def test_times_without_a_zone_are_refused_unless_told(file: Path, tmp_path: Path) -> None:
    table = pq.read_table(file).slice(0, 10)
    naive = table.column("ts_open").cast(pa.timestamp("ms", "UTC")).cast(pa.timestamp("ms"))
    at = table.schema.get_field_index("ts_open")
    path = tmp_path / "naive.parquet"
    pq.write_table(table.set_column(at, "ts_open", naive), path)
    done = loaded(path, "--report-format", "json")
    assert done.status == 2
    message = json.loads(done.stdout)["error"]["message"]
    # The flag that the refusal names, given.
    (flag,) = [word for word in message.split() if word.startswith("--")]
    assert found(loaded(path, flag, "--report-format", "json"))["rows_written"] == 10


def test_a_back_test_over_made_up_candles_says_so_whatever_they_come_from(tmp_path: Path) -> None:
    """Also when real ones were loaded over some of them, and no longer when over all."""
    frame = TIMEFRAMES["1m"]
    made = synthetic_candles(seed=1, bars=MINUTES, frame=frame, start_ms=START_MS)
    path, part, whole = (tmp_path / f"{name}.parquet" for name in ("made", "part", "whole"))
    write_candles(path, made, frame=frame, instrument=INSTRUMENT, synthetic=True)
    write_candles(part, made.take(np.arange(9_000)), frame=frame, instrument=INSTRUMENT,
                  synthetic=False)  # fmt: skip
    write_candles(whole, made, frame=frame, instrument=INSTRUMENT, synthetic=False)
    body = request(
        {
            "template.instrument_id.symbol": INSTRUMENT.symbol,
            "time_range": {"start": "2024-01-07T00:00:00Z", "end": "2024-01-12T12:00:00Z"},
        }
    )
    asked = write_json(tmp_path / "request.json", body)
    run = ("backtest", asked, "--executor", "local")
    label = "These candles are SYNTHETIC"
    assert label in call(*run, "--candles", path).stdout
    done = loaded(path)
    assert done.status == 0
    assert f"WARNING: {path} holds SYNTHETIC candles; they are stored as such" in done.stderr
    out = tmp_path / "out"
    over_store = call(*run, "--out", out)
    assert label in over_store.stdout
    assert "SYNTHETIC" in (out / "report.html").read_text()
    assert loaded(part).status == 0
    assert label in call(*run).stdout
    assert loaded(whole).status == 0
    real = call(*run)
    assert real.status == 0
    assert label not in real.stdout


def test_quality_is_printed_and_kept(file: Path) -> None:
    loaded(file)
    report = found(call("ingest", "quality", *NAMED, "--report-format", "json"))
    assert report["present_minutes"] + report["missing_minutes"] == report["expected_minutes"]
    assert len(report["fingerprint"]) == 64
    text = call("ingest", "quality", *NAMED, "--start", "2024-01-02T00:00:00Z")
    assert "coverage_pct: " in text.stdout
    empty = call("ingest", "quality", "--market-id", 1, "--symbol", "NONE")
    assert empty.status == 2
    assert "has no stored candle" in empty.stderr


@pytest.mark.parametrize("stop", [signal.SIGINT, signal.SIGTERM])
def test_a_load_that_is_stopped_says_what_is_left(
    file: Path, data_dir: Path, stop: signal.Signals
) -> None:
    process = started(
        "ingest", "backfill-1m", *NAMED, "--parquet", file, "--batch-size", "1",
        stderr=subprocess.PIPE, ROEHUB_DATA_DIR=str(data_dir),
    )  # fmt: skip
    assert process.stderr is not None
    while "backfill 1:FILEDUSDT rows" not in process.stderr.readline():
        assert process.poll() is None
    process.send_signal(stop)
    stdout, stderr = process.communicate(timeout=60)
    assert process.returncode == 130
    assert stdout == ""
    assert "interrupted; what was stored stays" in stderr
    (row,) = found(call("ingest", "coverage", "--report-format", "json"))["instruments"]
    assert 0 < row["minutes"] < MINUTES
    report = found(loaded(file, "--report-format", "json"))
    (row,) = found(call("ingest", "coverage", "--report-format", "json"))["instruments"]
    assert row["minutes"] == report["rows_written"] == len(pq.read_table(file))
