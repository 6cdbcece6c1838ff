"""Catching up over REST: from the last stored minute to now, then the holes before it."""

from __future__ import annotations

import asyncio
import logging
from collections.abc import Awaitable, Callable, Sequence
from dataclasses import dataclass
from typing import Literal

from compute.errors import RoehubError
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest import gaps
from ingest.errors import NoSeed
from ingest.fetching import Fetcher, Filled
from ingest.progress import Progress, Say, silent
from ingest.rows import MINUTE_MS

Status = Literal["ok", "failed", "skipped_no_seed"]

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class CatchUpReport:
    """What catching up with an instrument came to; bounds are None where there was nothing to do.

    `gap_ranges_filled` are the ranges, inside UTC days, that are complete now. `gap_minutes_left`
    were asked for in vain, `gap_minutes_absent` not asked for any more.
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


@dataclass(frozen=True, slots=True)
class Outcome:
    """How an instrument fared; `report` is None for one that failed."""

    instrument_id: Instrument
    status: Status
    error: str | None
    report: CatchUpReport | None


@dataclass(frozen=True, slots=True)
class CatchUpSummary:
    """All instruments of a pass; one without a seed counts as failed."""

    instruments_total: int
    instruments_ok: int
    instruments_failed: int
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
            f"`roehub ingest backfill-1m`, or fetch it all"
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
    filled = await _filled(fetcher, instrument, short, progress)
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
    return await fetcher.fill(instrument, period, progress=progress)


async def catch_up_all(
    fetcher: Fetcher,
    instruments: Sequence[Instrument],
    *,
    delay_s: float = 0.0,
    sleep: Callable[[float], Awaitable[None]] = asyncio.sleep,
    say: Say = silent,
) -> CatchUpSummary:
    """Catches up with one instrument after another, `delay_s` apart; a failure stops no other."""
    outcomes: list[Outcome] = []
    for number, instrument in enumerate(instruments):
        if number and delay_s > 0:
            await sleep(delay_s)
        outcomes.append(await _outcome(fetcher, instrument, say))
    ok = sum(one.status == "ok" for one in outcomes)
    return CatchUpSummary(len(outcomes), ok, len(outcomes) - ok, outcomes)


async def _outcome(fetcher: Fetcher, instrument: Instrument, say: Say) -> Outcome:
    try:
        report = await catch_up(fetcher, instrument, say=say)
    except NoSeed as error:
        return Outcome(instrument, "skipped_no_seed", error.message, None)
    except RoehubError as error:
        log.warning("%s was not caught up: %s", instrument, error)
        return Outcome(instrument, "failed", error.message, None)
    except Exception as error:
        log.exception("%s was not caught up", instrument)
        return Outcome(instrument, "failed", f"{type(error).__name__}: {error}", None)
    return Outcome(instrument, "ok", None, report)
