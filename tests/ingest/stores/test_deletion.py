"""Deleted candles: gone from raw and canonical tables and from the gap ledger, and no others."""

from __future__ import annotations

import itertools
import time

import pyarrow as pa
import pytest

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.file_rows import ROW_SCHEMA, stamped
from ingest.rows import DAY_MS, MINUTE_MS, Origin
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.deletion import delete_candles
from ingest.stores.gaps import EXCHANGE_ABSENT, MISSING, Gap, GapLedger
from tests.ingest.candle_tables import candle_table

T0 = 20_000 * DAY_MS - 10 * DAY_MS  # two months
ROWS = 30 * 1440
WHOLE = Period(T0, T0 + ROWS * MINUTE_MS)
NUMBERS = itertools.count()
# Of today: a deletion rewrites parts, and raw rows of an old clock would expire on the way.
NOW = int(time.time() * 1000)


@pytest.fixture(scope="module")
def store(db: ClickHouse) -> CandleStore:
    return CandleStore(db)


@pytest.fixture(params=[1, 4])
def instrument(request) -> Instrument:
    return Instrument(request.param, f"DEL{next(NUMBERS)}USDT")


def insert(store: CandleStore, instrument: Instrument, seed: int, version: int = NOW) -> None:
    rows = candle_table(ROWS, start_ms=T0, seed=seed).select(ROW_SCHEMA.names).cast(ROW_SCHEMA)
    store.insert(stamped(rows, instrument, Origin("file", version)))


def minute(number: int) -> int:
    return T0 + number * MINUTE_MS


def test_a_range_goes_and_everything_around_it_stays(store, instrument) -> None:
    other = Instrument(instrument.market_id, f"{instrument.symbol}X")
    for one, seed in ((instrument, 1), (instrument, 2), (other, 3)):
        insert(store, one, seed, NOW + seed)  # two versions of the instrument's
    before = store.arrow(instrument, WHOLE)
    others = store.fingerprint(other, WHOLE)
    middle = Period(minute(700), minute(20 * 1440 + 30))
    length = middle.duration_ms // MINUTE_MS
    ledger = GapLedger(store.db)
    gaps = [
        Gap(Period(minute(600), minute(800)), EXCHANGE_ABSENT, 3, None, NOW),
        Gap(Period(minute(5_000), minute(5_010)), MISSING, 1, "503", NOW),
        Gap(Period(minute(20 * 1440 + 10), minute(20 * 1440 + 60)), MISSING, 2, None, NOW),
    ]
    ledger.record(instrument, gaps)
    ledger.record(other, gaps)

    told = delete_candles(store, instrument, middle, clock=lambda: NOW, dry=True)
    assert (told.candles, told.raw_rows, told.gap_minutes) == (length, 2 * length, 100 + 10 + 20)
    assert (told.first_ms, told.last_ms) == (middle.start_ms, middle.end_ms - MINUTE_MS)
    assert not told.deleted
    assert store.arrow(instrument, WHOLE).equals(before)

    done = delete_candles(store, instrument, middle, clock=lambda: NOW, dry=False)
    assert done.deleted
    assert done.candles == told.candles
    here = store.arrow(instrument, WHOLE)
    assert here.equals(pa.concat_tables([before.slice(0, 700), before.slice(700 + length)]))
    assert store.raw_count(instrument, WHOLE) == 2 * (ROWS - length)
    assert store.raw_count(instrument, middle) == 0
    known = [(gap.period, gap.state, gap.attempts) for gap in ledger.gaps(instrument, WHOLE)]
    assert known == [
        (Period(minute(600), minute(700)), EXCHANGE_ABSENT, 3),
        (Period(middle.end_ms, minute(20 * 1440 + 60)), MISSING, 2),
    ]
    assert store.fingerprint(other, WHOLE) == others
    assert len(ledger.gaps(other, WHOLE)) == 3
    again = delete_candles(store, instrument, middle, clock=lambda: NOW, dry=False)
    assert (again.candles, again.raw_rows, again.gap_minutes, again.first_ms) == (0, 0, 0, None)


def test_what_was_deleted_is_loaded_again_even_by_an_older_clock(store, instrument) -> None:
    insert(store, instrument, 1, NOW)
    told = delete_candles(store, instrument, None, clock=lambda: NOW, dry=False)
    assert (told.candles, told.time_range) == (ROWS, None)
    assert store.bounds(instrument) is None
    assert instrument not in store.instruments()
    insert(store, instrument, 2, NOW - DAY_MS)
    expected = candle_table(ROWS, start_ms=T0, seed=2)["close"].to_pylist()
    assert store.arrow(instrument, WHOLE)["close"].to_pylist() == expected
    # A merge brings nothing back.
    for table in ("canonical_candles_1m", "raw_binance_klines_1m", "raw_bybit_klines_1m"):
        store.db.command(f"OPTIMIZE TABLE {table} FINAL")
    assert store.arrow(instrument, WHOLE)["close"].to_pylist() == expected
    assert store.raw_count(instrument, WHOLE) == ROWS


def test_a_deletion_that_was_cut_off_is_run_again(store, instrument, monkeypatch) -> None:
    """Candles go first: nothing reads raw rows that are left over."""
    insert(store, instrument, 1)
    command = store.db.command

    def fail(sql: str, parameters: object = None) -> None:
        if sql.startswith("DELETE FROM raw_"):
            raise ConnectionError
        command(sql, parameters)

    with monkeypatch.context() as patched:
        patched.setattr(store.db, "command", fail)
        with pytest.raises(ConnectionError):
            delete_candles(store, instrument, None, clock=lambda: NOW, dry=False)
    assert store.bounds(instrument) is None
    told = delete_candles(store, instrument, None, clock=lambda: NOW, dry=False)
    assert (told.candles, told.raw_rows) == (0, ROWS)
    assert store.raw_count(instrument, WHOLE) == 0


def test_a_range_beyond_what_a_store_holds(store, instrument) -> None:
    before = Period(-DAY_MS, -MINUTE_MS)
    told = delete_candles(store, instrument, before, clock=lambda: NOW, dry=False)
    assert (told.candles, told.raw_rows, told.gap_minutes) == (0, 0, 0)
