"""Reading candle files: what is accepted, what is refused and with which words."""

from __future__ import annotations

import re
from collections.abc import Mapping
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import numpy as np
import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq
import pytest

from compute.errors import InvalidCandles, InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import timeline
from ingest.candle_files import read_candles
from ingest.synthetic import synthetic_candles, write_candles

START = 1_767_225_600_000  # 2026-01-01T00:00Z
MINUTE = 60_000
NAN = float("nan")
BTC = Instrument(1, "BTCUSDT")


def columns(count: int = 6, step_ms: int = MINUTE, /, **changed: Any) -> dict[str, Any]:
    """Good columns of `count` candles, with some replaced, or left out when None."""
    price = np.arange(100.0, 100.0 + count)
    good: dict[str, Any] = {
        "ts_open": START + np.arange(count) * step_ms,
        "open": price,
        "high": price + 2,
        "low": price - 2,
        "close": price + 1,
        "volume_base": np.arange(float(count)),
    }
    return {name: values for name, values in (good | changed).items() if values is not None}


def changed_at(name: str, values: Mapping[int, float], count: int = 6) -> dict[str, Any]:
    column = np.array(columns(count)[name], dtype=float)
    for row, value in values.items():
        column[row] = value
    return columns(count, **{name: column})


@pytest.fixture(params=["parquet", "csv"])
def ending(request: pytest.FixtureRequest) -> str:
    return request.param


def written(tmp_path: Path, ending: str, data: Mapping[str, Any] | pa.Table) -> Path:
    path = tmp_path / f"candles.{ending}"
    table = data if isinstance(data, pa.Table) else pa.table(dict(data))
    if ending == "parquet":
        pq.write_table(table, path)
    else:
        pc.write_csv(table, path)
    return path


def at(ending: str, *rows: int) -> str:
    """Rows of a file as a refusal names them: the header of a CSV is its line 1."""
    name, first = ("row", 0) if ending == "parquet" else ("line", 2)
    return f"{name}{'s' if len(rows) > 1 else ''} {', '.join(str(row + first) for row in rows)}"


def refusal(path: Path, **options: Any) -> InvalidCandles:
    with pytest.raises(InvalidCandles) as refused:
        read_candles(path, **options)
    assert refused.value.message.startswith(f"{path}: ")
    assert "\n" not in refused.value.message
    return refused.value


def test_good_candles_come_back_as_float32(tmp_path: Path, ending: str) -> None:
    file = read_candles(written(tmp_path, ending, columns()))
    assert file.candles.ts_open_ms.tolist() == [START + k * MINUTE for k in range(6)]
    assert file.candles.close.tolist() == [101, 102, 103, 104, 105, 106]
    assert file.candles.volume.tolist() == [0, 1, 2, 3, 4, 5]
    assert file.candles.high.dtype == np.float32
    assert (file.frame.code, file.instrument, file.rows, file.synthetic) == ("1m", None, 6, False)


def test_volume_alias_and_extra_columns(tmp_path: Path, ending: str) -> None:
    volume = np.full(6, 7.5)
    data = columns(volume_base=None, volume=volume, note=["x"] * 6, trades_count=range(6))
    assert read_candles(written(tmp_path, ending, data)).candles.volume.tolist() == [7.5] * 6
    both = columns(volume=volume)
    assert read_candles(written(tmp_path, ending, both)).candles.volume[1] == 1


@pytest.mark.parametrize("unit", ["s", "ms", "us", "ns"])
@pytest.mark.parametrize("zone", ["UTC", "+05:30", "Europe/Berlin"])
def test_aware_timestamps_of_any_unit_and_zone(tmp_path: Path, unit: str, zone: str) -> None:
    moments = [datetime(2026, 1, 1, tzinfo=UTC) + timedelta(minutes=k) for k in range(6)]
    data = columns(ts_open=pa.array(moments, pa.timestamp(unit, zone)))
    file = read_candles(written(tmp_path, "parquet", data))
    assert file.candles.ts_open_ms.tolist() == [START + k * MINUTE for k in range(6)]


@pytest.mark.parametrize(
    "texts",
    [
        ("2026-01-01T00:00:00Z", "2026-01-01T00:01:00Z"),
        ("2026-01-01 02:00:00+02:00", "2026-01-01 02:01:00+02:00"),
        ("2026-01-01T00:00:00.000Z", "2026-01-01T00:01:00.000000Z"),
    ],
)
def test_csv_timestamps_with_a_zone(tmp_path: Path, texts: tuple[str, str]) -> None:
    path = tmp_path / "candles.csv"
    rows = "".join(f"{text},1,2,1,2,3\n" for text in texts)
    path.write_text(f"ts_open,open,high,low,close,volume\n{rows}")
    assert read_candles(path).candles.ts_open_ms.tolist() == [START, START + MINUTE]


def test_csv_with_byte_order_mark_other_order_and_whole_numbers(tmp_path: Path) -> None:
    path = tmp_path / "candles.CSV"
    text = "﻿volume,close,low,high,open,ts_open\n0,2,1,3,2,0\n5,2,1,3,2,60000\n"
    path.write_text(text, encoding="utf-8")
    file = read_candles(path)
    assert file.candles.volume.tolist() == [0, 5]
    assert file.candles.open.tolist() == [2, 2]


def test_float32_and_whole_number_columns_are_accepted(tmp_path: Path) -> None:
    data = columns(open=np.full(6, 100, np.float32), close=np.full(6, 101, np.int64))
    data |= {"high": np.full(6, 102, np.float32), "low": np.full(6, 99, np.float32)}
    assert read_candles(written(tmp_path, "parquet", data)).candles.close.tolist() == [101] * 6


def test_a_row_of_five_nan_is_a_missing_candle(tmp_path: Path, ending: str) -> None:
    data = columns()
    for name in ("open", "high", "low", "close", "volume_base"):
        data[name] = pa.array([None if k == 2 else v for k, v in enumerate(data[name])])
    file = read_candles(written(tmp_path, ending, data))
    assert file.rows == 6
    assert file.candles.ts_open_ms.tolist() == [START + k * MINUTE for k in (0, 1, 3, 4, 5)]


@pytest.mark.parametrize(
    ("step", "code"),
    [
        (1, "1m"),
        (2, "1m"),
        (5, "5m"),
        (15, "15m"),
        (30, "15m"),
        (60, "1h"),
        (240, "4h"),
        (720, "4h"),
        (1440, "1d"),
        (2880, "1d"),
    ],
)
def test_frame_is_the_greatest_that_divides_every_spacing(
    tmp_path: Path, ending: str, step: int, code: str
) -> None:
    data = columns(6, step * MINUTE)
    assert read_candles(written(tmp_path, ending, data)).frame.code == code


def test_frame_of_spacings_that_differ(tmp_path: Path) -> None:
    data = columns(ts_open=START + np.array([0, 15, 45, 60, 240, 245]) * MINUTE)
    assert read_candles(written(tmp_path, "parquet", data)).frame.code == "5m"


def test_timeframe_asked_for_beats_metadata_beats_spacing(tmp_path: Path) -> None:
    table = pa.table(columns(6, 60 * MINUTE))
    labelled = table.replace_schema_metadata({"roehub.timeframe": "15m"})
    path = written(tmp_path, "parquet", labelled)
    assert read_candles(path).frame.code == "15m"
    assert read_candles(path, timeframe=" 5M ").frame.code == "5m"
    assert read_candles(written(tmp_path, "parquet", table)).frame.code == "1h"
    with pytest.raises(InvalidInput, match="timeframe '7m' is not supported; use one of"):
        read_candles(path, timeframe="7m")


def test_one_row_needs_its_timeframe_told(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, ending, columns(1))
    assert "one row does not tell its timeframe" in refusal(path).message
    assert read_candles(path, timeframe="1h").rows == 1


def test_a_timeframe_the_rows_are_not_on_is_refused_with_the_one_that_fits(
    tmp_path: Path, ending: str
) -> None:
    error = refusal(written(tmp_path, ending, columns(40)), timeframe="15m")
    assert error.rows == [1, 2, 3, 4, 5]
    where = at(ending, 1, 2, 3)
    assert re.search(rf"not on the 15m grid .* asked for, '15m'.* {where}, ", error.message)
    assert "and 32 more; " in error.message
    assert "the spacings fit 1m or finer" in error.message


def test_bars_that_do_not_begin_on_the_grid_are_refused(tmp_path: Path) -> None:
    data = columns(ts_open=START + 7 * MINUTE + np.arange(6) * 15 * MINUTE)
    error = refusal(written(tmp_path, "parquet", data))
    assert "not on the 15m grid of UTC that the spacing of the rows implies" in error.message
    assert "--candles-timeframe" in error.message


def test_a_wrong_label_is_refused(tmp_path: Path) -> None:
    table = pa.table(columns()).replace_schema_metadata({"roehub.timeframe": "7m"})
    error = refusal(written(tmp_path, "parquet", table))
    assert "metadata roehub.timeframe: timeframe '7m' is not supported" in error.message


@pytest.mark.parametrize(
    ("times", "words"),
    [
        (START // 1000 + np.arange(6) * 60, "look like seconds: multiply ts_open by 1000"),
        (START * 1000 + np.arange(6) * MINUTE * 1000, "not micro- or nanoseconds"),
        (START * 10**6 + np.arange(6) * MINUTE * 10**6, "not micro- or nanoseconds"),
        (START + np.arange(6) * 90_000, "is 90000 ms after the row before it"),
        (
            START + np.arange(6) * MINUTE + [0, 0, 0, 500, 0, 0],
            "is 60500 ms after the row before it",
        ),
    ],
)
def test_times_that_are_no_candle_times(
    tmp_path: Path, ending: str, times: Any, words: str
) -> None:
    assert words in refusal(written(tmp_path, ending, columns(ts_open=times))).message


def test_instrument_of_the_file_must_agree(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, ending, columns(market_id=[1] * 6, symbol=["btcusdt "] * 6))
    assert read_candles(path).instrument == BTC
    assert read_candles(path).unnamed == ()
    assert read_candles(path, instrument=BTC).instrument == BTC
    error = refusal(path, instrument=Instrument(2, "BTCUSDT"))
    assert "the file holds 1:BTCUSDT, but 2:BTCUSDT was asked for" in error.message


def test_half_an_instrument_is_completed_by_the_one_asked_for(tmp_path: Path, ending: str) -> None:
    path = written(tmp_path, ending, columns(symbol=["BTCUSDT"] * 6))
    assert read_candles(path).instrument is None
    assert read_candles(path, instrument=BTC).instrument == BTC
    assert "was asked for" in refusal(path, instrument=Instrument(1, "ETHUSDT")).message
    bare = read_candles(written(tmp_path, ending, columns()), instrument=BTC)
    assert (bare.instrument, bare.unnamed) == (BTC, ("market_id", "symbol"))


@pytest.mark.parametrize(
    ("extra", "words"),
    [
        ({"market_id": [1, 1, 1, 2, 2, 2]}, "column market_id must hold one value in every row"),
        ({"symbol": ["A", "B", "A", "A", "A", "A"]}, "it holds 2: 'A', 'B'; split the file"),
        ({"market_id": ["one"] * 6}, "column market_id is string; it must be integers"),
        ({"market_id": [0] * 6, "symbol": ["A"] * 6}, "market_id must be > 0, got 0"),
        ({"market_id": [1] * 6, "symbol": [" "] * 6}, "symbol must be a non-empty text"),
        ({"market_id": [1, None, 1, 1, 1, 1]}, "column market_id must hold one value"),
    ],
)
def test_instrument_columns_that_cannot_be(
    tmp_path: Path, ending: str, extra: dict[str, Any], words: str
) -> None:
    assert words in refusal(written(tmp_path, ending, columns(**extra))).message


@pytest.mark.parametrize("name", ["ts_open", "open", "high", "low", "close", "volume_base"])
def test_missing_columns_are_named_with_what_is_there(
    tmp_path: Path, ending: str, name: str
) -> None:
    error = refusal(written(tmp_path, ending, columns(**{name: None})))
    assert f"missing columns {name}; it has " in error.message
    assert "needed are ts_open, open, high, low, close and volume_base (or volume)" in error.message


def test_repeated_columns_are_refused(tmp_path: Path, ending: str) -> None:
    good = pa.table(columns())
    twice = good.append_column("close", good.column("open"))
    assert "columns close appear twice" in refusal(written(tmp_path, ending, twice)).message


def test_no_rows(tmp_path: Path, ending: str) -> None:
    error = refusal(written(tmp_path, ending, pa.table(columns()).slice(0, 0)))
    assert error.message.endswith("the file has no rows; it holds no candle")


def test_only_missing_candles(tmp_path: Path, ending: str) -> None:
    nan = np.full(6, NAN)
    data = columns(open=nan, high=nan, low=nan, close=nan, volume_base=nan)
    error = refusal(written(tmp_path, ending, data))
    assert error.message.endswith("all 6 rows are NaN; the file holds no candle")


def test_unsorted_rows(tmp_path: Path, ending: str) -> None:
    times = START + np.array([0, 2, 1, 3, 5, 4]) * MINUTE
    error = refusal(written(tmp_path, ending, columns(ts_open=times)))
    assert error.rows == [2, 5]
    words = f"ts_open is earlier than the row before in {at(ending, 2, 5)}; sort by ts_open"
    assert error.message.endswith(words)
    assert error.details == {"rows": [2, 5]}


def test_duplicate_rows(tmp_path: Path, ending: str) -> None:
    times = START + np.array([0, 1, 1, 2, 3, 4]) * MINUTE
    error = refusal(written(tmp_path, ending, columns(ts_open=times)))
    assert error.rows == [2]
    words = f"(first 2026-01-01T00:01:00Z) in {at(ending, 2)}; keep one row per candle"
    assert words in error.message


@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume_base"])
def test_partly_nan_rows(tmp_path: Path, ending: str, name: str) -> None:
    error = refusal(written(tmp_path, ending, changed_at(name, {1: NAN, 4: NAN})))
    assert error.rows == [1, 4]
    words = f"only some of the five values are NaN in {at(ending, 1, 4)}; fill or remove"
    assert words in error.message


@pytest.mark.parametrize("value", [float("inf"), -float("inf"), 1e39])
@pytest.mark.parametrize("name", ["open", "high", "low", "close", "volume_base"])
def test_values_that_are_not_finite(tmp_path: Path, name: str, value: float) -> None:
    error = refusal(written(tmp_path, "parquet", changed_at(name, {3: value})))
    label = "volume" if name == "volume_base" else name
    assert f"{label} is infinite or beyond float32 in row 3" in error.message


def test_infinite_text_in_csv(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, "csv", changed_at("close", {3: float("inf")})))
    assert error.rows == [3]


@pytest.mark.parametrize("value", [0.0, -5.0, 1e-60])
@pytest.mark.parametrize("name", ["open", "high", "low", "close"])
def test_zero_or_negative_prices(tmp_path: Path, ending: str, name: str, value: float) -> None:
    error = refusal(written(tmp_path, ending, changed_at(name, {0: value, 5: value})))
    words = f"{name} is zero or negative in {at(ending, 0, 5)}; correct or remove them"
    assert words in error.message
    assert error.rows == [0, 5]


@pytest.mark.parametrize(
    ("name", "value", "words"),
    [
        ("volume_base", -1.0, "volume is negative"),
        ("high", 101.0, "high is below open or close"),
        ("low", 103.5, "low is above open or close"),
        ("close", 90.0, "low is above open or close"),
        ("open", 110.0, "high is below open or close"),
    ],
)
def test_impossible_bars(tmp_path: Path, ending: str, name: str, value: float, words: str) -> None:
    error = refusal(written(tmp_path, ending, changed_at(name, {2: value})))
    assert f"{words} in {at(ending, 2)}; " in error.message
    assert error.rows == [2]


def test_row_numbers_are_cut_after_the_first_few(tmp_path: Path) -> None:
    error = refusal(written(tmp_path, "parquet", columns(50, close=np.zeros(50))))
    assert error.rows == [0, 1, 2, 3, 4]
    assert "in rows 0, 1, 2, 3, 4 and 45 more; " in error.message


@pytest.mark.parametrize(
    ("name", "values", "words"),
    [
        ("close", ["101"] * 6, "column close is string, not numbers; store it as float64"),
        ("close", ["101", "n/k", "x", "1", "1", "1"], "row 1 holds 'n/k'; row 2 holds 'x'"),
        ("volume_base", [True] * 6, "column volume_base is bool, not numbers"),
        ("ts_open", [float(START)] * 6, "ts_open is double; it must be int64 UTC milliseconds"),
        ("ts_open", ["today"] * 6, "ts_open is string; it must be int64"),
        ("ts_open", [datetime(2026, 1, 1).date()] * 6, "ts_open is date32"),
        ("ts_open", [datetime(2026, 1, 1)] * 6, "without a time zone, so its instant is unknown"),
    ],
)
def test_wrong_types(tmp_path: Path, name: str, values: list[Any], words: str) -> None:
    error = refusal(written(tmp_path, "parquet", columns(**{name: values})))
    assert words in error.message


@pytest.mark.parametrize(
    ("line", "words"),
    [
        (f"{START + 2 * MINUTE},1,2,1,abc,3", "column close is string, not numbers; line 4 holds"),
        (f"{START + 2 * MINUTE}.5,1,2,1,2,3", "ts_open is double; it must be int64"),
        ("soon,1,2,1,2,3", "ts_open is string; it must be int64"),
        (",1,2,1,2,3", "ts_open is empty in line 4; give every row its time"),
        (f"{START + 2 * MINUTE},1,2,1,2", "cannot be read as csv: CSV parse error: Expected 6"),
    ],
)
def test_broken_csv_lines(tmp_path: Path, line: str, words: str) -> None:
    path = tmp_path / "candles.csv"
    good = "".join(f"{START + k * MINUTE},1,2,1,2,3\n" for k in range(2))
    path.write_text(f"ts_open,open,high,low,close,volume\n{good}{line}\n")
    assert words in refusal(path).message


def test_naive_csv_timestamps(tmp_path: Path) -> None:
    path = tmp_path / "candles.csv"
    path.write_text("ts_open,open,high,low,close,volume\n2026-01-01T00:00:00,1,2,1,2,3\n")
    error = refusal(path)
    assert "without a time zone" in error.message
    assert "in CSV 2026-01-01T00:00:00Z" in error.message


def test_timestamps_between_milliseconds(tmp_path: Path) -> None:
    times = pa.array(START * 1000 + np.arange(6) * MINUTE * 1000 + [0, 0, 7, 0, 0, 0])
    data = columns(ts_open=times.cast(pa.timestamp("us", "UTC")))
    error = refusal(written(tmp_path, "parquet", data))
    assert error.rows == [2]
    assert "ts_open is not a whole millisecond in row 2" in error.message


def test_files_that_are_not_there_or_not_what_they_say(tmp_path: Path, ending: str) -> None:
    path = tmp_path / f"none.{ending}"
    assert refusal(path).message == f"{path}: no such file; check the path"
    path.mkdir()
    assert "not a file" in refusal(path).message


def test_another_format_is_refused_by_name(tmp_path: Path) -> None:
    path = tmp_path / "candles.xlsx"
    path.touch()
    assert "candles are read from .parquet or .csv" in refusal(path).message


@pytest.mark.parametrize("content", [b"", b"PAR1", b"not parquet at all, sorry", b"PAR1" * 40])
def test_corrupt_parquet(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "candles.parquet"
    path.write_bytes(content)
    assert "cannot be read as parquet: " in refusal(path).message


def test_truncated_parquet(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet", columns(500))
    whole = path.read_bytes()
    path.write_bytes(whole[: len(whole) // 2])
    assert "cannot be read as parquet: " in refusal(path).message


def test_parquet_with_a_damaged_page(tmp_path: Path) -> None:
    path = written(tmp_path, "parquet", columns(500))
    whole = bytearray(path.read_bytes())
    whole[4:200] = bytes(196)
    path.write_bytes(whole)
    assert "cannot be read as parquet: " in refusal(path).message


@pytest.mark.parametrize("content", [b"", b"\n", b"\xff\xfe\x00", b"ts_open;open;high\n1;2;3\n"])
def test_csv_without_a_usable_header(tmp_path: Path, content: bytes) -> None:
    path = tmp_path / "candles.csv"
    path.write_bytes(content)
    refusal(path)


def test_parquet_and_csv_of_the_same_candles_have_one_fingerprint(tmp_path: Path) -> None:
    frame = TIMEFRAMES["5m"]
    candles = synthetic_candles(seed=3, bars=600, frame=frame, start_ms=START)
    parquet = tmp_path / "candles.parquet"
    write_candles(parquet, candles, frame=frame, instrument=BTC, synthetic=True)
    wide = {
        name: column.astype(np.float64)
        for name, column in zip(
            ("open", "high", "low", "close", "volume"), candles.series(), strict=True
        )
    }
    csv = written(tmp_path, "csv", {"ts_open": candles.ts_open_ms, **wide})

    period = Period(START + 100 * frame.ms, START + 500 * frame.ms)
    prints = set[str]()
    for source in (candles, read_candles(parquet).candles, read_candles(csv).candles):
        line = timeline(source, frame, BTC, TIMEFRAMES["1h"], period, 5)
        prints.add(line.fingerprint)
    assert len(prints) == 1
