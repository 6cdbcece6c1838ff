"""Long ranges in slices that end at UTC midnights."""

from __future__ import annotations

from collections.abc import Iterator

from compute.errors import InvalidInput
from compute.market.period import Period
from ingest.rows import DAY_MS, floor_day


def slices(period: Period, max_days: int) -> Iterator[Period]:
    """`period` in order, without hole or overlap, in slices of `max_days` UTC days at most.

    A slice ends `max_days` days after the midnight before its start, the last one at the period's
    end; so every inner border is a UTC midnight.

    Raises:
        InvalidInput: `max_days` is not positive.
    """
    if max_days < 1:
        raise InvalidInput(f"slices need at least one day, got max_days {max_days}")
    start_ms = period.start_ms
    while start_ms < period.end_ms:
        end_ms = min(period.end_ms, floor_day(start_ms) + max_days * DAY_MS)
        yield Period(start_ms, end_ms)
        start_ms = end_ms


def days(period: Period) -> Iterator[Period]:
    """The parts of `period` that lie in one UTC day each, in order."""
    return slices(period, 1)
