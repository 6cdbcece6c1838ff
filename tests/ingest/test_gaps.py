"""Ranges against sets of minutes: every operation is what it would be minute by minute."""

from __future__ import annotations

from collections.abc import Iterable
from itertools import pairwise

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compute.market.period import Period
from ingest import gaps
from ingest.rows import DAY_MS, MINUTE_MS

T0 = 20_000 * DAY_MS
MINUTES = st.integers(0, 3_000)
RANGES = st.lists(
    st.tuples(MINUTES, st.integers(1, 900)).map(lambda p: span(p[0], p[0] + p[1])), max_size=8
)
SETS = st.sets(MINUTES, max_size=60)


def span(first: int, stop: int) -> Period:
    return Period(T0 + first * MINUTE_MS, T0 + stop * MINUTE_MS)


def minutes_of(ranges: Iterable[Period]) -> list[int]:
    return [m for r in ranges for m in range(r.start_ms, r.end_ms, MINUTE_MS)]


def array(minutes: Iterable[int]) -> np.ndarray:
    return np.array(sorted(T0 + m * MINUTE_MS for m in minutes), np.int64)


def assert_apart(ranges: list[Period]) -> None:
    """Ascending, and a minute at least between neighbours."""
    assert all(a.end_ms < b.start_ms for a, b in pairwise(ranges))


@given(RANGES, RANGES)
def test_ranges_overlap_that_have_a_minute_in_common(
    ranges: list[Period], others: list[Period]
) -> None:
    for one, other in zip(ranges, others, strict=False):
        common = set(minutes_of([one])) & set(minutes_of([other]))
        assert gaps.overlap(one, other) == bool(common)


@given(RANGES)
def test_merged_is_the_union(ranges: list[Period]) -> None:
    found = gaps.merged(ranges)
    assert_apart(found)
    assert minutes_of(found) == sorted(set(minutes_of(ranges)))
    assert gaps.minutes_in(found) == len(set(minutes_of(ranges)))


@given(RANGES, RANGES)
def test_without_is_the_difference(ranges: list[Period], taken: list[Period]) -> None:
    found = gaps.without(ranges, taken)
    assert_apart(found)
    assert minutes_of(found) == sorted(set(minutes_of(ranges)) - set(minutes_of(taken)))


@given(RANGES, MINUTES, st.integers(1, 900))
def test_within_is_the_intersection(ranges: list[Period], first: int, length: int) -> None:
    period = span(first, first + length)
    found = gaps.within(ranges, period)
    assert_apart(found)
    assert minutes_of(found) == sorted(set(minutes_of(ranges)) & set(minutes_of([period])))


@given(SETS)
def test_runs_are_the_minutes(minutes: set[int]) -> None:
    found = gaps.runs(array([*minutes]))
    assert_apart(found)
    assert minutes_of(found) == array(minutes).tolist()


@given(SETS, MINUTES, st.integers(1, 3_000))
def test_missing_and_present_make_the_period(minutes: set[int], first: int, length: int) -> None:
    period = span(first, first + length)
    absent = gaps.missing(array(minutes), period)
    assert_apart(absent)
    here = set(array(minutes).tolist()) & set(minutes_of([period]))
    assert sorted([*minutes_of(absent), *here]) == minutes_of([period])


@given(RANGES)
def test_parts_between_midnights_are_the_ranges(ranges: list[Period]) -> None:
    parts = gaps.cut_at_midnights(gaps.merged(ranges))
    assert minutes_of(parts) == minutes_of(gaps.merged(ranges))
    assert all(p.start_ms // DAY_MS == (p.end_ms - 1) // DAY_MS for p in parts)


@given(RANGES, st.integers(1, 1_500))
def test_groups_fit_a_window_and_lose_nothing(ranges: list[Period], window: int) -> None:
    apart = gaps.merged(ranges)
    groups = gaps.grouped(apart, window)
    assert [one for group in groups for one in group] == apart
    for group in groups:
        width = (group[-1].end_ms - group[0].start_ms) // MINUTE_MS
        assert len(group) == 1 or width <= window


@given(SETS, MINUTES, st.integers(1, 3_000))
def test_short_days_are_the_days_with_a_missing_minute(
    minutes: set[int], first: int, length: int
) -> None:
    period = span(first, first + length)
    inside = [m for m in array(minutes).tolist() if period.start_ms <= m < period.end_ms]
    counts: dict[int, int] = {}
    for minute in inside:
        day = minute // DAY_MS * DAY_MS
        counts[day] = counts.get(day, 0) + 1
    short = gaps.short_days(counts, period)
    absent = set(minutes_of([period])) - set(inside)
    assert {d.start_ms // DAY_MS for d in short} == {m // DAY_MS for m in absent}
    assert gaps.days_of(period) == len({m // DAY_MS for m in minutes_of([period])})


def test_minutes_belong_to_a_period_by_their_open() -> None:
    assert gaps.whole_minutes(Period(T0 + 1, T0 + 2)) is None
    assert gaps.whole_minutes(Period(T0 + 1, T0 + MINUTE_MS + 1)) == span(1, 2)
    assert gaps.whole_minutes(Period(T0, T0 + 1)) == span(0, 1)
