"""Archives of candles as exchanges publish them: ZIP and GZ, CSV without a header, checksums.

What the columns of an archive without a header are, its exchange says (`archive`). An archive's
name tells symbol and frame (`BTCUSDT-1m-2025-01.zip`, `BTCUSDT_1_2025-01-01_2025-01-31.csv.gz`),
and `<name>.CHECKSUM` beside it holds its sha256.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from pathlib import Path
from typing import IO, Final

from compute.errors import InvalidCandles
from compute.market.instrument import Instrument
from ingest.exchanges.exchange import Archive
from ingest.exchanges.registry import exchange_of, market

CHECKSUM_ENDING: Final = ".CHECKSUM"
FRAME: Final = "1m"

_DAY: Final = r"\d{4}-\d{2}-\d{2}"
_NAMES: Final = (
    re.compile(r"([A-Z0-9_]+)-(\d+[a-zA-Z]+)-\d{4}-\d{2}(-\d{2})?(\.[a-z]+)+"),
    re.compile(rf"([A-Z0-9-]+)_(\d+)_{_DAY}_{_DAY}(\.[a-z]+)+"),
)
_DIGEST: Final = re.compile(r"([0-9a-fA-F]{64})(\s+\*?(\S+))?\s*")


def verify_checksum(path: Path) -> bool:
    """Whether a `.CHECKSUM` file lies beside `path`; the file is what it says, then.

    Raises:
        InvalidCandles: the file is another one, or the checksum cannot be read.
    """
    beside = path.with_name(path.name + CHECKSUM_ENDING)
    if not beside.is_file():
        return False
    found = _DIGEST.fullmatch(beside.read_text("utf-8", "replace"))
    if found is None or found[3] not in (None, path.name):
        raise InvalidCandles(
            f"{beside}: not the checksum of {path.name}; it must be its sha256 in hex and its "
            f"name: download it again, or remove it to load the file unverified"
        )
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, "sha256").hexdigest()
    if digest != found[1].lower():
        raise InvalidCandles(
            f"{path}: the file is damaged: its sha256 is {digest[:16]}…, {beside.name} says "
            f"{found[1][:16].lower()}…; download it again"
        )
    return True


def named_for(path: Path, instrument: Instrument) -> bool:
    """Whether the name of an archive speaks of this symbol's minutes; else it says nothing.

    Raises:
        InvalidCandles: it names another symbol or another frame.
    """
    found = next((match for name in _NAMES if (match := name.fullmatch(path.name))), None)
    if found is None:
        return False
    if found[1] != instrument.symbol:
        raise InvalidCandles(
            f"{path}: by its name it holds {found[1]}, but {instrument} was asked for; "
            f"give the right archive, or rename it if it is"
        )
    frame = f"{found[2]}m" if found[2].isdigit() else found[2]
    if frame != FRAME:
        raise InvalidCandles(
            f"{path}: by its name it holds candles of {frame}; the store takes {FRAME} only, "
            f"longer bars are made of these"
        )
    return True


def members(path: Path) -> list[str]:
    """The names of the CSV files in a ZIP file, in its order.

    Raises:
        InvalidCandles: it is no ZIP file, or has no CSV file in it.
    """
    try:
        with zipfile.ZipFile(path) as archive:
            names = [one.filename for one in archive.infolist() if not one.is_dir()]
    except (zipfile.BadZipFile, OSError) as error:
        raise InvalidCandles(f"{path}: cannot be read as zip: {error}; fetch it again") from error
    found = [name for name in names if name.lower().endswith(".csv")]
    if not found:
        raise InvalidCandles(f"{path}: holds no .csv file, only {', '.join(names) or 'nothing'}")
    return found


def member(path: Path, name: str) -> IO[bytes]:
    """A file in a ZIP file, opened to read; closing it closes both."""
    # The ZipFile lives as long as the file it has opened, which holds on to its descriptor.
    return zipfile.ZipFile(path).open(name)


def headless(first_row: Sequence[str]) -> bool:
    """Whether the first row of a CSV is a candle already: it begins with a digit."""
    cell = first_row[0].strip() if first_row else ""
    return cell.lstrip("-")[:1].isdigit()


def layout_of(path: Path | str, first_row: Sequence[str], instrument: Instrument) -> Archive:
    """The layout of a CSV without a header, with the columns that this one has.

    Raises:
        InvalidCandles: no archive of the instrument's market is known here, or others than this.
    """
    place = market(instrument.market_id)
    layout = exchange_of(place).archive(place)
    if layout is None:
        raise InvalidCandles(
            f"{path}: has no header, and no layout of {place.code} archives without one is known "
            f"here; write the names of its columns into the first line"
        )
    columns = layout.columns
    if len(first_row) not in (len(columns), len(columns) - 1):
        raise InvalidCandles(
            f"{path}: has no header and {len(first_row)} columns; without a header it must have "
            f"the {len(columns)} of a {place.code} archive: {', '.join(columns)}"
        )
    if layout.time_format is not None and first_row[0].strip().isdigit():
        raise InvalidCandles(
            f"{path}: has no header, and its first time is {first_row[0].strip()!r}; in a "
            f"{place.code} archive it is like {_example(layout)}: write the names of its columns "
            f"into the first line"
        )
    return replace(layout, columns=columns[: len(first_row)])


def _example(layout: Archive) -> str:
    return repr(datetime(2025, 1, 31, 23, 59).strftime(layout.time_format or ""))
