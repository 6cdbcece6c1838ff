"""Archives of exchanges as they are published, and damaged ones, into a real store."""

from __future__ import annotations

import gzip
import hashlib
import itertools
import zipfile
from pathlib import Path

import pytest

from compute.errors import InvalidCandles
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.rows import MINUTE_MS
from ingest.stores.candles import CandleStore
from ingest.stores.clickhouse import ClickHouse
from tests.ingest.candle_tables import (
    T0,
    archive_lines,
    assert_holds,
    candle_table,
    load,
    mt4_lines,
)

NUMBERS = itertools.count()


@pytest.fixture(scope="module")
def store(db: ClickHouse) -> CandleStore:
    return CandleStore(db)


@pytest.fixture
def instrument() -> Instrument:
    return Instrument(1, f"A{next(NUMBERS)}USDT")


def written(path: Path, text: str) -> Path:
    """`path` with the text, packed as its ending says."""
    if path.suffix == ".zip":
        with zipfile.ZipFile(path, "w", zipfile.ZIP_DEFLATED) as archive:
            archive.writestr(f"{path.stem}.csv", text)
    elif path.suffix == ".gz":
        path.write_bytes(gzip.compress(text.encode()))
    else:
        path.write_text(text)
    return path


@pytest.mark.parametrize("unit", [1, 1_000])
@pytest.mark.parametrize("header", [False, True])
@pytest.mark.parametrize("packed", ["csv", "zip", "csv.gz", "gz"])
def test_archives_of_binance(store, tmp_path, unit, header, packed) -> None:
    instrument = Instrument(1, f"ARC{unit}{header:d}{packed.replace('.', '').upper()}USDT")
    table = candle_table(500)
    lines = archive_lines(table, unit)
    if header:
        lines.insert(
            0,
            "open_time,open,high,low,close,volume,close_time,quote_volume,count,"
            "taker_buy_volume,taker_buy_quote_volume,ignore",
        )
    name = f"{instrument.symbol}-1m-2025-01"
    path = written(tmp_path / f"{name}.{packed}", "\n".join(lines) + "\n")
    digest = hashlib.sha256(path.read_bytes()).hexdigest()
    path.with_name(f"{path.name}.CHECKSUM").write_text(f"{digest}  {path.name}\n")
    report = load(store, instrument, path)
    assert (report.rows_written, report.files) == (500, 1)
    assert_holds(store, instrument, table)


def test_columns_without_a_header_need_a_market_with_a_layout(store, tmp_path) -> None:
    """Twelve columns mean nothing for another one."""
    path = tmp_path / "a.csv"
    path.write_text("\n".join(archive_lines(candle_table(60))) + "\n")
    with pytest.raises(InvalidCandles, match="no header, and no layout of bybit:spot archives"):
        load(store, Instrument(3, "BAREUSDT"), path)
    with pytest.raises(InvalidCandles, match=r"12 columns; .* the 6 of a bybit:futures archive"):
        load(store, Instrument(4, "BAREUSDT"), path)
    assert load(store, Instrument(2, "BAREUSDT"), path).rows_written == 60


def test_a_damaged_archive_is_refused(store, instrument, tmp_path) -> None:
    path = tmp_path / f"{instrument.symbol}-1m-2025-01.zip"
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("a.csv", "\n".join(archive_lines(candle_table(50))))
    beside = path.with_name(f"{path.name}.CHECKSUM")
    beside.write_text(f"{'0' * 64}  {path.name}\n")
    with pytest.raises(InvalidCandles, match=r"damaged: its sha256 is .* says 0000"):
        load(store, instrument, path)
    beside.write_text(f"{hashlib.sha256(path.read_bytes()).hexdigest()}  other.zip\n")
    with pytest.raises(InvalidCandles, match="not the checksum of"):
        load(store, instrument, path)
    beside.unlink()
    whole = bytearray(path.read_bytes())
    whole[60] ^= 0xFF  # inside the stored data: only the CRC of the ZIP tells
    path.write_bytes(bytes(whole))
    with pytest.raises(InvalidCandles, match="cannot be read"):
        load(store, instrument, path)
    path.write_bytes(b"PK nonsense")
    with pytest.raises(InvalidCandles, match="cannot be read as zip"):
        load(store, instrument, path)
    with zipfile.ZipFile(path, "w") as archive:
        archive.writestr("readme.txt", "")
    with pytest.raises(InvalidCandles, match=r"holds no \.csv file"):
        load(store, instrument, path)
    assert store.bounds(instrument) is None


@pytest.mark.parametrize("packed", ["csv", "csv.gz", "gz"])
def test_archives_of_bybit_are_three_hours_ahead(store, tmp_path, packed) -> None:
    """Without a header, `2025.01.01 02:00` for the minute that opens at 23:00 of the day before."""
    instrument = Instrument(4, f"MT{packed.replace('.', '').upper()}USDT")
    table = candle_table(500)
    lines = mt4_lines(table)
    assert lines[0].startswith("2024.12.31 03:00,")
    name = f"{instrument.symbol}_1_2025-01-01_2025-01-31.{packed}"
    report = load(store, instrument, written(tmp_path / name, "\n".join(lines) + "\n"))
    assert (report.rows_written, report.rows_unnamed) == (500, 0)
    assert report.time_range == Period(T0, T0 + 500 * MINUTE_MS)
    assert_holds(store, instrument, table.select(["ts_open", *table.column_names[1:6]]))


def test_a_bybit_archive_of_another_kind_is_refused(store, tmp_path) -> None:
    instrument = Instrument(4, "KINDUSDT")
    lines = mt4_lines(candle_table(5))
    text = "\n".join(lines) + "\n"
    for name, complaint in (
        ("OTHERUSDT_1_2025-01-01_2025-01-31.csv.gz", "by its name it holds OTHERUSDT"),
        ("KINDUSDT_15_2025-01-01_2025-01-31.csv.gz", "by its name it holds candles of 15m"),
    ):
        with pytest.raises(InvalidCandles, match=complaint):
            load(store, instrument, written(tmp_path / name, text))
    numbered = f"{T0},1,1,1,1,1\n"
    with pytest.raises(InvalidCandles, match=r"first time is '\d+'; .* like '2025.01.31 23:59'"):
        load(store, instrument, written(tmp_path / "a.csv.gz", numbered))
    odd = "\n".join([*lines, "2025.01.01 xx:00,1,1,1,1,1"])
    with pytest.raises(InvalidCandles, match=r"cannot be read: .*xx:00"):
        load(store, instrument, written(tmp_path / "b.csv.gz", odd))
    low = "\n".join([*lines, "2025.01.01 00:00,1,1,2,1,1"])
    with pytest.raises(InvalidCandles, match=r"1 row is no candle \(line 6: low"):
        load(store, instrument, written(tmp_path / "c.csv.gz", low))
    assert store.bounds(instrument) is None


def test_a_zip_whose_member_is_damaged_is_refused_as_one_that_is_none(
    store, instrument, tmp_path
) -> None:
    path = tmp_path / "a.zip"
    with zipfile.ZipFile(path, "w", zipfile.ZIP_STORED) as archive:
        archive.writestr("a.csv", "ts_open,open,high,low,close,volume\n60000,1,1,1,1,12345\n")
    path.write_bytes(path.read_bytes().replace(b"12345", b"12346"))
    with pytest.raises(InvalidCandles, match=r"cannot be read as zip: Bad CRC-32.*fetch it again"):
        load(store, instrument, path)


def test_a_damaged_gz_is_refused(store, instrument, tmp_path) -> None:
    text = "\n".join(archive_lines(candle_table(3_000)))
    path = written(tmp_path / "a.csv.gz", text)
    whole = path.read_bytes()
    spoiled = bytearray(whole)
    spoiled[len(whole) // 2] ^= 0xFF
    cut = whole[: len(whole) // 2]
    refusal = r"a\.csv\.gz: (cannot be read|the file is empty)"
    for damaged in (bytes(spoiled), cut, cut[:5], b"no gz", b"", whole[:-8] + bytes(8)):
        path.write_bytes(damaged)
        with pytest.raises(InvalidCandles, match=refusal):
            load(store, instrument, path)
    assert store.bounds(instrument) is None
