"""Archives of candles as exchanges publish them: ZIP files, CSV without a header, checksums.

What the columns of an archive without a header are, its exchange says (`archive_columns`); times
are milliseconds or microseconds. An archive's name tells symbol and frame
(`BTCUSDT-1m-2025-01.zip`), and `<name>.CHECKSUM` beside it holds its sha256.
"""

from __future__ import annotations

import hashlib
import re
import zipfile
from collections.abc import Sequence
from pathlib import Path
from typing import IO, Final

from compute.errors import InvalidCandles
from compute.market.instrument import Instrument
from ingest.exchanges.registry import exchange_of

CHECKSUM_ENDING: Final = ".CHECKSUM"
FRAME: Final = "1m"

_NAME: Final = re.compile(r"([A-Z0-9_]+)-(\d+[a-zA-Z]+)-\d{4}-\d{2}(-\d{2})?(\.[a-z]+)+")
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


def refuse_other_name(path: Path, instrument: Instrument) -> None:
    """Returns when the name of an archive speaks of this symbol's minutes, or of nothing.

    Raises:
        InvalidCandles: it names another symbol or another frame.
    """
    found = _NAME.fullmatch(path.name)
    if found is None:
        return
    if found[1] != instrument.symbol:
        raise InvalidCandles(
            f"{path}: by its name it holds {found[1]}, but {instrument} was asked for; "
            f"give the right archive, or rename it if it is"
        )
    if found[2] != FRAME:
        raise InvalidCandles(
            f"{path}: by its name it holds candles of {found[2]}; the store takes {FRAME} only, "
            f"longer bars are made of these"
        )


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
    """Whether the first row of a CSV is a candle already: it begins with a number."""
    cell = first_row[0].strip() if first_row else ""
    return cell.lstrip("-").isdigit()


def layout_of(
    path: Path | str, first_row: Sequence[str], instrument: Instrument
) -> tuple[str, ...]:
    """The names of the columns of a CSV without a header, as the instrument's exchange has them.

    Raises:
        InvalidCandles: the exchange has no archives, or others than this.
    """
    columns = exchange_of(instrument.market_id).archive_columns
    if not columns:
        raise InvalidCandles(
            f"{path}: has no header and the exchange of {instrument} publishes no archives without "
            f"one; write the names of its columns into the first line"
        )
    if len(first_row) not in (len(columns), len(columns) - 1):
        raise InvalidCandles(
            f"{path}: has no header and {len(first_row)} columns; without a header it must have "
            f"the {len(columns)} of an exchange archive: {', '.join(columns)}"
        )
    return columns[: len(first_row)]
