"""Catching up over REST: from the last stored minute to now, then the holes before it."""

from __future__ import annotations

import asyncio
import logging
from collections import Counter
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass, replace
from typing import Any, Literal

from compute.errors import RoehubError
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest import gaps
from ingest.errors import NoSeed, StoreUnavailable
from ingest.fetching import Fetcher, Filled, Run
from ingest.progress import Progress, Say, silent
from ingest.rows import MINUTE_MS, floor_day

Status = Literal["ok", "failed", "skipped_no_seed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CatchUpReport:
    """What catching up with an instrument came to; bounds are None where there was nothing to do.

    `gap_ranges_filled` are the ranges, inside UTC days, that are complete now. `gap_minutes_left`
    were asked for in vain, `gap_minutes_absent` not asked for any more. `history_rows_written`
    came before what was the first stored minute, where that was asked for.
    """

    instrument_id: Instrument
    tail_start_ms: int | None = None
    tail_end_ms: int | None = None
    tail_rows_read: int = 0
    tail_rows_written: int = 0
    tail_batches: int = 0
    gap_scan_start_ms: int | None = None
    gap_scan_end_ms: int | None = None
    gap_days_scanned: int = 0
    gap_days_with_gaps: int = 0
    gap_ranges_filled: int = 0
    gap_rows_read: int = 0
    gap_rows_written: int = 0
    gap_rows_skipped_existing: int = 0
    gap_batches: int = 0
    gap_minutes_left: int = 0
    gap_minutes_absent: int = 0
    history_rows_written: int = 0


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an instrument fared; `report` is None for one that failed."""

    instrument_id: Instrument
    status: Status
    error: str | None
    report: CatchUpReport | None


@dataclass(frozen=True, slots=True)
class CatchUpSummary:
    """All instruments of a pass; those without a stored candle were skipped, and did not fail."""

    instruments_total: int
    instruments_ok: int
    instruments_failed: int
    instruments_skipped_no_seed: int
    outcomes: list[Outcome]


async def catch_up(fetcher: Fetcher, instrument: Instrument, *, say: Say = silent) -> CatchUpReport:
    """Fetches the tail of an instrument and the gaps before it.

    Raises:
        NoSeed: not a minute of it is stored.
        ExchangeError: a request failed for good; what came before it is stored.
        StoreFailed: the store failed; what was stored stays.
    """
    end_ms = fetcher.closed_ms()
    bounds = await fetcher.run(fetcher.candles.bounds, instrument, end_ms)
    if bounds is None:
        raise NoSeed(
            f"{instrument} has no stored candle to go on from; load its history first with "
            f"`roehub ingest backfill-1m`, or fetch all of it with `rest-catchup --with-history`"
        )
    first_ms, last_ms = bounds
    tail_ms = last_ms + MINUTE_MS
    progress = Progress(f"catch up {instrument} minutes", 0, say)
    tail: Filled | None = None
    if tail_ms < end_ms:
        progress.expect((end_ms - tail_ms) // MINUTE_MS)
        tail = await fetcher.fill(instrument, Period(tail_ms, end_ms), progress=progress)
    scan = Period(first_ms, tail_ms)
    counts = await fetcher.run(fetcher.candles.day_counts, instrument, scan)
    short = gaps.short_days(counts, scan)
    there = sum(counts.get(floor_day(day.start_ms), 0) for day in short)
    progress.expect(gaps.minutes_in(short) - there)
    filled = await _filled(fetcher, instrument, short, progress)
    progress.finish()
    return CatchUpReport(
        instrument_id=instrument,
        tail_start_ms=tail_ms if tail else None,
        tail_end_ms=end_ms if tail else None,
        tail_rows_read=tail.rows_read if tail else 0,
        tail_rows_written=tail.rows_written if tail else 0,
        tail_batches=tail.batches_written if tail else 0,
        gap_scan_start_ms=scan.start_ms,
        gap_scan_end_ms=scan.end_ms,
        gap_days_scanned=gaps.days_of(scan),
        gap_days_with_gaps=len(short),
        gap_ranges_filled=filled.ranges_filled,
        gap_rows_read=filled.rows_read,
        gap_rows_written=filled.rows_written,
        gap_rows_skipped_existing=filled.rows_skipped_existing,
        gap_batches=filled.batches_written,
        gap_minutes_left=filled.minutes_left,
        gap_minutes_absent=filled.minutes_absent,
    )


async def _filled(
    fetcher: Fetcher, instrument: Instrument, short: Sequence[Period], progress: Progress
) -> Filled:
    """Fetches what is missing of the days that are short of minutes."""
    if not short:
        now_ms = fetcher.clock()
        return Filled(now_ms, now_ms)
    return await fetcher.fill(instrument, gaps.merged(short), as_gaps=True, progress=progress)


async def fetch_history(
    fetcher: Fetcher, instrument: Instrument, *, say: Say = silent
) -> Filled | None:
    """Fetches what the exchange has before the first stored minute, all of it when there is none;
    None when there is nothing before it. Errors as with `catch_up`.
    """
    start_ms = await fetcher.first_ms(instrument)
    end_ms = fetcher.closed_ms()
    bounds = await fetcher.run(fetcher.candles.bounds, instrument, end_ms)
    if bounds is not None:
        end_ms = bounds[0]
    if start_ms >= end_ms:
        return None
    period = Period(start_ms, end_ms)
    progress = Progress(f"history {instrument} minutes", period.duration_ms // MINUTE_MS, say)
    filled = await fetcher.fill(instrument, period, progress=progress)
    progress.finish()
    return filled


async def catch_up_whole(
    fetcher: Fetcher, instrument: Instrument, *, say: Say = silent
) -> CatchUpReport:
    """Fetches what lies before the first stored minute, then tail and gaps; errors as with
    `catch_up`. It needs no seed but for an instrument of which the exchange has nothing yet.
    """
    before = await fetch_history(fetcher, instrument, say=say)
    report = await catch_up(fetcher, instrument, say=say)
    return replace(report, history_rows_written=before.rows_written if before else 0)


async def refetch(
    fetcher: Fetcher,
    instrument: Instrument,
    *,
    start_ms: int | None = None,
    end_ms: int | None = None,
    say: Say = silent,
) -> CatchUpReport:
    """Fetches every minute again, stored or absent, as a newer version; from the first stored
    minute to now where no bounds are told. The report has it as gaps.

    Raises:
        NoSeed: there is no stored candle to begin from, and no start.
        InvalidInput: no minute of the range is closed.
        ExchangeError, StoreFailed: as with `catch_up`.
    """
    closed_ms = fetcher.closed_ms()
    if start_ms is None:
        bounds = await fetcher.run(fetcher.candles.bounds, instrument, closed_ms)
        if bounds is None:
            raise NoSeed(f"{instrument} has no stored candle to fetch again; name a --start")
        begin_ms = bounds[0]
    else:
        begin_ms = start_ms
    period = Period(begin_ms, closed_ms if end_ms is None else min(end_ms, closed_ms))
    total = period.duration_ms // MINUTE_MS
    progress = Progress(f"fetch {instrument} again, minutes", total, say)
    filled = await fetcher.fill(instrument, period, force=True, progress=progress)
    progress.finish()
    return CatchUpReport(
        instrument_id=instrument,
        gap_scan_start_ms=period.start_ms,
        gap_scan_end_ms=period.end_ms,
        gap_days_scanned=gaps.days_of(period),
        gap_ranges_filled=filled.ranges_filled,
        gap_rows_read=filled.rows_read,
        gap_rows_written=filled.rows_written,
        gap_rows_skipped_existing=filled.rows_skipped_existing,
        gap_batches=filled.batches_written,
        gap_minutes_left=filled.minutes_left,
    )


Work = Callable[[Instrument], Awaitable[CatchUpReport]]


async def catch_up_all(
    instruments: Sequence[Instrument],
    work: Work,
    *,
    at_once: int = 1,
    delay_s: float = 0.0,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    say: Say = silent,
) -> CatchUpSummary:
    """What the work came to for each instrument, in their order; a failure stops no other.

    `at_once` are worked on at one time; each of these places rests `delay_s` between two.
    """
    outcomes: dict[Instrument, Outcome] = {}
    waiting = list(reversed(instruments))
    progress = Progress("catch up instruments", len(instruments), say)

    async def place() -> None:
        while waiting:
            instrument = waiting.pop()
            outcomes[instrument] = await _outcome(instrument, work)
            progress.add(1)
            if waiting and delay_s > 0:
                await sleep(delay_s)

    async with asyncio.TaskGroup() as group:
        for _ in range(min(at_once, len(waiting))):
            group.create_task(place())
    progress.finish()
    ordered = [outcomes[instrument] for instrument in instruments]
    counts = Counter(one.status for one in ordered)
    return CatchUpSummary(
        len(ordered), counts["ok"], counts["failed"], counts["skipped_no_seed"], ordered
    )


def patient(
    run: Run,
    *,
    rests_s: Sequence[float] = (0.5, 1, 2, 5, 10, 20),
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    say: Say = silent,
) -> Run:
    """`run`, which calls again, after each of the rests, what found the store unavailable."""

    async def again(function: Callable[..., Any], *arguments: Any) -> Any:
        for rest_s in rests_s:
            try:
                return await run(function, *arguments)
            except StoreUnavailable as error:
                say(f"{error.message}; again in {rest_s:g} s")
                await sleep(rest_s)
        return await run(function, *arguments)

    return again


async def _outcome(instrument: Instrument, work: Work) -> Outcome:
    try:
        report = await work(instrument)
    except NoSeed as error:
        return Outcome(instrument, "skipped_no_seed", error.message, None)
    except RoehubError as error:
        return Outcome(instrument, "failed", error.message, None)
    except Exception as error:
        log.exception("%s was not caught up", instrument)
        return Outcome(instrument, "failed", f"{type(error).__name__}: {error}", None)
    return Outcome(instrument, "ok", None, report)
