"""Candle files as named Arrow columns, before anything is known about their rows."""

from __future__ import annotations

import csv
import re
import zlib
from collections.abc import Callable, Mapping, Sequence
from dataclasses import dataclass
from io import TextIOWrapper
from itertools import islice
from pathlib import Path
from typing import IO, Any, Final, Protocol, TypeVar
from zipfile import BadZipFile

from compute.errors import InvalidCandles
from compute.market.candles import SERIES

TIMEFRAME_METADATA: Final = "roehub.timeframe"
SYNTHETIC_METADATA: Final = "roehub.synthetic"
VOLUME_NAMES: Final = ("volume_base", "volume")
REQUIRED_NAMES: Final = ("ts_open", *SERIES[:4])
OPTIONAL_NAMES: Final = ("market_id", "symbol")

DAMAGE: Final = (OSError, EOFError, ValueError, BadZipFile, zlib.error)
"""What readers of files and of archives raise, beside Arrow, for one that is not whole."""

Read = TypeVar("Read")

_CELL: Final = re.compile(r"column #(\d+): CSV conversion error to .*: invalid value '(.*)'")


class Columns(Protocol):
    """An opened file that has every required column once, and `volume_name` for the volume."""

    @property
    def names(self) -> Sequence[str]: ...

    @property
    def metadata(self) -> Mapping[str, str]: ...

    @property
    def volume_name(self) -> str: ...

    def column(self, name: str) -> Any:
        """The column `name` as an Arrow chunked array."""
        ...


@dataclass(frozen=True, slots=True)
class _Parquet:
    path: Path
    names: Sequence[str]
    metadata: Mapping[str, str]
    volume_name: str
    file: Any

    def column(self, name: str) -> Any:
        # One column at a time and on this thread, so that only one is in memory as float64.
        def read() -> Any:
            return self.file.read(columns=[name], use_threads=False).column(0)

        return attempted(self.path, read)


@dataclass(frozen=True, slots=True)
class _Csv:
    names: Sequence[str]
    metadata: Mapping[str, str]
    volume_name: str
    table: Any

    def column(self, name: str) -> Any:
        return self.table.column(name)


def opened(path: Path) -> Columns:
    """The columns of a Parquet or CSV file, told apart by the ending of its name.

    Raises:
        InvalidCandles: no such file, another format, a broken file, missing or repeated columns.
    """
    ending = file_ending(path, (".parquet", ".csv"))
    return _opened_parquet(path) if ending == ".parquet" else _opened_csv(path)


def file_ending(path: Path, known: Sequence[str]) -> str:
    """The ending of a file's name in lower case, one of `known`.

    Raises:
        InvalidCandles: no such file, no file, or another ending.
    """
    ending = path.suffix.lower()
    kinds = " or ".join(known)
    if not path.exists():
        raise InvalidCandles(f"{path}: no such file; check the path")
    if path.is_file() and ending not in known:
        raise InvalidCandles(
            f"{path}: cannot tell the format from the name; candles are read from {kinds}"
        )
    if not path.is_file():
        raise InvalidCandles(f"{path}: not a file; name one {kinds} file")
    return ending


def attempted(path: Path, read: Callable[[], Read]) -> Read:
    """What `read` returns; what the file's reader raises becomes `InvalidCandles`."""
    import pyarrow as pa

    try:
        return read()
    except (pa.ArrowException, csv.Error, *DAMAGE) as error:
        if isinstance(error, BadZipFile):
            raise InvalidCandles(
                f"{path}: cannot be read as zip: {error}; fetch it again"
            ) from error
        reason = (str(error).strip() or type(error).__name__).splitlines()[0].rstrip(".")
        raise InvalidCandles(
            f"{path}: cannot be read as {path.suffix.lower()[1:]}: {reason}; "
            f"check that the file is complete and that its ending tells its format"
        ) from error


def _opened_parquet(path: Path) -> Columns:
    import pyarrow.parquet as pq

    file = attempted(path, lambda: pq.ParquetFile(path))
    schema = file.schema_arrow
    volume_name = _volume_name(path, schema.names)
    return _Parquet(path, schema.names, own_metadata(schema), volume_name, file)


def own_metadata(schema: Any) -> dict[str, str]:
    """What the metadata of an Arrow schema say to us."""
    raw: dict[bytes, bytes] = schema.metadata or {}
    return {
        key.decode("utf-8", "replace"): value.decode("utf-8", "replace")
        for key, value in raw.items()
        if key.startswith(b"roehub.")
    }


def csv_head(path: Path, opened: Callable[[], IO[bytes]]) -> list[list[str]]:
    """The first two rows of a CSV, the second one if there is one.

    Raises:
        InvalidCandles: it is empty or cannot be read.
    """

    def head() -> list[list[str]]:
        with TextIOWrapper(opened(), encoding="utf-8-sig", newline="") as lines:
            return list(islice(filter(None, csv.reader(lines)), 2))

    rows = attempted(path, head)
    if not rows:
        raise InvalidCandles(f"{path}: the file is empty; it needs a header and candles")
    return rows


def csv_lines(opened: Callable[[], IO[bytes]], rows: Sequence[int], before: int) -> list[int]:
    """The lines, counted from 1, on which `rows` of a CSV stand.

    `before` rows, the header, are not counted among the rows, and neither are empty lines.
    """
    wanted = set(rows)
    with opened() as file:
        filled = (number for number, line in enumerate(file, 1) if line.strip(b"\r\n"))
        upto = islice(filled, before, before + max(wanted, default=-1) + 1)
        return [number for row, number in enumerate(upto) if row in wanted]


def places(path: Path, rows: Sequence[int]) -> str:
    """Rows of a file in words: `row 3`, `rows 3, 7`; of a CSV `line 5`, `lines 5, 9`."""
    name, numbers = "row", list(rows)
    if path.suffix.lower() == ".csv":
        name, numbers = "line", csv_lines(lambda: path.open("rb"), rows, 1)
    return f"{name}{'s' if len(numbers) > 1 else ''} {', '.join(map(str, numbers))}"


def wrong_cell(
    opened: Callable[[], IO[bytes]], names: Sequence[str], error: Exception
) -> str | None:
    """What Arrow's refusal of a CSV's cell is about, with line and column: the first such cell.

    None for a refusal of another kind.
    """
    found = _CELL.search(str(error))
    if found is None:
        return None
    column, value = int(found[1]), found[2]
    with TextIOWrapper(opened(), encoding="utf-8-sig", newline="") as lines:
        reader = csv.reader(lines)
        same = (row for row in reader if len(row) > column and row[column].strip() == value.strip())
        if next(same, None) is None:
            return None
        return f"line {reader.line_num}: {names[column]} is {value!r}"


def _opened_csv(path: Path) -> Columns:
    rows = csv_head(path, lambda: path.open("rb"))
    names = rows[0]
    volume_name = _volume_name(path, names)
    first = dict(zip(names, rows[1], strict=False)) if len(rows) > 1 else {}
    numbered = first.get("ts_open", "").strip().lstrip("-").isdigit()
    table = attempted(path, lambda: _csv_table(path, names, volume_name, numbered))
    return _Csv(names, {}, volume_name, table)


def _csv_table(path: Path, names: Sequence[str], volume_name: str, numbered: bool) -> Any:
    """The needed columns, of the expected types or, where one does not fit, of inferred ones."""
    import pyarrow as pa
    import pyarrow.csv as pc

    types = {name: pa.float64() for name in (*REQUIRED_NAMES, volume_name)}
    types["ts_open"] = pa.int64() if numbered else pa.timestamp("ms", "UTC")
    types["market_id"] = pa.int64()
    types["symbol"] = pa.dictionary(pa.int32(), pa.string())
    wanted = [*REQUIRED_NAMES, volume_name, *(name for name in OPTIONAL_NAMES if name in names)]
    try:
        # Inference would keep the text of the whole file until its end: 90 MB more for a year.
        typed = pc.ConvertOptions(include_columns=wanted, column_types=types)
        return pc.read_csv(path, convert_options=typed)
    except pa.ArrowInvalid:
        symbol = {"symbol": types["symbol"]}
        inferred = pc.ConvertOptions(include_columns=wanted, column_types=symbol)
        return pc.read_csv(path, convert_options=inferred)


def _volume_name(path: Path, names: Sequence[str]) -> str:
    """The name of the volume column, after a look at all the columns."""
    volume_name = next((name for name in VOLUME_NAMES if name in names), VOLUME_NAMES[0])
    needed = (*REQUIRED_NAMES, volume_name)
    missing = [name for name in needed if name not in names]
    if missing:
        raise InvalidCandles(
            f"{path}: missing columns {', '.join(missing)}; it has {', '.join(names) or 'none'}; "
            f"needed are {', '.join(REQUIRED_NAMES)} and volume_base (or volume)"
        )
    twice = [name for name in (*needed, *OPTIONAL_NAMES) if list(names).count(name) > 1]
    if twice:
        raise InvalidCandles(f"{path}: columns {', '.join(twice)} appear twice; keep one of each")
    return volume_name
