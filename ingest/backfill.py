"""Backfill: candle files into the store, streamed by column.

Every file is read twice. The first time it is only looked at: a file with a row that is no candle
is refused with the numbers of such rows before anything of it is written, and what was written of
the files before it stays. The second time its rows go to the store, `batch_rows` an insert. Rows
in order flow through; rows out of order are first put into buckets of a quarter of a year on disk,
so memory does not grow with the file in either case. Of several rows of a minute the last one in
the file counts.

Nothing is read back: a second run writes the same rows again, as newer versions of the same
minutes. So a run that was killed is simply run again.
"""

from __future__ import annotations

import math
import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final, Self

import numpy as np
import pyarrow as pa

from compute.errors import InvalidCandles, InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period, instant
from compute.market.timeframe import TIMEFRAMES
from ingest.archives import FRAME
from ingest.buckets import Buckets
from ingest.candle_files import ROWS_SHOWN
from ingest.candle_streams import Stream, streams
from ingest.file_rows import ROW_SCHEMA, Chosen, Wanted, chosen, stamped
from ingest.progress import Progress, silent
from ingest.rows import MINUTE_MS, Fault, Origin, floor_minute
from ingest.stores.candles import CandleStore
from ingest.stores.versions import newer_ms

BATCH_ROWS: Final = 65_536
_ROWS_THAT_TELL_A_FRAME: Final = 50

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """What a backfill did; counts are rows of files.

    `candles_read` are the rows that were meant: of the instrument, in the range, closed. Of them
    `rows_written` went to the store, `rows_repeated` gave way to a later row of their minute.
    Passed over were `rows_of_others`, `rows_outside` the range, `rows_not_closed` and `rows_empty`
    (a minute declared missing). `synthetic_files` say of themselves that a generator made them;
    the store does not keep that, so nothing that reads it can know. `time_range` is the one asked
    for, else from the first candle to the end of the last one.
    """

    instrument_id: Instrument
    time_range: Period | None
    started_at_ms: int
    finished_at_ms: int
    candles_read: int
    rows_written: int
    batches_written: int
    files: int
    rows_repeated: int
    rows_of_others: int
    rows_outside: int
    rows_not_closed: int
    rows_empty: int
    synthetic_files: int


@dataclass(slots=True)
class _Survey:
    """What a first look at a file found."""

    synthetic: bool = False
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
        self.others += batch.others
        self.outside += batch.outside
        self.open += batch.open
        self.empty += batch.empty
        self.fault_count += len(batch.faults)
        self.faults += batch.faults[: ROWS_SHOWN - len(self.faults)]
        self.read += batch.table.num_rows
        if batch.faults or not batch.table.num_rows:
            return
        times = _times(batch.table)
        before = times[:1] if self.previous_ms is None else [self.previous_ms]
        steps = np.diff(times, prepend=before)
        self.ascending &= bool((steps >= 0).all())
        self.spacing_ms = math.gcd(self.spacing_ms, int(np.gcd.reduce(steps)))
        self.previous_ms = int(times[-1])
        first_ms, last_ms = int(times.min()), int(times.max())
        self.first_ms = first_ms if self.first_ms is None else min(self.first_ms, first_ms)
        self.last_ms = last_ms if self.last_ms is None else max(self.last_ms, last_ms)


def backfill(
    store: CandleStore,
    instrument: Instrument,
    paths: Sequence[Path],
    *,
    clock: Clock,
    period: Period | None = None,
    batch_rows: int | None = BATCH_ROWS,
    naive_is_utc: bool = False,
    say: Callable[[str], None] = silent,
) -> BackfillReport:
    """What was read from files and directories and stored; None as `batch_rows` is no limit.

    Raises:
        InvalidCandles: a file that cannot be read or holds a row that is no candle; the rows of
            the files before it are stored, of this one there are none.
        InvalidInput: nothing is to be read, or files hold other instruments only.
        StoreFailed: the store takes no more; what was written stays.
    """
    if batch_rows is not None and batch_rows < 1:
        raise InvalidInput(f"batch size must be > 0, got {batch_rows}")
    if not paths:
        raise InvalidInput("no candle file was named; name files or directories")
    started_ms = clock()
    wanted = Wanted(instrument, period, floor_minute(started_ms), naive_is_utc)
    origin = Origin("file", newer_ms(store.db, instrument, period, started_ms))
    progress = Progress(f"backfill {instrument} rows", 0, say)
    surveys: list[_Survey] = []
    with _Writer(store, progress) as writer:
        for stream in streams(paths, instrument):
            survey = _surveyed(stream, wanted)
            surveys.append(survey)
            if survey.synthetic:
                say(
                    f"WARNING: {stream.name} holds SYNTHETIC candles; the store does not keep that "
                    f"label, so a back-test from it cannot show it"
                )
            progress.expect(survey.read)
            for table in _batches(_unique(stream, wanted, survey.ascending), batch_rows):
                writer.write(stamped(table, instrument, origin))
    if not any(one.read for one in surveys) and any(one.others for one in surveys):
        raise InvalidInput(
            f"no row of {instrument} in {', '.join(str(path) for path in paths)}: all are of other "
            f"instruments; check market_id and symbol"
        )
    return _report(instrument, period, surveys, writer.rows, writer.batches, started_ms, clock())


class _Writer:
    """Writes one batch while the next one is read; leaving it waits for the last one."""

    def __init__(self, store: CandleStore, progress: Progress) -> None:
        self.rows = 0
        self.batches = 0
        self._store = store
        self._progress = progress
        self._thread = ThreadPoolExecutor(1, "backfill")
        self._running: Future[int] | None = None

    def __enter__(self) -> Self:
        return self

    def __exit__(self, failed: type[BaseException] | None, *_: object) -> None:
        try:
            if failed is None:
                self._wait()
        finally:
            self._thread.shutdown()

    def write(self, table: pa.Table) -> None:
        """Hands a batch over, once the one before it is stored. Raises what that one raised."""
        self._wait()
        self._running = self._thread.submit(self._store.insert, table)

    def _wait(self) -> None:
        running, self._running = self._running, None
        if running is not None:
            rows = running.result()
            self.rows += rows
            self.batches += 1
            self._progress.add(rows)


def _report(
    instrument: Instrument,
    period: Period | None,
    surveys: Sequence[_Survey],
    rows: int,
    batches: int,
    started_ms: int,
    finished_ms: int,
) -> BackfillReport:
    firsts = [one.first_ms for one in surveys if one.first_ms is not None]
    lasts = [one.last_ms for one in surveys if one.last_ms is not None]
    found = Period(min(firsts), max(lasts) + MINUTE_MS) if firsts and lasts else None
    read = sum(one.read for one in surveys)
    return BackfillReport(
        instrument_id=instrument,
        time_range=period or found,
        started_at_ms=started_ms,
        finished_at_ms=finished_ms,
        candles_read=read,
        rows_written=rows,
        batches_written=batches,
        files=len(surveys),
        rows_repeated=read - rows,
        rows_of_others=sum(one.others for one in surveys),
        rows_outside=sum(one.outside for one in surveys),
        rows_not_closed=sum(one.open for one in surveys),
        rows_empty=sum(one.empty for one in surveys),
        synthetic_files=sum(one.synthetic for one in surveys),
    )


def _surveyed(stream: Stream, wanted: Wanted) -> _Survey:
    """A first look at a file. Raises: InvalidCandles, if it is not to be loaded."""
    if stream.labelled_frame not in (None, FRAME):
        raise InvalidCandles(
            f"{stream.name}: holds candles of {stream.labelled_frame} by its metadata; the store "
            f"takes {FRAME} only, longer bars are made of these"
        )
    survey = _Survey(synthetic=stream.synthetic)
    for first_row, batch in stream.read(wanted.period):
        survey.add(chosen(stream.name, first_row, batch, wanted))
    if survey.fault_count:
        shown = "; ".join(f"row {fault.row}: {fault.reason}" for fault in survey.faults)
        more = survey.fault_count - len(survey.faults)
        raise InvalidCandles(
            f"{stream.name}: {survey.fault_count} rows are no candles ({shown}"
            f"{f' and {more} more' if more else ''}); nothing of this file was stored: correct or "
            f"remove them",
            rows=[fault.row for fault in survey.faults],
        )
    frame = next((f for f in reversed(TIMEFRAMES.values()) if _fits(survey, f.ms)), None)
    if frame is not None:
        raise InvalidCandles(
            f"{stream.name}: its rows are {frame.code} apart, from {instant(survey.first_ms or 0)} "
            f"on; the store takes {FRAME} only, longer bars are made of these"
        )
    return survey


def _fits(survey: _Survey, frame_ms: int) -> bool:
    """Whether so many rows on a coarser grid can be no accident."""
    if frame_ms == MINUTE_MS or survey.read < _ROWS_THAT_TELL_A_FRAME:
        return False
    return survey.spacing_ms > 0 and survey.spacing_ms % frame_ms == 0


def _unique(stream: Stream, wanted: Wanted, ascending: bool) -> Iterator[pa.Table]:
    """The wanted rows of a file, ascending, each minute once."""
    found = (
        _still_whole(stream, chosen(stream.name, first_row, batch, wanted))
        for first_row, batch in stream.read(wanted.period)
    )
    if ascending:
        yield from _last_of_minute(found)
        return
    with tempfile.TemporaryDirectory(prefix="roehub-backfill-") as scratch:
        buckets = Buckets(Path(scratch), ROW_SCHEMA)
        for table in found:
            buckets.add(table)
        for table in buckets.ordered():
            yield from _last_of_minute([table])


def _still_whole(stream: Stream, batch: Chosen) -> pa.Table:
    """The rows of a file's second reading. Raises: InvalidCandles, for what the first had not."""
    if batch.faults:
        raise InvalidCandles(
            f"{stream.name}: changed while it was loaded: row {batch.faults[0].row}: "
            f"{batch.faults[0].reason}; load it again when nothing writes to it",
            rows=[fault.row for fault in batch.faults],
        )
    return batch.table


def _last_of_minute(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of ascending tables without those that a later row of their minute follows."""
    held: pa.Table | None = None  # the last row so far: the next table may have its minute again
    for table in tables:
        if not table.num_rows:
            continue
        times = _times(table)
        if held is not None and _times(held)[0] != times[0]:
            yield held
        last = np.append(times[1:] != times[:-1], False)
        held = table.slice(table.num_rows - 1)
        whole = int(np.count_nonzero(last)) == table.num_rows - 1
        yield table.slice(0, table.num_rows - 1) if whole else table.filter(pa.array(last))
    if held is not None:
        yield held


def _batches(tables: Iterable[pa.Table], rows: int | None) -> Iterator[pa.Table]:
    """The rows in tables of `rows`, the last one of the rest; None is one table."""
    waiting: list[pa.Table] = []
    count = 0
    for table in tables:
        waiting.append(table)
        count += table.num_rows
        while rows is not None and count >= rows:
            together = pa.concat_tables(waiting)
            yield together.slice(0, rows).combine_chunks()
            waiting = [together.slice(rows)]
            count -= rows
    if count:
        yield pa.concat_tables(waiting).combine_chunks()


def _times(table: pa.Table) -> Any:
    """Opens in milliseconds."""
    return table.column("ts_open").cast(pa.int64()).to_numpy()
