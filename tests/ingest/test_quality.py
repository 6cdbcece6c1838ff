"""Quality of candles whose faults are known."""

from __future__ import annotations

import json

import numpy as np
import pyarrow as pa
import pytest

from compute.errors import NoMarketData
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.file_rows import ROW_SCHEMA, stamped
from ingest.quality import Outlier, Range, keep, kept, quality
from ingest.reports import json_text, record, text
from ingest.rows import DAY_MS, MINUTE_MS, SYNTHETIC, Origin
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.gaps import EXCHANGE_ABSENT, Gap, GapLedger
from tests.ingest.candle_tables import NOW, candle_table, replaced

T0 = 20_000 * DAY_MS
ROWS = 40 * 1440  # more than one part of the computation


def minute(number: int) -> int:
    return T0 + number * MINUTE_MS


@pytest.fixture(scope="module")
def store(db: ClickHouse) -> CandleStore:
    return CandleStore(db)


def insert(store: CandleStore, instrument: Instrument, table: pa.Table) -> None:
    rows = table.select(ROW_SCHEMA.names).cast(ROW_SCHEMA)
    store.insert(stamped(rows, instrument, Origin("file", NOW)))


def test_every_fault_is_counted_and_named(store: CandleStore) -> None:
    instrument = Instrument(1, "QUALUSDT")
    table = candle_table(ROWS, start_ms=T0)
    volume = table["volume_base"].to_numpy().copy()
    volume[volume == 0] = 1
    volume[100:160] = 0  # a run of an hour
    volume[300:359] = 0  # a minute short of one
    volume[31 * 1440 - 40 : 31 * 1440 + 30] = 0  # over the border of two parts
    high, close = table["high"].to_numpy().copy(), table["close"].to_numpy().copy()
    high[5_000] *= 3
    table = replaced(
        table, volume_base=pa.array(volume), high=pa.array(high), close=pa.array(close)
    )
    gone = np.zeros(ROWS, bool)
    gone[1_430:1_450] = True  # one gap over midnight
    gone[20_000] = True
    insert(store, instrument, table.filter(pa.array(~gone)))
    insert(store, instrument, table.slice(0, 7))  # repeats
    GapLedger(store.db).record(
        instrument,
        [Gap(Period(minute(1_440), minute(1_450)), EXCHANGE_ABSENT, 3, None, NOW)],
    )
    report = quality(store, instrument, clock=lambda: NOW)
    assert report.time_range == Period(T0, minute(ROWS))
    assert report.expected_minutes == ROWS
    assert (report.present_minutes, report.missing_minutes) == (ROWS - 21, 21)
    assert report.absent_minutes == 10
    assert report.coverage_pct == 100 * (ROWS - 21) / ROWS
    assert (report.gaps, report.longest_gap_minutes) == (2, 20)
    assert report.gaps_shown == [Range(minute(1_430), 20), Range(minute(20_000), 1)]
    assert report.duplicates == 7
    assert report.zero_volume_minutes == 60 + 59 + 70
    assert report.zero_volume_runs_shown == [
        Range(minute(100), 60),
        Range(minute(31 * 1440 - 40), 70),
    ]
    assert report.zero_volume_runs == 2
    assert report.outliers == len(report.outliers_shown) == 1
    (odd,) = report.outliers_shown
    assert (odd.ts_open_ms, odd.kind) == (minute(5_000), "range")
    assert odd.size > 1 > 0.02 > odd.usual
    assert report.fingerprint == store.fingerprint(instrument, report.time_range)

    keep(store, report)
    later = quality(store, instrument, clock=lambda: NOW + 1)
    keep(store, later)
    assert kept(store, instrument, 5) == [record(later), record(report)]
    assert kept(store, instrument) == [json.loads(json_text(later))]
    ((missing, gaps, shown),) = store.db.rows(
        "SELECT missing_minutes, gaps, fingerprint FROM quality_reports "
        "WHERE symbol = 'QUALUSDT' ORDER BY created_at LIMIT 1"
    )
    assert (missing, gaps, shown) == (21, 2, report.fingerprint)
    assert "gaps: 2" in text(report).splitlines()


def test_a_jump_between_candles_is_an_outlier(store: CandleStore) -> None:
    instrument = Instrument(1, "JUMPUSDT")
    table = candle_table(1_000, start_ms=T0)
    factor = np.where(np.arange(1_000) >= 500, 2.0, 1.0)
    scaled = {
        name: pa.array(table[name].to_numpy() * factor) for name in ("open", "high", "low", "close")
    }
    insert(store, instrument, replaced(table, **scaled))
    report = quality(store, instrument, clock=lambda: NOW)
    assert [(one.ts_open_ms, one.kind) for one in report.outliers_shown] == [(minute(500), "jump")]
    assert isinstance(report.outliers_shown[0], Outlier)
    assert report.outliers_shown[0].size == pytest.approx(np.log(2), abs=0.05)


def test_a_step_over_a_gap_is_no_outlier(store: CandleStore) -> None:
    """Within a part of the computation and over the border of two."""
    instrument = Instrument(1, "STEPUSDT")
    border = 31 * 1440
    table = candle_table(border + 1_000, start_ms=T0)
    number = np.arange(len(table))
    factor = np.where(number >= 500, 2.0, 1.0) * np.where(number >= border, 3.0, 1.0)
    scaled = {
        name: pa.array(table[name].to_numpy() * factor) for name in ("open", "high", "low", "close")
    }
    gone = np.isin(number, [499, border - 1])
    insert(store, instrument, replaced(table, **scaled).filter(pa.array(~gone)))
    report = quality(store, instrument, clock=lambda: NOW)
    assert (report.gaps, report.outliers, report.outliers_shown) == (2, 0, [])
    insert(store, instrument, replaced(table, **scaled).slice(border - 1, 1))
    report = quality(store, instrument, clock=lambda: NOW)
    assert [one.ts_open_ms for one in report.outliers_shown] == [minute(border)]


def test_what_a_report_does_not_name_it_says(store: CandleStore) -> None:
    instrument = Instrument(1, "MANYUSDT")
    table = candle_table(600, start_ms=T0)
    gone = np.arange(600) % 20 == 10
    insert(store, instrument, table.filter(pa.array(~gone)))
    report = quality(store, instrument, clock=lambda: NOW)
    assert (report.gaps, len(report.gaps_shown), report.gaps_not_shown) == (30, 20, 10)
    assert (report.zero_volume_runs_not_shown, report.outliers_not_shown) == (0, 0)
    assert "gaps_not_shown: 10" in text(report).splitlines()
    whole = quality(store, report.instrument_id, clock=lambda: NOW, shown=None)
    assert (len(whole.gaps_shown), whole.gaps_not_shown) == (30, 0)


def test_made_up_minutes_are_counted(store: CandleStore) -> None:
    instrument = Instrument(1, "MADEUSDT")
    rows = candle_table(100, start_ms=T0).select(ROW_SCHEMA.names).cast(ROW_SCHEMA)
    store.insert(stamped(rows, instrument, Origin(SYNTHETIC, NOW)))
    store.insert(stamped(rows.slice(0, 30), instrument, Origin("rest", NOW + 1)))
    assert quality(store, instrument, clock=lambda: NOW).synthetic_minutes == 70
    assert store.synthetic(instrument, Period(T0, minute(40))) == 10


def test_a_period_counts_what_is_missing_around_but_not_what_is_to_come(
    store: CandleStore,
) -> None:
    instrument = Instrument(4, "PERUSDT")
    insert(store, instrument, candle_table(100, start_ms=T0))
    asked = Period(minute(-50), minute(10_000))
    report = quality(store, instrument, clock=lambda: minute(110) + 5, period=asked)
    assert report.time_range == Period(minute(-50), minute(110))
    assert (report.expected_minutes, report.missing_minutes, report.gaps) == (160, 60, 2)
    inside = Period(minute(10), minute(20))
    report = quality(store, instrument, clock=lambda: NOW, period=inside)
    assert (report.coverage_pct, report.gaps) == (100.0, 0)
    with pytest.raises(NoMarketData, match="no minute has closed yet"):
        quality(store, instrument, clock=lambda: T0, period=Period(minute(500), minute(600)))


def test_nothing_stored_has_no_quality(store: CandleStore) -> None:
    with pytest.raises(NoMarketData, match="no stored candle"):
        quality(store, Instrument(1, "NONEUSDT"), clock=lambda: NOW)
