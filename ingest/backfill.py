"""Backfill: candle files into the store, streamed by column.

Every file is read twice. First all of them are only looked at: a file with a row that is no candle
is refused with the numbers of such rows before anything is written. Then, one after the other,
their rows go to the store, `batch_rows` an insert. Rows in order flow through; rows out of order
are first put into buckets of a quarter of a year on disk, so memory does not grow with the file in
either case. Of several rows of a minute the last one in the file counts.

Nothing is read back: a second run writes the same rows again, as newer versions of the same
minutes. So a run that was killed is simply run again.
"""

from __future__ import annotations

import tempfile
from collections.abc import Callable, Iterable, Iterator, Sequence
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Final, Self

import numpy as np
import pyarrow as pa

from compute.errors import InvalidCandles, InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.buckets import Buckets
from ingest.candle_streams import Stream, streams
from ingest.file_rows import ROW_SCHEMA, Chosen, Wanted, chosen, stamped
from ingest.progress import Progress, silent
from ingest.rows import MINUTE_MS, SYNTHETIC, Origin, floor_minute
from ingest.signals import Check, unchecked
from ingest.stores.candles import CandleStore
from ingest.stores.versions import newer_ms
from ingest.surveys import Survey, opens_ms, refuse_nothing, survey

BATCH_ROWS: Final = 65_536

Clock = Callable[[], int]


@dataclass(frozen=True, slots=True)
class BackfillReport:
    """What a backfill did; counts are rows of files.

    `candles_read` are the rows that were meant: of the instrument, in the range, closed. Of them
    `rows_written` went to the store, `rows_repeated` gave way to a later row of their minute
    in the same file; a minute of two files is written by both, and the later one counts.
    Passed over were `rows_of_others`, `rows_outside` the range, `rows_not_closed` and `rows_empty`
    (a minute declared missing). Of those read, `rows_unnamed` are of files without a symbol, taken
    for the instrument's at their giver's word. `synthetic_files` say of themselves that a generator
    made them; their candles are stored as such. `time_range` is the one asked for, else from the
    first candle to the end of the last one.
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
    rows_unnamed: int
    synthetic_files: int


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
    check: Check = unchecked,
) -> BackfillReport:
    """What was read from files and directories and stored; None as `batch_rows` is no limit.

    `check` is called between batches and may raise to stop it there.

    Raises:
        InvalidCandles: a file that cannot be read or holds a row that is no candle; nothing was
            stored, unless it has changed since it was looked at, and then the message says so.
        InvalidInput: nothing is to be read, or the files hold nothing of it: other instruments, or
            other times than `period`.
        StoreFailed: the store takes no more; what was written stays.
    """
    if batch_rows is not None and batch_rows < 1:
        raise InvalidInput(f"batch size must be > 0, got {batch_rows}")
    if not paths:
        raise InvalidInput("no candle file was named; name files or directories")
    started_ms = clock()
    wanted = Wanted(instrument, period, floor_minute(started_ms), naive_is_utc)
    version_ms = newer_ms(store.db, instrument, period, started_ms)
    progress = Progress(f"backfill {instrument} rows", 0, say)
    looked_at = _looked_at(paths, wanted, say, check)
    surveys = [found for _, found in looked_at]
    refuse_nothing(surveys, paths, wanted)
    progress.expect(sum(found.read for found in surveys))
    with _Writer(store, progress) as writer:
        for number, (stream, found) in enumerate(looked_at):
            if found.synthetic and found.read:
                say(f"WARNING: {stream.name} holds SYNTHETIC candles; they are stored as such")
            origin = Origin(SYNTHETIC if found.synthetic else "file", version_ms)
            try:
                for table in _batches(_unique(stream, wanted, found.ascending), batch_rows):
                    check()
                    writer.write(stamped(table, instrument, origin))
            except InvalidCandles as error:
                raise _halfway(error, number, len(looked_at)) from error
    progress.finish()
    if unnamed := [one.name for one in surveys if one.read and one.nameless]:
        say(
            f"WARNING: {_shown(unnamed)} has no column symbol: its candles were taken for "
            f"{instrument}, whatever they are; with that column, and market_id, they would have "
            f"been compared with it"
        )
    return _report(instrument, period, surveys, writer.rows, writer.batches, started_ms, clock())


def _looked_at(
    paths: Sequence[Path], wanted: Wanted, say: Callable[[str], None], check: Check
) -> list[tuple[Stream, Survey]]:
    """Every file, and what a first look at it found. Raises: InvalidCandles."""
    progress = Progress("look at files", None, say)
    found: list[tuple[Stream, Survey]] = []
    try:
        for stream in streams(paths, wanted.instrument):
            found.append((stream, survey(stream, wanted, check)))
            progress.add(1)
    except InvalidCandles as error:
        if not found:
            raise
        told = f"{error.message}; of the files before it nothing was stored either"
        raise InvalidCandles(told, rows=error.rows) from error
    return found


def _halfway(error: InvalidCandles, before: int, files: int) -> InvalidCandles:
    """The refusal of a file that was good when it was looked at."""
    return InvalidCandles(
        f"{error.message}; it has changed since it was looked at. Of {files} files {before} are "
        f"stored whole, and of this one perhaps some rows; they stay, and loading all of it again "
        f"is safe: nothing is stored twice",
        rows=error.rows,
    )


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
    surveys: Sequence[Survey],
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
        rows_unnamed=sum(one.read for one in surveys if one.nameless),
        synthetic_files=sum(one.synthetic for one in surveys),
    )


def _shown(names: Sequence[str]) -> str:
    more = len(names) - 1
    return names[0] if not more else f"{names[0]} (and so {more} more)"


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
            f"{stream.name}: {stream.places([batch.faults[0].row])[0]}: {batch.faults[0].reason}",
            rows=[fault.row for fault in batch.faults],
        )
    return batch.table


def _last_of_minute(tables: Iterable[pa.Table]) -> Iterator[pa.Table]:
    """The rows of ascending tables without those that a later row of their minute follows."""
    held: pa.Table | None = None  # the last row so far: the next table may have its minute again
    for table in tables:
        if not table.num_rows:
            continue
        times = opens_ms(table)
        if held is not None and opens_ms(held)[0] != times[0]:
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
