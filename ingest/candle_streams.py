"""Candle files as streams of Arrow batches, whatever their format, in bounded memory.

A Parquet file, a CSV with a header or laid out as an exchange archive, a ZIP of such, or a
directory of all these. Columns come under the names of `NAMES`, whatever alias the file has for
them; nothing is known about their rows yet.
"""

from __future__ import annotations

import zipfile
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, Final

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from compute.errors import InvalidCandles
from compute.market.instrument import Instrument
from compute.market.period import Period, epoch_ms
from ingest.archives import headless, layout_of, member, members, refuse_other_name, verify_checksum
from ingest.candle_columns import (
    SYNTHETIC_METADATA,
    TIMEFRAME_METADATA,
    attempted,
    csv_head,
    file_ending,
    own_metadata,
)

ENDINGS: Final = (".parquet", ".csv", ".zip")
BATCH_ROWS: Final = 65_536
_CSV_BLOCK_BYTES: Final = 4 << 20
_PARQUET_BUFFER_BYTES: Final = 1 << 20

NAMES: Final[Mapping[str, tuple[str, ...]]] = {
    "market_id": ("market_id",),
    "symbol": ("symbol",),
    "ts_open": ("ts_open", "open_time"),
    "open": ("open",),
    "high": ("high",),
    "low": ("low",),
    "close": ("close",),
    "volume_base": ("volume_base", "volume"),
    "volume_quote": ("volume_quote", "quote_volume", "quote_asset_volume", "turnover"),
    "trades_count": ("trades_count", "count", "number_of_trades"),
    "taker_buy_volume_base": (
        "taker_buy_volume_base",
        "taker_buy_volume",
        "taker_buy_base_asset_volume",
    ),
    "taker_buy_volume_quote": (
        "taker_buy_volume_quote",
        "taker_buy_quote_volume",
        "taker_buy_quote_asset_volume",
    ),
}
"""Names of the columns, ours first."""

REQUIRED: Final = ("ts_open", "open", "high", "low", "close", "volume_base")

Batches = Iterator[tuple[int, pa.RecordBatch]]


@dataclass(frozen=True, slots=True)
class Stream:
    """The candles of a file, to be read as often as needed.

    `read(period)` yields batches with the number of their first row, counted from 0 and without a
    header; it may leave out rows that lie outside the period, and takes no more memory than a few
    batches. `name` is the file's in messages, with a member's for a ZIP. `synthetic` is what the
    file says of itself; only Parquet has a place for it.
    """

    name: str
    path: Path
    columns: tuple[str, ...]
    read: Callable[[Period | None], Batches]
    labelled_frame: str | None = None
    synthetic: bool = False


def streams(paths: Sequence[Path], instrument: Instrument) -> Iterator[Stream]:
    """The streams of files and directories, in order; a file is opened when its turn comes.

    A directory stands for every candle file under it, by name. Checksums beside files are
    verified, and archives must be of the instrument by their names.

    Raises:
        InvalidCandles: no such file, another format, damage, missing columns.
    """
    for path in files(paths):
        verify_checksum(path)
        refuse_other_name(path, instrument)
        ending = file_ending(path, ENDINGS)
        if ending == ".parquet":
            yield _parquet(path)
        elif ending == ".csv":
            yield _csv(path, str(path), instrument, lambda path=path: path.open("rb"))
        else:
            for name in members(path):
                opened = partial(member, path, name)
                yield _csv(path, f"{path}/{name}", instrument, opened)


def files(paths: Sequence[Path]) -> list[Path]:
    """The files that are meant: those named, and all candle files under named directories.

    Raises:
        InvalidCandles: a directory without a candle file.
    """
    found: list[Path] = []
    for path in paths:
        if not path.is_dir():
            found.append(path)
            continue
        inside = sorted(
            one
            for one in path.rglob("*")
            if one.suffix.lower() in ENDINGS and one.is_file() and not one.name.startswith(".")
        )
        if not inside:
            raise InvalidCandles(f"{path}: no {', '.join(ENDINGS)} file in this directory")
        found += inside
    return found


def _parquet(path: Path) -> Stream:
    file = _parquet_file(path)
    schema = file.schema_arrow
    names = _columns(str(path), schema.names)

    def read(period: Period | None) -> Batches:
        opened = _parquet_file(path)
        wanted = [names[name] for name in names]
        first_row = 0
        for group in range(opened.num_row_groups):
            rows = opened.metadata.row_group(group).num_rows
            if period is None or _touches(opened, group, names["ts_open"], period):
                at = first_row
                for batch in _guarded(
                    path, opened.iter_batches(BATCH_ROWS, row_groups=[group], columns=wanted)
                ):
                    yield at, batch.select(wanted).rename_columns(list(names))
                    at += batch.num_rows
            first_row += rows

    told = own_metadata(schema)
    synthetic = told.get(SYNTHETIC_METADATA) == "true"
    return Stream(str(path), path, tuple(names), read, told.get(TIMEFRAME_METADATA), synthetic)


def _parquet_file(path: Path) -> pq.ParquetFile:
    # With a buffer a row group is read piece by piece, however large it is.
    return attempted(path, lambda: pq.ParquetFile(path, buffer_size=_PARQUET_BUFFER_BYTES))


def _touches(file: pq.ParquetFile, group: int, name: str, period: Period) -> bool:
    """Whether a row group may hold rows of `period`, by its statistics of the time."""
    at = file.schema_arrow.get_field_index(name)
    kind = file.schema_arrow.field(at).type
    if not pa.types.is_timestamp(kind) or kind.tz is None:
        return True
    row_group = file.metadata.row_group(group)
    columns = (row_group.column(i) for i in range(row_group.num_columns))
    statistics = next(one.statistics for one in columns if one.path_in_schema == name)
    if statistics is None or not statistics.has_min_max:
        return True
    first, last = statistics.min, statistics.max
    if not (isinstance(first, datetime) and isinstance(last, datetime)):
        return True
    if first.tzinfo is None or last.tzinfo is None:
        return True
    return epoch_ms(last) >= period.start_ms and epoch_ms(first) < period.end_ms


def _csv(path: Path, label: str, instrument: Instrument, opened: Callable[[], IO[bytes]]) -> Stream:
    rows = csv_head(path, opened)
    bare = headless(rows[0])
    header = (
        layout_of(label, rows[0], instrument) if bare else tuple(name.strip() for name in rows[0])
    )
    names = _columns(label, header)
    sample = dict(zip(header, rows[0] if bare else rows[-1], strict=False))
    types = {names[name]: pa.float64() for name in names}
    types[names["ts_open"]] = _time_type(sample[names["ts_open"]], bare or len(rows) > 1)
    for name, kind in (("market_id", pa.int64()), ("symbol", pa.string())):
        if name in names:
            types[names[name]] = kind
    reading = pc.ReadOptions(
        column_names=list(header), skip_rows=0 if bare else 1, block_size=_CSV_BLOCK_BYTES
    )
    # Empty cells of numbers are nulls; anything else that is no number refuses the file.
    converting = pc.ConvertOptions(
        include_columns=list(types), column_types=types, null_values=["", "nan", "NaN", "null"]
    )

    def read(_: Period | None) -> Batches:
        at = 0
        with opened() as file:
            try:
                batches = pc.open_csv(file, read_options=reading, convert_options=converting)
            except pa.ArrowInvalid as error:
                if "Empty CSV" in str(error):  # a header and nothing under it
                    return
                raise _refused(label, error) from error
            for batch in _guarded(path, batches, label):
                yield at, batch.rename_columns(list(names))
                at += batch.num_rows

    return Stream(label, path, tuple(names), read)


def _time_type(sample: str, there: bool) -> pa.DataType:
    """The type of the times of a CSV by the first of them: a number, or a text with or without
    a zone."""
    text = sample.strip()
    if not there or text.lstrip("-").isdigit():
        return pa.int64()
    clock = text[10:]
    zoned = clock.endswith(("Z", "z")) or "+" in clock or "-" in clock
    fine = len(clock.partition(".")[2].rstrip("Zz")) > 6
    return pa.timestamp("ns" if fine else "us", "UTC" if zoned else None)


def _columns(label: str, names: Sequence[str]) -> dict[str, str]:
    """The file's name of each column it has, by our name, in the file's order.

    Raises:
        InvalidCandles: a required column is missing, or one is there twice.
    """
    found: dict[str, str] = {}
    for ours, aliases in NAMES.items():
        there = next((alias for alias in aliases if alias in names), None)
        if there is not None:
            found[ours] = there
    lacking = [name for name in REQUIRED if name not in found]
    if lacking:
        raise InvalidCandles(
            f"{label}: missing columns {', '.join(lacking)}; it has {', '.join(names) or 'none'}; "
            f"needed are {', '.join(REQUIRED)}"
        )
    twice = [name for name in found.values() if list(names).count(name) > 1]
    if twice:
        raise InvalidCandles(f"{label}: columns {', '.join(twice)} appear twice; keep one of each")
    return found


def _guarded(path: Path, batches: Any, label: str | None = None) -> Iterator[pa.RecordBatch]:
    """The batches; what the reader raises becomes `InvalidCandles`."""
    ahead = iter(batches)
    while True:
        try:
            batch = next(ahead)
        except StopIteration:
            return
        except (pa.ArrowException, OSError, ValueError, EOFError, zipfile.BadZipFile) as error:
            raise _refused(label or str(path), error) from error
        yield batch


def _refused(label: str, error: Exception) -> InvalidCandles:
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return InvalidCandles(
        f"{label}: cannot be read: {reason}; nothing of it was stored: check that the file is "
        f"complete and that its ending tells its format"
    )
