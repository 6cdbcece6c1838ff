"""Real candles loaded as one calls it, and a back-test over them: the store's is the file's.

Read only where `ROEHUB_CANDLES_DIR` says there are some.
"""

from __future__ import annotations

import json
import os
from pathlib import Path
from typing import Any

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from compute.market.instrument import Instrument
from compute.results import canonical_result
from tests.cluster.cli import Called, call, request, write_json
from tests.ingest.candle_tables import csv, parquet, replaced

DIRECTORY = os.environ.get("ROEHUB_CANDLES_DIR")
GAPPY = (
    next(iter(sorted(Path(DIRECTORY).glob("*-1m-gappy-*.parquet"))), None) if DIRECTORY else None
)
COARSE = next(iter(sorted(Path(DIRECTORY).glob("*-15m-*.parquet"))), None) if DIRECTORY else None
BNB = Instrument(4, "BNBUSDT")
NAMED = ("--market-id", BNB.market_id, "--symbol", BNB.symbol, "--report-format", "json")

pytestmark = pytest.mark.skipif(
    GAPPY is None, reason="ROEHUB_CANDLES_DIR names no directory with a gappy 1m Parquet file"
)


@pytest.fixture(autouse=True)
def data_dir(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    monkeypatch.setenv("ROEHUB_DATA_DIR", str(tmp_path / "data"))
    return tmp_path / "data"


def found(done: Called) -> dict[str, Any]:
    assert done.status == 0, done.stderr
    return json.loads(done.stdout)


def with_names(path: Path) -> Path:
    """The gappy file with the columns that name its instrument."""
    assert GAPPY is not None
    table = pq.read_table(GAPPY)
    count = table.num_rows
    return parquet(
        path,
        replaced(
            table,
            market_id=pa.array([BNB.market_id] * count),
            symbol=pa.array([BNB.symbol] * count),
        ),
    )


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_back_test_over_the_store_is_the_one_over_the_file(tmp_path: Path, ending: str) -> None:
    """With 524 gaps of 801 minutes in it, told by coverage and quality."""
    assert GAPPY is not None
    file = GAPPY if ending == "parquet" else csv(tmp_path / "bnb.csv", pq.read_table(GAPPY))
    loaded = found(call("ingest", "backfill-1m", *NAMED, "--file", file))
    assert loaded["rows_written"] == loaded["candles_read"] == 105_076
    (covered,) = found(call("ingest", "coverage", *NAMED))["instruments"]
    assert (covered["minutes"], covered["missing"]) == (105_076, 524 * 801)
    quality = found(call("ingest", "quality", *NAMED))
    assert (quality["gaps"], quality["longest_gap_minutes"]) == (524, 801)
    assert quality["missing_minutes"] == 524 * 801
    body = request(
        {
            "template.instrument_id": {"market_id": BNB.market_id, "symbol": BNB.symbol},
            "time_range": {"start": "2024-10-01T00:00:00Z", "end": "2025-09-01T00:00:00Z"},
        }
    )
    path = write_json(tmp_path / "request.json", body)
    over_store = found(call("backtest", path, "--executor", "local", "--json"))
    assert over_store["variants"]
    named, unnamed = (
        found(call("backtest", path, "--candles", candles, "--executor", "local", "--json"))
        for candles in (with_names(tmp_path / "named.parquet"), GAPPY)
    )
    assert canonical_result(over_store) == canonical_result(named)
    # The file as it is says not whose candles it holds, and its result says so: the store knows.
    told = [one["code"] for one in unnamed["cautions"] if one not in over_store["cautions"]]
    assert told == ["instrument_assumed"]
    unnamed["cautions"] = over_store["cautions"]
    assert canonical_result(over_store) == canonical_result(unnamed)


@pytest.mark.skipif(COARSE is None, reason="there is no file of 15m candles")
def test_coarser_candles_are_refused_with_what_to_do(data_dir: Path) -> None:
    done = call("ingest", "backfill-1m", *NAMED[:-2], "--file", COARSE)
    assert done.status == 2
    assert "its rows are 15m apart" in done.stderr
    assert "takes 1m only" in done.stderr
    assert done.stdout == ""
