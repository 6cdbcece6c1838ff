"""Candle files as streams of Arrow batches, whatever their format, in bounded memory.

A Parquet file, a CSV with a header or laid out as an exchange archive, a ZIP or GZ of such, or a
directory of all these. Columns come under the names of `NAMES`, whatever alias the file has for
them; nothing is known about their rows yet.
"""

from __future__ import annotations

import gzip
from collections.abc import Callable, Collection, Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from functools import partial
from pathlib import Path
from typing import IO, Any, Final, cast
from zipfile import BadZipFile

import pyarrow as pa
import pyarrow.csv as pc
import pyarrow.parquet as pq

from compute.errors import InvalidCandles
from compute.market.instrument import Instrument
from compute.market.period import Period, epoch_ms
from ingest.archives import headless, layout_of, member, members, named_for, verify_checksum
from ingest.candle_columns import (
    DAMAGE,
    OPTIONAL_NAMES,
    SYNTHETIC_METADATA,
    TIMEFRAME_METADATA,
    attempted,
    csv_head,
    csv_lines,
    file_ending,
    own_metadata,
    wrong_cell,
)
from ingest.exchanges.exchange import Archive
from ingest.rows import TIME

ENDINGS: Final = (".parquet", ".csv", ".gz", ".zip")
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
    batches. `name` is the file's in messages, with a member's for a ZIP. `unnamed` are the columns
    that it lacks to say whose candles it holds; the name of an archive says the symbol. `synthetic`
    is what the file says of itself; only Parquet has a place for it. `lines` tells on which lines
    of a text some ascending rows stand.
    """

    name: str
    path: Path
    columns: tuple[str, ...]
    read: Callable[[Period | None], Batches]
    unnamed: tuple[str, ...]
    labelled_frame: str | None = None
    synthetic: bool = False
    lines: Callable[[Sequence[int]], list[int]] | None = None

    def places(self, rows: Sequence[int]) -> list[str]:
        """Where ascending rows stand, in the words of who has the file open."""
        if self.lines is None:
            return [f"row {row}" for row in rows]
        return [f"line {line}" for line in self.lines(rows)]


def streams(paths: Sequence[Path], instrument: Instrument) -> Iterator[Stream]:
    """The streams of files and directories, in order; a file is opened when its turn comes.

    A directory stands for every candle file under it, by name. Checksums beside files are
    verified, and archives must be of the instrument by their names. A `.gz` is a CSV inside.

    Raises:
        InvalidCandles: no such file, another format, damage, missing columns.
    """
    for path in files(paths):
        ending = file_ending(path, ENDINGS)
        verify_checksum(path)
        told = ("symbol",) if named_for(path, instrument) else ()
        if ending == ".parquet":
            yield _parquet(path, told)
        elif ending == ".zip":
            for name in members(path):
                opened = partial(member, path, name)
                yield _csv(path, f"{path}/{name}", instrument, opened, told)
        else:
            opened = partial(_unpacked if ending == ".gz" else _plain, path)
            yield _csv(path, str(path), instrument, opened, told)


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


def _plain(path: Path) -> IO[bytes]:
    return path.open("rb")


def _unpacked(path: Path) -> IO[bytes]:
    return cast(IO[bytes], gzip.open(path, "rb"))


def _unnamed(columns: Collection[str]) -> tuple[str, ...]:
    """The columns that say whose candles they are and are not among `columns`."""
    return tuple(name for name in OPTIONAL_NAMES if name not in columns)


def _parquet(path: Path, told: tuple[str, ...]) -> Stream:
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
                    str(path), opened.iter_batches(BATCH_ROWS, row_groups=[group], columns=wanted)
                ):
                    yield at, batch.select(wanted).rename_columns(list(names))
                    at += batch.num_rows
            first_row += rows

    metadata = own_metadata(schema)
    return Stream(
        name=str(path),
        path=path,
        columns=tuple(names),
        read=read,
        unnamed=_unnamed({*names, *told}),
        labelled_frame=metadata.get(TIMEFRAME_METADATA),
        synthetic=metadata.get(SYNTHETIC_METADATA) == "true",
    )


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


def _csv(
    path: Path,
    label: str,
    instrument: Instrument,
    opened: Callable[[], IO[bytes]],
    told: tuple[str, ...],
) -> Stream:
    rows = csv_head(path, opened)
    layout = layout_of(label, rows[0], instrument) if headless(rows[0]) else None
    header = tuple(name.strip() for name in rows[0]) if layout is None else layout.columns
    names = _columns(label, header)
    converting = _conversion(names, header, rows, layout)
    before = 1 if layout is None else 0
    reading = pc.ReadOptions(
        column_names=list(header), skip_rows=before, block_size=_CSV_BLOCK_BYTES
    )

    def read(_: Period | None) -> Batches:
        at = 0
        with opened() as file:
            try:
                batches = pc.open_csv(file, read_options=reading, convert_options=converting)
            except (pa.ArrowException, *DAMAGE) as error:
                if "Empty CSV" in str(error):  # a header and nothing under it
                    return
                cell = wrong_cell(opened, header, error)
                raise _refused(label, error, cell) from error
            for batch in _guarded(label, batches, partial(wrong_cell, opened, header)):
                yield at, _in_utc(batch.rename_columns(list(names)), layout)
                at += batch.num_rows

    return Stream(
        name=label,
        path=path,
        columns=tuple(names),
        read=read,
        unnamed=_unnamed({*names, *told}),
        lines=lambda rows: csv_lines(opened, rows, before),
    )


def _conversion(
    names: Mapping[str, str],
    header: Sequence[str],
    rows: Sequence[Sequence[str]],
    layout: Archive | None,
) -> pc.ConvertOptions:
    """How the cells of a CSV become numbers and times, by the first of its rows."""
    types = {name: pa.float64() for name in names.values()}
    for name, kind in (("market_id", pa.int64()), ("symbol", pa.string())):
        if name in names:
            types[names[name]] = kind
    parsers: list[Any] = []
    time = names["ts_open"]
    if layout is not None and layout.time_format is not None:
        types[time], parsers = pa.timestamp("ms"), [layout.time_format]
    else:
        sample = dict(zip(header, rows[-1], strict=False))
        types[time] = _time_type(sample[time], layout is not None or len(rows) > 1)
    # Empty cells of numbers are nulls; anything else that is no number refuses the file.
    return pc.ConvertOptions(
        include_columns=list(types),
        column_types=types,
        null_values=["", "nan", "NaN", "null"],
        timestamp_parsers=parsers,
    )


def _in_utc(batch: pa.RecordBatch, layout: Archive | None) -> pa.RecordBatch:
    """The batch with the times of an archive's own clock as UTC."""
    if layout is None or layout.time_format is None:
        return batch
    at = batch.schema.get_field_index("ts_open")
    column = batch.column(at)
    none = column.is_null().to_numpy(zero_copy_only=False)
    times = column.cast(pa.int64()).fill_null(0).to_numpy() - layout.ahead_ms
    return batch.set_column(at, "ts_open", pa.array(times, pa.int64(), mask=none).cast(TIME))


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


def _guarded(
    label: str, batches: Any, cell: Callable[[Exception], str | None] = lambda _: None
) -> Iterator[pa.RecordBatch]:
    """The batches; what the reader raises becomes `InvalidCandles`, by `cell` if it knows which."""
    ahead = iter(batches)
    while True:
        try:
            batch = next(ahead)
        except StopIteration:
            return
        except (pa.ArrowException, *DAMAGE) as error:
            raise _refused(label, error, cell(error)) from error
        yield batch


def _refused(label: str, error: Exception, cell: str | None) -> InvalidCandles:
    if cell is not None:
        return InvalidCandles(f"{label}: cannot be read: {cell}; correct or remove the line")
    if isinstance(error, BadZipFile):
        return InvalidCandles(f"{label}: cannot be read as zip: {error}; fetch it again")
    reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
    return InvalidCandles(
        f"{label}: cannot be read: {reason}; check that the file is complete and that its "
        f"ending tells its format"
    )
