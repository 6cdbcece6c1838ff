"""Candles out of the store: the minutes of a range, the rows they were made of, their gaps.

Rows are masked at once and removed when their parts merge (ClickHouse's lightweight `DELETE`): a
partition is a month of every instrument of an exchange, so dropping one would take others along.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, replace
from typing import Final

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest import gaps
from ingest.rows import DAY_MS, FIRST_STORED_MS, LAST_STORED_MS, floor_day
from ingest.signals import Check, unchecked
from ingest.stores.candles import CandleStore
from ingest.stores.gaps import GapLedger

EVER: Final = Period(FIRST_STORED_MS, LAST_STORED_MS)


@dataclass(frozen=True, slots=True)
class DeletionReport:
    """What a deletion removed, or would remove while it is not `deleted`.

    `time_range` is the one asked for, None for all there is. `candles` are minutes, from `first`
    to `last`; `raw_rows` are what they were made of, repeats included. `gap_minutes` are those
    that the gap ledger speaks of.
    """

    instrument_id: Instrument
    time_range: Period | None
    deleted: bool
    candles: int
    first_ms: int | None
    last_ms: int | None
    raw_rows: int
    gap_minutes: int

    @property
    def nothing(self) -> bool:
        """Whether there was nothing to delete."""
        return not (self.candles or self.raw_rows or self.gap_minutes)


def delete_candles(
    store: CandleStore,
    instrument: Instrument,
    period: Period | None,
    *,
    clock: Callable[[], int],
    dry: bool,
    check: Check = unchecked,
) -> DeletionReport:
    """Removes what the store has of the minutes that open in `period`; None is all of them.

    Afterwards they are as if they had never been stored nor asked for, and may be loaded or
    fetched again. Cut off in the middle, it is run again. A `dry` one only counts.
    `check` may raise before the deletion begins.

    Raises:
        StoreFailed: the store failed, or its user may not delete.
    """
    asked = EVER if period is None else period
    ledger = GapLedger(store.db)
    minutes = store.minutes(instrument, asked)
    report = DeletionReport(
        instrument_id=instrument,
        time_range=period,
        deleted=not dry,
        candles=len(minutes),
        first_ms=int(minutes[0]) if len(minutes) else None,
        last_ms=int(minutes[-1]) if len(minutes) else None,
        raw_rows=store.raw_count(instrument, asked),
        gap_minutes=gaps.minutes_in(gap.period for gap in ledger.gaps(instrument, asked)),
    )
    check()
    if report.nothing:
        return replace(report, deleted=False)
    if not dry:
        store.delete(instrument, asked)
        _forget(ledger, instrument, asked, clock())
    return report


def _forget(ledger: GapLedger, instrument: Instrument, period: Period, now_ms: int) -> None:
    """Takes a period out of the ledger. A record lies in one day: those of the edges are split."""
    start_ms = floor_day(max(period.start_ms, FIRST_STORED_MS))
    end_ms = min(floor_day(period.end_ms + DAY_MS - 1), LAST_STORED_MS)
    if start_ms >= end_ms:
        return
    days = Period(start_ms, end_ms)
    around = [
        replace(gap, period=part, updated_at_ms=max(now_ms, gap.updated_at_ms + 1))
        for gap in ledger.gaps(instrument, days)
        for part in gaps.without([gap.period], [period])
    ]
    ledger.db.command(
        "DELETE FROM gap_ledger WHERE market_id = {market_id:UInt64} AND symbol = {symbol:String} "
        "AND gap_start >= fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') "
        "AND gap_end <= fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC')",
        {
            "market_id": instrument.market_id,
            "symbol": instrument.symbol,
            "start_ms": days.start_ms,
            "end_ms": days.end_ms,
        },
    )
    if around:
        ledger.record(instrument, around)
