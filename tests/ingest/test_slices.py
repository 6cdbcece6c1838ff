"""Slices cover their range, and nothing else, and end at midnights."""

from __future__ import annotations

from itertools import pairwise

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.errors import InvalidInput
from compute.market.period import Period
from ingest.rows import DAY_MS
from ingest.slices import days, slices

PERIODS = st.tuples(st.integers(0, 60 * DAY_MS), st.integers(1, 40 * DAY_MS)).map(
    lambda pair: Period(pair[0], pair[0] + pair[1])
)


def test_the_example_of_the_contract() -> None:
    period = Period.parse("2026-02-01T12:00Z", "2026-02-11T12:00Z")
    middle = Period.parse("2026-02-08T00:00Z", "2026-02-11T12:00Z")
    assert list(slices(period, 7)) == [Period(period.start_ms, middle.start_ms), middle]


@given(PERIODS, st.integers(1, 9))
def test_slices_cover_the_range_without_hole_or_overlap(period: Period, max_days: int) -> None:
    parts = list(slices(period, max_days))
    assert parts[0].start_ms == period.start_ms
    assert parts[-1].end_ms == period.end_ms
    for before, after in pairwise(parts):
        assert before.end_ms == after.start_ms
        assert before.end_ms % DAY_MS == 0
    assert all(len(list(days(part))) <= max_days for part in parts)
    # No fewer days than allowed are taken, but for the last slice.
    assert all(len(list(days(part))) == max_days for part in parts[:-1])


def test_a_slice_of_no_days_is_refused() -> None:
    with pytest.raises(InvalidInput, match="at least one day"):
        list(slices(Period(0, 1), 0))
