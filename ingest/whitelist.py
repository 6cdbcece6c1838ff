"""The whitelist: a CSV file of the instruments that are collected, and those that are not."""

from __future__ import annotations

import csv
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from ingest.symbols import listed_instrument

COLUMNS: Final = ("market_id", "symbol", "is_enabled")
FAULTS_SHOWN: Final = 5
LARGEST_MARKET_ID: Final = 65_535

Warn = Callable[[str], None]


@dataclass(frozen=True, slots=True)
class Listed:
    """An instrument of the whitelist; one that is not enabled is off by decision."""

    instrument: Instrument
    enabled: bool


def whitelist(path: Path, warn: Warn) -> list[Listed]:
    """The rows of a whitelist, each instrument once.

    Columns `market_id`, `symbol` and `is_enabled` (`0` or `1`) are required, others ignored. Of a
    repeated instrument the last row counts, in its place, and `warn` gets a line about it.

    Raises:
        InvalidInput: a file that cannot be read, a missing column, or bad rows, with their line
            numbers (the header is line 1).
    """
    found: dict[Instrument, tuple[int, Listed]] = {}
    faults: list[str] = []
    try:
        with path.open(encoding="utf-8-sig", newline="") as file:
            reader = csv.DictReader(file, strict=True)
            _refuse_header(path, reader.fieldnames)
            for row in reader:
                line = reader.line_num
                try:
                    listed = _listed(row)
                except InvalidInput as error:
                    faults.append(f"line {line}: {error.message}")
                    continue
                earlier = found.pop(listed.instrument, None)
                if earlier is not None:
                    warn(
                        f"{path}: line {line} repeats {listed.instrument} of line {earlier[0]}; "
                        f"the last one counts"
                    )
                found[listed.instrument] = line, listed
    except FileNotFoundError:
        raise InvalidInput(
            f"{path}: no such file; a whitelist is a CSV with columns {', '.join(COLUMNS)}"
        ) from None
    except (OSError, UnicodeDecodeError, csv.Error) as error:
        raise InvalidInput(f"{path}: cannot be read: {error}") from None
    if faults:
        more = len(faults) - FAULTS_SHOWN
        shown = "; ".join(faults[:FAULTS_SHOWN]) + (f"; and {more} more" if more > 0 else "")
        raise InvalidInput(f"{path}: {shown}")
    return [listed for _, listed in found.values()]


def _refuse_header(path: Path, names: object) -> None:
    known = list(names) if isinstance(names, list | tuple) else []
    missing = [name for name in COLUMNS if name not in known]
    if missing:
        raise InvalidInput(
            f"{path}: line 1: column {', '.join(missing)} is missing; "
            f"the header is {','.join(COLUMNS)}"
        )


def _listed(row: Mapping[str, str | None]) -> Listed:
    values = {name: (row.get(name) or "").strip() for name in COLUMNS}
    number = values["market_id"]
    if not (number.isascii() and number.isdigit() and 1 <= int(number) <= LARGEST_MARKET_ID):
        raise InvalidInput(f"market_id must be a whole number from 1, got {number!r}")
    if values["is_enabled"] not in ("0", "1"):
        raise InvalidInput(f"is_enabled must be 0 or 1, got {values['is_enabled']!r}")
    instrument = listed_instrument(int(number), values["symbol"])
    return Listed(instrument, values["is_enabled"] == "1")
