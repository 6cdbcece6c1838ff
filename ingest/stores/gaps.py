"""The gap ledger: what is known of minutes that are not stored.

A record speaks for a half-open range of one instrument; where ranges overlap, the newest record of
a minute counts. `exchange_absent` ends the asking, so that a hole of the exchange is not fetched
for ever.
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from itertools import pairwise
from typing import Final

import pyarrow as pa

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.gaps import cut_at_midnights
from ingest.rows import DAY_MS, FIRST_STORED_MS, LAST_STORED_MS, TIME
from ingest.stores.clickhouse import ClickHouse

MISSING: Final = "missing"
FILLED: Final = "filled"
EXCHANGE_ABSENT: Final = "exchange_absent"
STATES: Final = (MISSING, EXCHANGE_ABSENT, FILLED)


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of minutes that were missing, and what became of them.

    Raises:
        InvalidInput: another state, or a negative number of attempts.
    """

    period: Period
    state: str = MISSING
    attempts: int = 0
    last_error: str | None = None
    updated_at_ms: int = 0

    def __post_init__(self) -> None:
        if self.state not in STATES:
            raise InvalidInput(f"gap state {self.state!r} is none of {', '.join(STATES)}")
        if self.attempts < 0:
            raise InvalidInput(f"attempts of a gap must be >= 0, got {self.attempts}")


_SCHEMA: Final = pa.schema(
    [
        ("market_id", pa.uint16()),
        ("symbol", pa.string()),
        ("gap_start", TIME),
        ("gap_end", TIME),
        ("state", pa.string()),
        ("attempts", pa.uint32()),
        ("last_error", pa.string()),
        ("updated_at", TIME),
    ]
)


class GapLedger:
    """The gaps of a ClickHouse; any thread may use it."""

    def __init__(self, db: ClickHouse) -> None:
        self.db = db

    def record(self, instrument: Instrument, gaps: Sequence[Gap]) -> int:
        """Number of rows written: each gap as it is now, cut at UTC midnights."""
        records = [
            {
                "market_id": instrument.market_id,
                "symbol": instrument.symbol,
                "gap_start": part.start_ms,
                "gap_end": part.end_ms,
                "state": gap.state,
                "attempts": gap.attempts,
                "last_error": gap.last_error,
                "updated_at": gap.updated_at_ms,
            }
            for gap in gaps
            for part in cut_at_midnights([gap.period])
        ]
        return self.db.insert("gap_ledger", pa.Table.from_pylist(records, schema=_SCHEMA))

    def gaps(self, instrument: Instrument, period: Period) -> list[Gap]:
        """What the ledger says of `period`: ranges inside it, ascending, none over another."""
        # A range ends within its day, so it starts less than a day before what it touches.
        start_ms, end_ms = (min(max(ms, FIRST_STORED_MS), LAST_STORED_MS) for ms in _edges(period))
        rows = self.db.rows(
            "SELECT toUnixTimestamp64Milli(gap_start), toUnixTimestamp64Milli(gap_end), "
            "toString(state), attempts, last_error, toUnixTimestamp64Milli(updated_at) "
            "FROM gap_ledger FINAL "
            "WHERE market_id = {market_id:UInt64} AND symbol = {symbol:String} "
            "AND gap_start > fromUnixTimestamp64Milli({reach_ms:Int64}, 'UTC') "
            "AND gap_start < fromUnixTimestamp64Milli({end_ms:Int64}, 'UTC') "
            "AND gap_end > fromUnixTimestamp64Milli({start_ms:Int64}, 'UTC') "
            "ORDER BY gap_start, gap_end",
            {
                "market_id": instrument.market_id,
                "symbol": instrument.symbol,
                "reach_ms": start_ms - DAY_MS,
                "start_ms": start_ms,
                "end_ms": end_ms,
            },
        )
        found = [
            Gap(Period(int(start), int(end)), state, int(attempts), error, int(updated))
            for start, end, state, attempts, error, updated in rows
        ]
        return [clipped for gap in uppermost(found) if (clipped := _clipped(gap, period))]

    def absent(self, instrument: Instrument, period: Period) -> list[Period]:
        """The ranges of `period` that the exchange does not have."""
        found = self.gaps(instrument, period)
        return [gap.period for gap in found if gap.state == EXCHANGE_ABSENT]


def uppermost(gaps: Iterable[Gap]) -> list[Gap]:
    """The gaps with overlaps resolved: of every minute the newest record, ascending, disjoint.

    Of records equally new the one that leaves more to do counts.
    """
    waiting = sorted(gaps, key=lambda gap: gap.period.start_ms)
    cuts = sorted({ms for gap in waiting for ms in _edges(gap.period)})
    live: list[tuple[int, int, int, int]] = []  # newest first, then by state, then the number
    found: list[Gap] = []
    at = 0
    for start_ms, end_ms in pairwise(cuts):
        while at < len(waiting) and waiting[at].period.start_ms <= start_ms:
            gap = waiting[at]
            rank = STATES.index(gap.state)
            heapq.heappush(live, (-gap.updated_at_ms, rank, -gap.period.start_ms, at))
            at += 1
        while live and waiting[live[0][3]].period.end_ms <= start_ms:
            heapq.heappop(live)
        if live:
            top = waiting[live[0][3]]
            last = found[-1] if found else None
            if last is not None and last.period.end_ms == start_ms and _same(last, top):
                found[-1] = replace(last, period=Period(last.period.start_ms, end_ms))
            else:
                found.append(replace(top, period=Period(start_ms, end_ms)))
    return found


def _same(one: Gap, other: Gap) -> bool:
    """Whether two neighbours are pieces of one record; two days' records are two."""
    if one.period.end_ms % DAY_MS == 0:
        return False
    return replace(one, period=other.period) == other


def _edges(period: Period) -> tuple[int, int]:
    return period.start_ms, period.end_ms


def _clipped(gap: Gap, period: Period) -> Gap | None:
    start_ms = max(gap.period.start_ms, period.start_ms)
    end_ms = min(gap.period.end_ms, period.end_ms)
    return replace(gap, period=Period(start_ms, end_ms)) if start_ms < end_ms else None
