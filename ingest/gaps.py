"""Arithmetic of ranges of minutes: runs, unions, differences. Nothing here asks a store.

Ranges are half-open periods on whole minutes; results ascend and never overlap.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence

import numpy as np
from numpy.typing import NDArray

from compute.market.period import Period
from ingest.rows import DAY_MS, MINUTE_MS, floor_day
from ingest.slices import days


def whole_minutes(period: Period) -> Period | None:
    """The range of the minutes that open in `period`, None when none does."""
    start_ms = -(-period.start_ms // MINUTE_MS) * MINUTE_MS
    end_ms = -(-period.end_ms // MINUTE_MS) * MINUTE_MS
    return Period(start_ms, end_ms) if start_ms < end_ms else None


def minutes_in(ranges: Iterable[Period]) -> int:
    """Number of minutes in ranges that do not overlap."""
    return sum(one.duration_ms for one in ranges) // MINUTE_MS


def overlap(one: Period, other: Period) -> bool:
    """Whether two ranges have a minute in common."""
    return one.start_ms < other.end_ms and other.start_ms < one.end_ms


def merged(ranges: Iterable[Period]) -> list[Period]:
    """The union of ranges in any order: those that touch or overlap become one."""
    found: list[Period] = []
    for one in sorted(ranges, key=lambda r: r.start_ms):
        if found and one.start_ms <= found[-1].end_ms:
            end_ms = max(found[-1].end_ms, one.end_ms)
            found[-1] = Period(found[-1].start_ms, end_ms)
        else:
            found.append(one)
    return found


def cut_at_midnights(ranges: Iterable[Period]) -> list[Period]:
    """The ranges, each in parts that lie in one UTC day."""
    return [part for one in ranges for part in days(one)]


def runs(minutes: NDArray[np.int64]) -> list[Period]:
    """Ranges of minutes that follow one another; `minutes` ascend, repeats do not matter."""
    if len(minutes) == 0:
        return []
    breaks = np.flatnonzero(np.diff(minutes) > MINUTE_MS)
    firsts = minutes[np.append(0, breaks + 1)]
    lasts = minutes[np.append(breaks, len(minutes) - 1)]
    return [Period(int(a), int(b) + MINUTE_MS) for a, b in zip(firsts, lasts, strict=True)]


def missing(minutes: NDArray[np.int64], period: Period) -> list[Period]:
    """What the ascending `minutes` leave of a period that is made of whole minutes."""
    first, stop = np.searchsorted(minutes, (period.start_ms, period.end_ms))
    inside = minutes[first:stop]
    edges = np.concatenate(([period.start_ms - MINUTE_MS], inside, [period.end_ms]))
    jumps = np.flatnonzero(np.diff(edges) > MINUTE_MS)
    return [Period(int(edges[at]) + MINUTE_MS, int(edges[at + 1])) for at in jumps]


def without(ranges: Iterable[Period], taken: Iterable[Period]) -> list[Period]:
    """The union of `ranges` less every minute of `taken`."""
    holes = merged(taken)
    left: list[Period] = []
    at = 0
    for one in merged(ranges):
        start_ms = one.start_ms
        while at < len(holes) and holes[at].end_ms <= start_ms:
            at += 1
        ahead = at
        while ahead < len(holes) and holes[ahead].start_ms < one.end_ms:
            if holes[ahead].start_ms > start_ms:
                left.append(Period(start_ms, holes[ahead].start_ms))
            start_ms = max(start_ms, holes[ahead].end_ms)
            ahead += 1
        if start_ms < one.end_ms:
            left.append(Period(start_ms, one.end_ms))
    return left


def within(ranges: Iterable[Period], period: Period) -> list[Period]:
    """The parts of the ranges that lie in `period`."""
    cut: list[Period] = []
    for one in merged(ranges):
        start_ms, end_ms = max(one.start_ms, period.start_ms), min(one.end_ms, period.end_ms)
        if start_ms < end_ms:
            cut.append(Period(start_ms, end_ms))
    return cut


def grouped(ranges: Sequence[Period], span_minutes: int) -> list[list[Period]]:
    """The ascending ranges in groups that one window of `span_minutes` covers.

    A range that is longer than the window is a group of its own. So many small gaps close
    together cost one request, and minutes between them are fetched in vain, but never a page.
    """
    groups: list[list[Period]] = []
    for one in ranges:
        if groups and one.end_ms - groups[-1][0].start_ms <= span_minutes * MINUTE_MS:
            groups[-1].append(one)
        else:
            groups.append([one])
    return groups


def short_days(counts: Mapping[int, int], period: Period) -> list[Period]:
    """The days of `period`, edge days cut to it, that have fewer minutes than there should be.

    `counts` holds minutes by UTC midnight as counted inside the period; a day that is not in it
    has none.
    """
    return [
        day
        for day in days(period)
        if counts.get(floor_day(day.start_ms), 0) < day.duration_ms // MINUTE_MS
    ]


def days_of(period: Period) -> int:
    """Number of UTC days that `period` touches."""
    return (floor_day(period.end_ms - 1) - floor_day(period.start_ms)) // DAY_MS + 1
