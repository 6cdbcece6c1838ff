"""The gap ledger: what overlaps, what is left to fetch, and that the store keeps it."""

from __future__ import annotations

import itertools

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.rows import DAY_MS, MINUTE_MS
from ingest.stores.clickhouse import ClickHouse
from ingest.stores.gaps import (
    EXCHANGE_ABSENT,
    FILLED,
    MISSING,
    STATES,
    Gap,
    GapLedger,
    uppermost,
)
from tests.ingest.stores.made import START_MS


@pytest.fixture(scope="module")
def ledger(either: ClickHouse) -> GapLedger:
    return GapLedger(either)


def minutes(first: int, stop: int) -> Period:
    return Period(START_MS + first * MINUTE_MS, START_MS + stop * MINUTE_MS)


def gap(first: int, stop: int, state: str = MISSING, at: int = 1, attempts: int = 0) -> Gap:
    return Gap(minutes(first, stop), state, attempts, updated_at_ms=at)


def test_what_is_recorded_comes_back(ledger: GapLedger) -> None:
    instrument = Instrument(1, "GAPUSDT")
    noted = Gap(minutes(30, 40), MISSING, 2, "timed out: 'x'\n\\", 1_700_000_000_123)
    absent = gap(50, 51, EXCHANGE_ABSENT, attempts=3)
    assert ledger.record(instrument, [noted, absent, gap(60, 61, FILLED)]) == 3
    assert ledger.gaps(instrument, minutes(0, 100)) == [noted, absent, gap(60, 61, FILLED)]
    assert ledger.absent(instrument, minutes(0, 100)) == [minutes(50, 51)]
    assert ledger.gaps(instrument, minutes(0, 30)) == []
    assert ledger.gaps(instrument, minutes(35, 36))[0].period == minutes(35, 36)
    assert ledger.gaps(Instrument(2, "GAPUSDT"), minutes(0, 100)) == []
    assert ledger.record(instrument, []) == 0


def test_the_newest_record_of_a_range_counts(ledger: GapLedger) -> None:
    instrument = Instrument(3, "AGAINUSDT")
    ledger.record(instrument, [gap(0, 10, at=5, attempts=1)])
    ledger.record(instrument, [gap(0, 10, EXCHANGE_ABSENT, at=7, attempts=2)])
    ledger.record(instrument, [gap(0, 10, at=6, attempts=9)])
    assert ledger.gaps(instrument, minutes(0, 10)) == [
        gap(0, 10, EXCHANGE_ABSENT, at=7, attempts=2)
    ]


def test_a_long_gap_is_a_row_a_day(ledger: GapLedger) -> None:
    instrument = Instrument(1, "DAYSUSDT")
    assert ledger.record(instrument, [gap(1430, 4321)]) == 4
    cut = [gap(1430, 1440), gap(1440, 2880), gap(2880, 4320), gap(4320, 4321)]
    assert ledger.gaps(instrument, minutes(0, 9999)) == cut
    assert ledger.gaps(instrument, minutes(2879, 2881)) == [gap(2879, 2880), gap(2880, 2881)]
    everything = Period(-62_135_596_800_000, 253_402_300_800_000)
    assert ledger.gaps(instrument, everything) == cut


def test_minutes_wanted_after_all_are_absent_no_longer(ledger: GapLedger) -> None:
    instrument = Instrument(4, "FETCHUSDT")
    ledger.record(
        instrument,
        [gap(10, 20, EXCHANGE_ABSENT), gap(50, 60, EXCHANGE_ABSENT), gap(70, 71, FILLED)],
    )
    assert ledger.absent(instrument, minutes(0, 100)) == [minutes(10, 20), minutes(50, 60)]
    ledger.record(instrument, [gap(12, 14, at=2)])
    assert ledger.absent(instrument, minutes(0, 30)) == [minutes(10, 12), minutes(14, 20)]


def test_another_state_is_refused() -> None:
    with pytest.raises(InvalidInput, match="none of missing, exchange_absent, filled"):
        gap(0, 1, "lost")
    with pytest.raises(InvalidInput, match="attempts"):
        gap(0, 1, attempts=-1)


spans = st.tuples(st.integers(0, 40), st.integers(1, 20)).map(lambda s: (s[0], s[0] + s[1]))
gaps = st.lists(
    st.builds(
        lambda span, state, at: gap(span[0], span[1], state, at),
        spans,
        st.sampled_from(STATES),
        st.integers(1, 5),
    ),
    max_size=8,
)


@given(gaps)
def test_uppermost_paints_minutes_by_age(recorded: list[Gap]) -> None:
    painted: dict[int, tuple[int, int]] = {}
    for one in recorded:
        rank = (one.updated_at_ms, -STATES.index(one.state))
        for ms in range(one.period.start_ms, one.period.end_ms, MINUTE_MS):
            painted[ms] = max(painted.get(ms, (0, 0)), rank)
    found = uppermost(recorded)
    ends = [(one.period.start_ms, one.period.end_ms) for one in found]
    assert all(before[1] <= after[0] for before, after in itertools.pairwise(ends))
    assert {
        ms: (one.updated_at_ms, -STATES.index(one.state))
        for one in found
        for ms in range(one.period.start_ms, one.period.end_ms, MINUTE_MS)
    } == painted


def test_pieces_of_two_days_stay_two() -> None:
    midnight = START_MS + DAY_MS
    day = [
        Gap(Period(midnight - MINUTE_MS, midnight)),
        Gap(Period(midnight, midnight + MINUTE_MS)),
    ]
    assert uppermost(day) == day
