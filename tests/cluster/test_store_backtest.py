"""A back-test over the candle store is the one over a file of the same candles."""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compute.market.instrument import Instrument
from compute.market.timeframe import TIMEFRAMES
from compute.results import canonical_result
from ingest.rows import CANDLE_SCHEMA, instrument_key
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import open_clickhouse
from ingest.stores.ready import ready_store
from ingest.stores.settings import ClickHouseSettings
from ingest.synthetic import synthetic_candles, write_candles
from tests.cluster.cli import START_MS, VARIANTS, Called, call, request, write_json

INSTRUMENT = Instrument(1, "STOREDUSDT")
DAYS = 12
REQUEST = request(
    {
        "template.instrument_id.symbol": INSTRUMENT.symbol,
        "time_range": {"start": "2024-01-07T00:00:00Z", "end": "2024-01-12T12:00:00Z"},
    }
)


def stored_rows(path: Path, instrument: Instrument = INSTRUMENT) -> pa.Table:
    """The candles of a file as rows of the store."""
    table = pq.read_table(path)
    table = table.rename_columns(
        ["volume_base" if name == "volume" else name for name in table.column_names]
    )
    table = table.filter(pa.array(np.isfinite(table.column("close").to_numpy())))
    count = table.num_rows
    constants = {
        "market_id": instrument.market_id,
        "symbol": instrument.symbol,
        "instrument_key": instrument_key(instrument),
        "source": "synthetic",
        "ingested_at": START_MS,
        "ingest_id": None,
    }
    columns = []
    for field in CANDLE_SCHEMA:
        if field.name in constants:
            columns.append(pa.array([constants[field.name]] * count, field.type))
        elif field.name in table.column_names:
            columns.append(table.column(field.name).cast(field.type))
        else:
            columns.append(pa.nulls(count, field.type))
    return pa.Table.from_arrays(columns, schema=CANDLE_SCHEMA)


def filled(path: Path, rows: pa.Table) -> None:
    with ready_store(ClickHouseSettings(path=path / "clickhouse"), "the tests") as db:
        CandleStore(db).insert(rows)


@pytest.fixture(scope="module")
def candles(tmp_path_factory: pytest.TempPathFactory) -> Path:
    """One-minute candles with holes, of some hours too."""
    frame = TIMEFRAMES["1m"]
    made = synthetic_candles(seed=9, bars=DAYS * 1440, frame=frame, start_ms=START_MS)
    keep = np.ones(len(made), np.bool_)
    keep[7_000:7_300] = False
    path = tmp_path_factory.mktemp("market") / "candles.parquet"
    write_candles(path, made.take(keep), frame=frame, instrument=INSTRUMENT, synthetic=True)
    return path


@pytest.fixture(scope="module")
def data_dir(candles: Path, tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("data")
    filled(path, stored_rows(candles))
    return path


@pytest.fixture
def store(data_dir: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(data_dir))
    return data_dir


def results(tmp_path: Path, *flags: object, body: object = REQUEST) -> tuple[Called, Any]:
    path = write_json(tmp_path / "request.json", body)
    done = call("backtest", path, "--executor", "local", "--json", *flags)
    return done, json.loads(done.stdout)


def test_the_store_gives_the_result_of_the_file(store: Path, candles: Path, tmp_path: Path) -> None:
    done, over_store = results(tmp_path)
    assert done.status == 0, done.stderr
    assert f"candles of the store at {store / 'clickhouse'}" in done.stderr
    _, over_file = results(tmp_path, "--candles", candles)
    assert over_store["candles"] == over_file["candles"]
    assert over_store["candles"]["missing"] > 300
    assert canonical_result(over_store) == canonical_result(over_file)


def test_a_second_version_of_equal_candles_changes_nothing(
    candles: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    rows = stored_rows(candles)
    filled(tmp_path, rows)
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path))
    _, before = results(tmp_path)
    filled(tmp_path, rows.slice(1_000, 9_000))
    _, after = results(tmp_path)
    assert canonical_result(after) == canonical_result(before)


def test_estimate_reads_the_store(store: Path, candles: Path, tmp_path: Path) -> None:
    path = write_json(tmp_path / "request.json", REQUEST)
    found = [
        json.loads(call("estimate", path, "--json", "--threads", 1, *flags).stdout)
        for flags in ((), ("--candles", candles))
    ]
    for name in ("loaded_bars", "ranked_bars", "stage_a_variants_total", "cautions"):
        assert found[0][name] == found[1][name]
    assert found[0]["stage_a_variants_total"] == VARIANTS
    assert "probed on these candles" in call("estimate", path).stdout


def test_without_stored_candles_an_estimate_is_made_up(tmp_path: Path) -> None:
    path = write_json(tmp_path / "request.json", REQUEST)
    done = call("estimate", path)
    assert done.status == 0
    assert "made-up candles, the store has none" in done.stdout
    assert not Path(os.environ["ROEHUB_DATA_DIR"]).exists()


def test_an_empty_store_says_what_fills_it(tmp_path: Path, store: Path) -> None:
    del store
    body = request({"template.instrument_id.symbol": "NOTHINGUSDT"})
    done, envelope = results(tmp_path, body=body)
    assert done.status == 2
    for words in (
        "has no candle of 1:NOTHINGUSDT",
        "`roehub ingest backfill-1m --market-id 1 --symbol NOTHINGUSDT",
        " --parquet FILE`, or give --candles FILE",
    ):
        assert words in envelope["error"]["message"]


def test_no_store_at_all_is_not_made_by_a_back_test(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path / "data"))
    done, envelope = results(tmp_path)
    assert done.status == 2
    assert str(tmp_path / "data" / "clickhouse") in envelope["error"]["message"]
    assert "roehub ingest backfill-1m" in envelope["error"]["message"]
    assert not (tmp_path / "data").exists()


def test_a_store_that_cannot_be_looked_into_is_no_empty_one(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """As without the right to read its directory, which root has everywhere."""
    loop = tmp_path / "data"
    loop.symlink_to(loop)
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(loop))
    done, envelope = results(tmp_path)
    assert done.status == 2
    told = envelope["error"]["message"]
    assert "of the candle store cannot be used: Too many levels of symbolic links" in told
    assert "make it writable or name another with ROEHUB_DATA_DIR" in told


def test_a_range_beyond_the_stored_candles_is_told_what_they_cover(
    store: Path, tmp_path: Path
) -> None:
    del store
    beyond = {"start": "2025-01-01T00:00:00Z", "end": "2025-02-01T00:00:00Z"}
    done, envelope = results(tmp_path, body={**REQUEST, "time_range": beyond})
    assert done.status == 2
    assert (
        "has candles of it in [2024-01-01T00:00:00Z, 2024-01-13T00:00:00Z)"
        in (envelope["error"]["message"])
    )
    within = {"start": "2024-01-08T00:10:00Z", "end": "2024-01-08T00:20:00Z"}
    done, envelope = results(tmp_path, body={**REQUEST, "time_range": within})
    assert done.status == 2
    assert "no bar of 1h closes within time_range" in envelope["error"]["message"]


def test_a_timeframe_without_a_file_is_refused(tmp_path: Path) -> None:
    done, envelope = results(tmp_path, "--candles-timeframe", "1m")
    assert done.status == 2
    assert "give --candles" in envelope["error"]["message"]


def test_a_store_in_use_is_named_with_its_holder(store: Path, tmp_path: Path) -> None:
    with open_clickhouse(ClickHouseSettings(path=store / "clickhouse"), "roehub up"):
        done, envelope = results(tmp_path)
    assert done.status == 2
    assert f"used by roehub up (pid {os.getpid()})" in envelope["error"]["message"]
    assert envelope["error"]["message"].startswith("`roehub submit REQUEST.json --follow` has")
    assert envelope["error"]["code"] == "validation_error"


def test_a_server_that_is_down_is_a_failure(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("CH_HOST", "127.0.0.1")
    monkeypatch.setenv("CH_PORT", "9")
    done, envelope = results(tmp_path)
    assert done.status == 1
    assert envelope["error"]["code"] == "store_unavailable"
    assert "http://127.0.0.1:9/market_data" in envelope["error"]["message"]


def test_real_candles_with_gaps(
    candles_dir: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    file = candles_dir / "bybit-futures-BNBUSDT-1m-gappy-2024-09.parquet"
    instrument = Instrument(4, "BNBUSDT")
    filled(tmp_path, stored_rows(file, instrument))
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path))
    times = pq.read_table(file, columns=["ts_open"]).column(0).cast(pa.int64()).to_numpy()
    body = request(
        {
            "template.instrument_id": {"market_id": 4, "symbol": "BNBUSDT"},
            "time_range": {
                "start": f"{np.datetime64(int(times[len(times) // 3]), 'ms')}Z",
                "end": f"{np.datetime64(int(times[-1]), 'ms')}Z",
            },
        }
    )
    _, over_store = results(tmp_path, body=body)
    _, over_file = results(tmp_path, "--candles", file, body=body)
    # The file names no instrument, of which only its reader is warned.
    assert over_file.pop("cautions")[0]["code"] == "instrument_assumed"
    del over_store["cautions"]
    assert canonical_result(over_store) == canonical_result(over_file)
    assert over_store["candles"]["rows"] > 60_000
