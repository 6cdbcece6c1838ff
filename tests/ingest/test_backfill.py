"""Candle files into a real store: every format, every complaint, nothing lost, nothing twice."""

from __future__ import annotations

import dataclasses
import itertools

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pytest

from compute.errors import InvalidCandles, InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.backfill import BackfillReport, backfill
from ingest.buckets import BUCKET_MS
from ingest.file_rows import ROW_SCHEMA, stamped
from ingest.rows import MINUTE_MS, Origin
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.ingest.candle_tables import (
    DATA,
    NOW,
    T0,
    assert_holds,
    candle_table,
    csv,
    load,
    parquet,
    replaced,
    times,
)

ROWS = 3_000
WHOLE = Period(T0, T0 + ROWS * MINUTE_MS)
NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def store(db: ClickHouse) -> CandleStore:
    return CandleStore(db)


@pytest.fixture
def instrument() -> Instrument:
    return Instrument(1, f"B{next(NUMBERS)}USDT")


def test_a_file_of_every_column_arrives_and_is_reported(store, instrument, tmp_path) -> None:
    table = candle_table(ROWS)
    path = parquet(tmp_path / "a.parquet", table)
    report = load(store, instrument, path, batch_rows=1_000)
    assert report == BackfillReport(
        instrument_id=instrument,
        time_range=WHOLE,
        started_at_ms=NOW,
        finished_at_ms=NOW,
        candles_read=ROWS,
        rows_written=ROWS,
        batches_written=3,
        files=1,
        rows_repeated=0,
        rows_of_others=0,
        rows_outside=0,
        rows_not_closed=0,
        rows_empty=0,
        rows_unnamed=ROWS,
        synthetic_files=0,
    )
    assert_holds(store, instrument, table)
    stored = store.arrow(instrument, WHOLE)
    assert set(stored["source"].to_pylist()) == {"file"}
    assert set(stored["instrument_key"].to_pylist()) == {f"binance:spot:{instrument.symbol}"}
    assert stored["ingest_id"].null_count == ROWS


def test_a_full_second_run_makes_nothing_twice(store, instrument, tmp_path) -> None:
    table = candle_table(ROWS)
    path = csv(tmp_path / "a.csv", table)
    load(store, instrument, path)
    before = store.fingerprint(instrument, WHOLE)
    report = load(store, instrument, path)
    assert report.rows_written == ROWS
    assert_holds(store, instrument, table)
    assert store.duplicates(instrument, WHOLE) == ROWS  # raw rows are evidence
    assert store.fingerprint(instrument, WHOLE) == before


def test_a_correction_counts_though_the_clock_went_back(store, instrument, tmp_path) -> None:
    wrong, right = candle_table(ROWS, seed=1), candle_table(ROWS, seed=2)
    load(store, instrument, parquet(tmp_path / "wrong.parquet", wrong))
    path = parquet(tmp_path / "right.parquet", right)
    backfill(store, instrument, [path], clock=lambda: NOW - 3_600_000)
    assert_holds(store, instrument, right)


FORMS = {
    "five columns": lambda t: t.select(DATA[:6]),
    "volume": lambda t: t.rename_columns(
        ["volume" if name == "volume_base" else name for name in t.column_names]
    ),
    "milliseconds": lambda t: replaced(t, ts_open=times(t)),
    "microseconds": lambda t: replaced(t, ts_open=times(t, 1_000)),
    "timestamp us": lambda t: replaced(t, ts_open=t["ts_open"].cast(pa.timestamp("us", "UTC"))),
    "timestamp ns": lambda t: replaced(t, ts_open=t["ts_open"].cast(pa.timestamp("ns", "UTC"))),
    "timestamp s": lambda t: replaced(t, ts_open=t["ts_open"].cast(pa.timestamp("s", "UTC"))),
    "other zone": lambda t: replaced(
        t, ts_open=t["ts_open"].cast(pa.timestamp("ms", "Asia/Tokyo"))
    ),
    "float counts": lambda t: replaced(t, trades_count=t["trades_count"].cast(pa.float64())),
    "more columns": lambda t: replaced(t, note=pa.array(["x"] * len(t)), ts_close=times(t)),
    "float32": lambda t: replaced(t, volume_quote=t["volume_quote"].cast(pa.float32())),
}


@pytest.mark.parametrize("form", FORMS)
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_forms_of_columns(store, instrument, tmp_path, form: str, ending: str) -> None:
    whole = candle_table(200)
    shaped = FORMS[form](whole)
    path = tmp_path / f"a.{ending}"
    if ending == "parquet":
        parquet(path, shaped)
    else:
        pc.write_csv(shaped, path)
    report = load(store, instrument, path)
    assert report.rows_written == 200
    kept = [name for name in DATA if name in shaped.column_names and form != "float32"]
    assert_holds(store, instrument, whole.select(kept))


def test_nan_and_null_of_optional_columns_are_no_values(store, tmp_path) -> None:
    """Where the raw table can say so: it keeps zeros for what is not told."""
    instrument = Instrument(4, "OPTUSDT")
    table = candle_table(4)
    quote = pa.array([1.0, None, float("nan"), 4.0])
    counts = pa.array([7.0, None, float("nan"), 9.0])
    path = parquet(tmp_path / "a.parquet", replaced(table, volume_quote=quote, trades_count=counts))
    load(store, instrument, path)
    here = store.arrow(instrument, WHOLE)
    assert here["volume_quote"].to_pylist() == [1.0, 0.0, 0.0, 4.0]
    assert here["trades_count"].null_count == 4


def test_naive_times_are_refused_or_declared_utc(store, instrument, tmp_path) -> None:
    table = candle_table(100)
    naive = replaced(table, ts_open=table["ts_open"].cast(pa.timestamp("ms")))
    paths = [parquet(tmp_path / "a.parquet", naive), tmp_path / "a.csv"]
    pc.write_csv(naive, paths[1])
    for path in paths:
        with pytest.raises(InvalidCandles, match=r"no time zone.*--naive-is-utc"):
            load(store, instrument, path)
    assert store.bounds(instrument) is None
    for path in paths:
        load(store, instrument, path, naive_is_utc=True)
        assert_holds(store, instrument, table)


def test_rows_of_other_instruments_are_passed_over(store, instrument, tmp_path) -> None:
    table = candle_table(300)
    named = replaced(
        table,
        market_id=pa.array([1, 1, 2] * 100),
        symbol=pa.array([instrument.symbol.lower(), "OTHER", instrument.symbol] * 100),
    )
    mine = table.take(list(range(0, 300, 3)))
    for path in (parquet(tmp_path / "a.parquet", named), csv(tmp_path / "a.csv", named)):
        report = load(store, instrument, path)
        assert (report.candles_read, report.rows_of_others) == (100, 200)
        assert_holds(store, instrument, mine)
    coded = replaced(named, symbol=named["symbol"].dictionary_encode())
    assert load(store, instrument, parquet(tmp_path / "d.parquet", coded)).candles_read == 100
    with pytest.raises(InvalidInput, match=f"like 1:{instrument.symbol.lower()};"):
        load(store, Instrument(1, "NOBODY"), tmp_path / "a.parquet")


def test_a_period_takes_its_rows_only(store, instrument, tmp_path) -> None:
    table = candle_table(ROWS)
    path = parquet(tmp_path / "a.parquet", table, row_group_size=500)
    period = Period(T0 + 700 * MINUTE_MS, T0 + 1_900 * MINUTE_MS)
    report = load(store, instrument, path, period=period)
    assert report.time_range == period
    assert report.candles_read == 1_200
    assert report.rows_outside == 300  # row groups that cannot matter were not read
    assert_holds(store, instrument, table.slice(700, 1_200))


def test_only_closed_minutes_are_taken(store, instrument, tmp_path) -> None:
    table = candle_table(100)
    path = parquet(tmp_path / "a.parquet", table)
    now = T0 + 50 * MINUTE_MS + 59_999  # minute 50 still runs
    report = backfill(store, instrument, [path], clock=lambda: now)
    assert (report.candles_read, report.rows_not_closed) == (50, 50)
    assert_holds(store, instrument, table.slice(0, 50))


BROKEN = {
    "close is not finite": ("close", float("nan")),
    "low is not finite and positive": ("low", -1.0),
    "high is below open or close": ("high", 1.0),
    "volume_base is negative": ("volume_base", -1.0),
    "volume_quote is negative or not finite": ("volume_quote", float("inf")),
    "trades_count is no count": ("trades_count", -1),
}


@pytest.mark.parametrize("reason", BROKEN)
@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_bad_row_refuses_its_file_before_anything_is_written(
    store, instrument, tmp_path, reason: str, ending: str
) -> None:
    name, value = BROKEN[reason]
    table = candle_table(70_000)  # the bad rows lie in the second batch of the file
    values = table[name].to_numpy().copy()
    values[[66_000, 69_999]] = value
    broken = replaced(table, **{name: pa.array(values)})
    path = {"parquet": parquet, "csv": csv}[ending](tmp_path / f"a.{ending}", broken)
    with pytest.raises(InvalidCandles, match=reason) as caught:
        load(store, instrument, path, batch_rows=100)
    assert caught.value.rows == [66_000, 69_999]
    place = "row 66000" if ending == "parquet" else "line 66002"  # the header is line 1
    assert f"2 rows are no candles ({place}: {reason}" in caught.value.message
    assert store.bounds(instrument) is None


def test_times_off_the_minute_or_absent_are_bad_rows(store, instrument, tmp_path) -> None:
    table = candle_table(10)
    for unit, shift in ((1, 1), (1_000, 1), (1_000, 1_000)):
        odd = times(table, unit).to_numpy().copy()
        odd[3] += shift
        path = parquet(tmp_path / "odd.parquet", replaced(table, ts_open=pa.array(odd)))
        with pytest.raises(InvalidCandles, match="row 3: ts_open is not on a whole minute"):
            load(store, instrument, path)
    holes = pa.array([None if i == 4 else v for i, v in enumerate(times(table).to_pylist())])
    path = parquet(tmp_path / "hole.parquet", replaced(table, ts_open=holes))
    with pytest.raises(InvalidCandles, match="row 4: ts_open is empty"):
        load(store, instrument, path)
    assert store.bounds(instrument) is None


def test_bad_rows_of_others_or_outside_do_not_matter(store, instrument, tmp_path) -> None:
    table = candle_table(100)
    values = table["close"].to_numpy().copy()
    values[90:] = -5.0
    path = parquet(tmp_path / "a.parquet", replaced(table, close=pa.array(values)))
    load(store, instrument, path, period=Period(T0, T0 + 90 * MINUTE_MS))
    assert_holds(store, instrument, table.slice(0, 90))


def test_a_minute_declared_missing_is_missing(store, instrument, tmp_path) -> None:
    table = candle_table(50)
    holes = np.zeros(50, bool)
    holes[[7, 8]] = True
    emptied = {
        name: pa.array(table[name].to_numpy(), mask=holes)
        for name in ("open", "high", "low", "close", "volume_base")
    }
    for path in (
        parquet(tmp_path / "a.parquet", replaced(table, **emptied)),
        csv(tmp_path / "a.csv", replaced(table, **emptied)),
    ):
        report = load(store, instrument, path)
        assert (report.candles_read, report.rows_empty) == (48, 2)
        assert_holds(store, instrument, table.filter(pa.array(~holes)))


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_disorder_and_repeats_come_to_order(store, instrument, tmp_path, ending: str) -> None:
    """Over several buckets; the last row of a minute counts."""
    rows = 2 * BUCKET_MS // MINUTE_MS // 10
    table = candle_table(rows)
    spread = replaced(
        table, ts_open=pa.array(T0 + np.arange(rows) * 7 * MINUTE_MS, pa.timestamp("ms", "UTC"))
    )
    first = replaced(spread, volume_base=pa.array(np.zeros(rows)))
    order = np.random.default_rng(3).permutation(rows)
    mixed = pa.concat_tables([first.take(order), spread.take(order[::-1])])
    path = {"parquet": parquet, "csv": csv}[ending](tmp_path / f"a.{ending}", mixed)
    report = load(store, instrument, path, batch_rows=20_000)
    assert (report.candles_read, report.rows_repeated) == (2 * rows, rows)
    assert report.batches_written == -(-rows // 20_000)
    assert store.duplicates(instrument, Period(T0, NOW)) == 0
    assert_holds(store, instrument, spread)


def test_repeats_in_order_are_dropped_across_batches(store, instrument, tmp_path) -> None:
    table = candle_table(70_000)
    twice = table.take(np.repeat(np.arange(70_000), 2))
    report = load(store, instrument, parquet(tmp_path / "a.parquet", twice))
    assert report.rows_repeated == 70_000
    assert store.raw_count(instrument, Period(T0, NOW)) == 70_000


def test_directories_and_several_files(store, instrument, tmp_path) -> None:
    table = candle_table(900)
    parquet(tmp_path / "in/b/2.parquet", table.slice(300, 300))
    csv(tmp_path / "in/1.csv", table.slice(0, 300))
    (tmp_path / "in/readme.txt").write_text("not a candle")
    last = csv(tmp_path / "3.csv", table.slice(600))
    report = load(store, instrument, tmp_path / "in", last)
    assert (report.files, report.rows_written) == (3, 900)
    assert_holds(store, instrument, table)
    (tmp_path / "none").mkdir()
    with pytest.raises(InvalidCandles, match=r"no \.parquet, \.csv, \.gz, \.zip file in this"):
        load(store, instrument, tmp_path / "none")


@pytest.mark.parametrize(
    ("text", "told"),
    [
        ("ts_open,open,high,low,close,volume\n60000,1,1,1,x,1\n", "line 2: close is 'x'"),
        ("ts_open,open,high,low,close,volume\n60000,1,1,1,-1,1\n", "line 2: close is not"),
        ("this is, a text\n", "missing columns"),
    ],
)
def test_a_bad_file_keeps_those_before_it_from_being_stored(
    store, instrument, tmp_path, text: str, told: str
) -> None:
    good = parquet(tmp_path / "1.parquet", candle_table(60))
    bad = tmp_path / "2.csv"
    bad.write_text(text)
    with pytest.raises(InvalidCandles, match=rf"2\.csv: .*{told}.*nothing was stored either"):
        load(store, instrument, good, bad)
    assert store.bounds(instrument) is None


def test_what_is_not_the_instruments_minutes_is_refused(store, instrument, tmp_path) -> None:
    path = csv(tmp_path / "ETHUSDT-1m-2025-01.csv", candle_table(5))
    with pytest.raises(InvalidCandles, match="by its name it holds ETHUSDT"):
        load(store, instrument, path)
    path = csv(tmp_path / f"{instrument.symbol}-1h-2025-01.csv", candle_table(5))
    with pytest.raises(InvalidCandles, match="by its name it holds candles of 1h"):
        load(store, instrument, path)
    table = candle_table(60)
    quarter = replaced(table, ts_open=pa.array(T0 + np.arange(60) * 15 * MINUTE_MS))
    with pytest.raises(InvalidCandles, match="its rows are 15m apart"):
        load(store, instrument, parquet(tmp_path / "a.parquet", quarter))
    labelled = table.replace_schema_metadata({"roehub.timeframe": "5m"})
    with pytest.raises(InvalidCandles, match="holds candles of 5m by its metadata"):
        load(store, instrument, parquet(tmp_path / "b.parquet", labelled))
    assert store.bounds(instrument) is None


def test_files_that_cannot_be_meant(store, instrument, tmp_path) -> None:
    table = candle_table(5)
    path = tmp_path / "a.csv"
    for text, complaint in (
        ("", "the file is empty"),
        ("ts_open,open,high\n1,2,3\n", "missing columns low, close, volume_base"),
        ("60000,1,1,1,1,1\n", "no header and 6 columns"),
        ("ts_open,open,high,low,close,volume\n0,1,1,1,1\n", "Expected 6 columns, got 5"),
    ):
        path.write_text(text)
        with pytest.raises(InvalidCandles, match=complaint):
            load(store, instrument, path)
    for column, complaint in (
        ({"close": pa.array(["1"] * 5)}, "column close is string, not numbers"),
        ({"ts_open": pa.array([1.0] * 5)}, "ts_open is double"),
        ({"market_id": pa.array(["1"] * 5)}, "column market_id is string"),
        ({"symbol": pa.array([1] * 5)}, "column symbol is int64"),
    ):
        broken = parquet(tmp_path / "a.parquet", replaced(table, **column))
        with pytest.raises(InvalidCandles, match=complaint):
            load(store, instrument, broken)
    with pytest.raises(InvalidCandles, match="no such file"):
        load(store, instrument, tmp_path / "none.parquet")
    for missing in ("none.xlsx", "none"):
        with pytest.raises(InvalidCandles, match=rf"{missing}: no such file"):
            load(store, instrument, tmp_path / missing)
    (tmp_path / "book.xlsx").write_bytes(b"")
    with pytest.raises(InvalidCandles, match="cannot tell the format"):
        load(store, instrument, tmp_path / "book.xlsx")
    with pytest.raises(InvalidInput, match="no candle file was named"):
        load(store, instrument)
    with pytest.raises(InvalidInput, match="batch size must be > 0"):
        load(store, instrument, path, batch_rows=0)


def test_a_header_alone_holds_nothing(store, instrument, tmp_path) -> None:
    path = tmp_path / "a.csv"
    path.write_text("ts_open,open,high,low,close,volume\n")
    report = load(store, instrument, path)
    assert (report.time_range, report.candles_read, report.batches_written) == (None, 0, 0)


def test_a_batch_without_a_limit_is_one(store, instrument, tmp_path) -> None:
    path = parquet(tmp_path / "a.parquet", candle_table(ROWS))
    assert load(store, instrument, path, batch_rows=None).batches_written == 1


def test_rows_that_came_live_are_overruled(store, instrument, tmp_path) -> None:
    """A file is loaded because somebody wants its values."""
    live = candle_table(10, seed=5).select(ROW_SCHEMA.names)
    store.insert(stamped(live, instrument, Origin("ws", NOW + 5)))
    table = candle_table(10, seed=6)
    load(store, instrument, parquet(tmp_path / "a.parquet", table))
    assert_holds(store, instrument, table)


def test_synthetic_files_are_counted_and_said(store, instrument, tmp_path) -> None:
    plain = candle_table(60)
    made = plain.replace_schema_metadata({"roehub.synthetic": "true"})
    said: list[str] = []
    paths = parquet(tmp_path / "a.PARQUET", made), parquet(tmp_path / "b.parquet", plain)
    report = load(store, instrument, *paths, say=said.append)
    assert (report.files, report.synthetic_files) == (2, 1)
    assert said[0].startswith(f"WARNING: {paths[0]} holds SYNTHETIC candles")
    # Each minute has the label of the version that counts: the later file's here.
    assert set(store.arrow(instrument, WHOLE)["source"].to_pylist()) == {"file"}
    load(store, instrument, paths[0])
    assert set(store.arrow(instrument, WHOLE)["source"].to_pylist()) == {"synthetic"}


def test_a_file_that_names_no_symbol_is_told_and_counted(store, instrument, tmp_path) -> None:
    table = candle_table(60)
    named = replaced(table, symbol=pa.array([instrument.symbol] * 60))
    bare, whole = csv(tmp_path / "bare.csv", table), csv(tmp_path / "whole.csv", named)
    told = csv(tmp_path / f"{instrument.symbol}-1m-2025-01.csv", table)  # by its name
    said: list[str] = []
    report = load(store, instrument, whole, told, say=said.append)
    assert (report.rows_unnamed, said) == (0, [])
    report = load(store, instrument, whole, bare, bare, say=said.append)
    assert (report.candles_read, report.rows_unnamed) == (180, 120)
    (line,) = said
    assert line.startswith(f"WARNING: {bare} (and so 1 more) has no column symbol")
    assert f"taken for {instrument}" in line


@pytest.mark.parametrize("ending", ["parquet", "csv"])
def test_a_range_outside_the_files_says_what_they_cover(
    store, instrument, tmp_path, ending: str
) -> None:
    path = {"parquet": parquet, "csv": csv}[ending](tmp_path / f"a.{ending}", candle_table(ROWS))
    outside = Period(WHOLE.end_ms, WHOLE.end_ms + MINUTE_MS)
    with pytest.raises(InvalidInput, match=r"no row of .* in \[.*covers \[") as caught:
        load(store, instrument, path, period=outside)
    assert f"covers {WHOLE}" in caught.value.message
    assert store.bounds(instrument) is None


def test_empty_lines_are_counted_as_lines_and_not_as_rows(store, instrument, tmp_path) -> None:
    path = csv(tmp_path / "a.csv", candle_table(5))
    lines = path.read_text().splitlines()
    broken = lines[3].split(",")
    broken[4] = "-1"
    path.write_text("\n".join([*lines[:2], "", lines[2], "", ",".join(broken), ""]))
    with pytest.raises(InvalidCandles, match=r"1 row is no candle \(line 6: ") as caught:
        load(store, instrument, path)
    assert caught.value.rows == [2]


def test_a_file_that_changes_while_it_is_loaded_is_refused(store, instrument, tmp_path) -> None:
    """Between its two readings, where the label is said: no row is written that was not judged."""
    table = candle_table(300).replace_schema_metadata({"roehub.synthetic": "true"})
    low = table["low"].to_numpy().copy()
    low[200] = table["high"][200].as_py() + 1
    path = parquet(tmp_path / "a.parquet", table)

    def spoil(_: str) -> None:
        parquet(path, replaced(table, low=pa.array(low)))

    with pytest.raises(InvalidCandles, match=r"row 200: .*perhaps some rows; they stay"):
        load(store, instrument, path, say=spoil)
    assert store.bounds(instrument) is None


def test_a_report_has_the_contracts_fields() -> None:
    names = [field.name for field in dataclasses.fields(BackfillReport)]
    assert names[:7] == [
        "instrument_id",
        "time_range",
        "started_at_ms",
        "finished_at_ms",
        "candles_read",
        "rows_written",
        "batches_written",
    ]
