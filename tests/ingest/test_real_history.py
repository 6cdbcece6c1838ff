"""Real candles through the store, read only where `ROEHUB_CANDLES_DIR` says there are some."""

from __future__ import annotations

import os
from pathlib import Path

import numpy as np
import pyarrow.parquet as pq
import pytest

from compute.market.fingerprint import fingerprint
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import Timeline, present, timeline
from ingest.backfill import backfill
from ingest.candle_files import read_candles
from ingest.gaps import minutes_in
from ingest.quality import quality
from ingest.rows import MINUTE_MS
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.ingest.candle_tables import csv

DIRECTORY = os.environ.get("ROEHUB_CANDLES_DIR")
FILES = sorted(Path(DIRECTORY).glob("*-1m-*.parquet")) if DIRECTORY else []
GAPPY = next((path for path in FILES if "gappy" in path.name), None)
NOW = 1_900_000_000_000

pytestmark = pytest.mark.skipif(
    not FILES, reason="ROEHUB_CANDLES_DIR names no directory with Parquet candles of 1m"
)


@pytest.fixture(scope="module")
def store(db: ClickHouse) -> CandleStore:
    return CandleStore(db)


def load(store: CandleStore, instrument: Instrument, path: Path) -> Period:
    report = backfill(store, instrument, [path], clock=lambda: NOW)
    assert report.rows_written == report.candles_read
    assert report.time_range is not None
    return report.time_range


def assert_same_line(one: Timeline, other: Timeline) -> None:
    assert one.load == other.load
    assert (one.rows, one.missing) == (other.rows, other.missing)
    assert np.array_equal(one.candles.ts_open_ms, other.candles.ts_open_ms)
    for here, there in zip(one.candles.series(), other.candles.series(), strict=True):
        assert np.array_equal(here, there)


@pytest.mark.parametrize("path", FILES, ids=lambda path: path.stem)
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_file_and_the_store_give_the_same_timeline(
    store: CandleStore, tmp_path: Path, path: Path, ending: str
) -> None:
    """In both formats; the columns beside the five arrive too."""
    table = pq.read_table(path)
    instrument = Instrument(4, f"R{FILES.index(path)}{ending.upper()}")
    source = path if ending == "parquet" else csv(tmp_path / "real.csv", table)
    period = load(store, instrument, source)
    file = read_candles(path).candles
    frame = TIMEFRAMES["1m"]
    stored = store.candles(instrument, period)
    known = fingerprint(instrument, frame, period, present(file, frame, period))
    assert store.fingerprint(instrument, period) == known
    assert fingerprint(instrument, frame, period, present(stored, frame, period)) == known
    for name in ("5m", "1d"):
        lines = [
            timeline(candles, frame, instrument, TIMEFRAMES[name], period, 10)
            for candles in (file, stored)
        ]
        assert_same_line(*lines)
    if "volume_quote" in table.column_names:
        here = store.arrow(instrument, period)
        assert here["volume_quote"].to_pylist() == table["volume_quote"].to_pylist()
    assert store.missing(instrument, period) == [] or path == GAPPY


@pytest.mark.skipif(GAPPY is None, reason="there is no file with gaps")
def test_the_gaps_of_the_gappy_file_are_reported_exactly(store: CandleStore) -> None:
    assert GAPPY is not None
    instrument = Instrument(4, "BNBUSDT")
    period = load(store, instrument, GAPPY)
    report = quality(store, instrument, clock=lambda: NOW)
    assert report.time_range == period
    assert (report.present_minutes, report.gaps) == (105_076, 524)
    assert report.missing_minutes == 524 * 801  # every gap is as long as the next one
    assert report.longest_gap_minutes == 801
    assert {gap.minutes for gap in report.gaps_shown} == {801}
    assert report.expected_minutes == period.duration_ms // MINUTE_MS == 105_076 + 524 * 801
    assert report.coverage_pct == 100 * 105_076 / report.expected_minutes
    assert report.duplicates == 0
    assert minutes_in(store.missing(instrument, period)) == 524 * 801
