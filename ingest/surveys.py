"""A first look at a candle file: what is in it, and whether it may be loaded."""

from __future__ import annotations

import math
from collections.abc import Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any, Final

import numpy as np
import pyarrow as pa

from compute.errors import InvalidCandles, InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period, instant
from compute.market.timeframe import TIMEFRAMES
from ingest.archives import FRAME
from ingest.candle_files import ROWS_SHOWN
from ingest.candle_streams import Stream, streams
from ingest.file_rows import Chosen, Wanted, chosen
from ingest.rows import MINUTE_MS, Fault
from ingest.signals import Check, unchecked

_ROWS_THAT_TELL_A_FRAME: Final = 50


@dataclass(slots=True)
class Survey:
    """What a first look at a file found.

    `read` rows are meant, those that are not are counted by the reason. `nameless` is a file that
    does not say its symbol. Times are those of the rows read.
    """

    name: str
    synthetic: bool = False
    nameless: bool = False
    read: int = 0
    others: int = 0
    outside: int = 0
    open: int = 0
    empty: int = 0
    ascending: bool = True
    first_ms: int | None = None
    last_ms: int | None = None
    spacing_ms: int = 0
    fault_count: int = 0
    faults: list[Fault] = field(default_factory=list)
    previous_ms: int | None = None

    def add(self, batch: Chosen) -> None:
        """Takes a batch of the file into account."""
        self.others += batch.others
        self.outside += batch.outside
        self.open += batch.open
        self.empty += batch.empty
        self.fault_count += len(batch.faults)
        self.faults += batch.faults[: ROWS_SHOWN - len(self.faults)]
        self.read += batch.table.num_rows
        if batch.faults or not batch.table.num_rows:
            return
        times = opens_ms(batch.table)
        before = times[:1] if self.previous_ms is None else [self.previous_ms]
        steps = np.diff(times, prepend=before)
        self.ascending &= bool((steps >= 0).all())
        self.spacing_ms = math.gcd(self.spacing_ms, int(np.gcd.reduce(steps)))
        self.previous_ms = int(times[-1])
        first_ms, last_ms = int(times.min()), int(times.max())
        self.first_ms = first_ms if self.first_ms is None else min(self.first_ms, first_ms)
        self.last_ms = last_ms if self.last_ms is None else max(self.last_ms, last_ms)


def survey(stream: Stream, wanted: Wanted, check: Check = unchecked) -> Survey:
    """A first look at a file, `check` called between batches.

    Raises: InvalidCandles, if it is not to be loaded.
    """
    if stream.labelled_frame not in (None, FRAME):
        raise InvalidCandles(
            f"{stream.name}: holds candles of {stream.labelled_frame} by its metadata; the store "
            f"takes {FRAME} only, longer bars are made of these"
        )
    found = Survey(stream.name, stream.synthetic, "symbol" in stream.unnamed)
    for first_row, batch in stream.read(wanted.period):
        check()
        found.add(chosen(stream.name, first_row, batch, wanted))
    if found.fault_count:
        raise _faulty(stream, found)
    frame = next((f for f in reversed(TIMEFRAMES.values()) if _fits(found, f.ms)), None)
    if frame is not None:
        raise InvalidCandles(
            f"{stream.name}: its rows are {frame.code} apart, from {instant(found.first_ms or 0)} "
            f"on; the store takes {FRAME} only, longer bars are made of these"
        )
    return found


def _fits(found: Survey, frame_ms: int) -> bool:
    """Whether so many rows on a coarser grid can be no accident."""
    if frame_ms == MINUTE_MS or found.read < _ROWS_THAT_TELL_A_FRAME:
        return False
    return found.spacing_ms > 0 and found.spacing_ms % frame_ms == 0


def _faulty(stream: Stream, found: Survey) -> InvalidCandles:
    """The refusal of a file with rows that are no candles."""
    rows = [fault.row for fault in found.faults]
    shown = "; ".join(
        f"{place}: {fault.reason}"
        for place, fault in zip(stream.places(rows), found.faults, strict=True)
    )
    more = found.fault_count - len(found.faults)
    count, them = ("1 row is no candle", "it")
    if found.fault_count > 1:
        count, them = f"{found.fault_count} rows are no candles", "them"
    return InvalidCandles(
        f"{stream.name}: {count} ({shown}{f' and {more} more' if more else ''}); nothing "
        f"was stored: correct or remove {them}",
        rows=rows,
    )


def refuse_nothing(surveys: Sequence[Survey], paths: Sequence[Path], wanted: Wanted) -> None:
    """Returns when some row was meant, or there was none at all.

    Raises:
        InvalidInput: all rows are of other instruments, or none of a time asked for.
    """
    if any(one.read for one in surveys):
        return
    files = ", ".join(str(path) for path in paths)
    instrument, period = wanted.instrument, wanted.period
    if period is not None and not any(one.open or one.empty for one in surveys):
        covered = _covered(paths, replace(wanted, period=None))
        if covered is not None:
            raise InvalidInput(
                f"no row of {instrument} in {period}: {files} covers {covered}, not necessarily "
                f"without gaps; give --start and --end inside, or leave them out"
            )
    if any(one.others for one in surveys):
        raise InvalidInput(
            f"no row of {instrument} in {files}: all are of other instruments, like "
            f"{_held(paths, instrument)}; check market_id and symbol"
        )


def _held(paths: Sequence[Path], instrument: Instrument) -> str:
    """An instrument that files hold, as far as they name it."""
    for stream in streams(paths, instrument):
        for _, batch in stream.read(None):
            if batch.num_rows:
                first = batch.slice(0, 1).to_pylist()[0]
                market_id = first.get("market_id", instrument.market_id)
                return f"{market_id}:{first.get('symbol', instrument.symbol)}"
    return "none"


def _covered(paths: Sequence[Path], wanted: Wanted) -> Period | None:
    """From the first candle of the files to the end of the last one, None when there is none."""
    bounds: list[int] = []
    for stream in streams(paths, wanted.instrument):
        for first_row, batch in stream.read(None):
            table = chosen(stream.name, first_row, batch, wanted).table
            if table.num_rows:
                times = opens_ms(table)
                bounds += [int(times.min()), int(times.max()) + MINUTE_MS]
    return Period(min(bounds), max(bounds)) if bounds else None


def opens_ms(table: pa.Table) -> Any:
    """Opens in milliseconds."""
    return table.column("ts_open").cast(pa.int64()).to_numpy()
