"""The tracker of minutes against the plain meaning of gap, duplicate and late."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.live.tracker import DUPLICATE, EARLY, LATE, NEXT, Arrival, Tracker
from ingest.rows import MINUTE_MS

ONE = Instrument(1, "AUSDT")
TWO = Instrument(3, "AUSDT")


def minute(number: int) -> int:
    return 1_700_000_040_000 + number * MINUTE_MS


def test_first_next_duplicate_late_gap() -> None:
    tracker = Tracker()
    assert tracker.arrival(ONE, minute(0)) == NEXT
    assert tracker.arrival(ONE, minute(1)) == NEXT
    assert tracker.arrival(ONE, minute(1)) == DUPLICATE
    assert tracker.arrival(ONE, minute(0)) == LATE
    assert tracker.arrival(ONE, minute(5)) == Arrival("next", Period(minute(2), minute(5)))
    assert tracker.arrival(TWO, minute(9)) == NEXT  # instruments do not mix
    assert tracker.last_ms(ONE) == minute(5)


def test_a_minute_between_tail_fill_and_subscription_is_a_gap() -> None:
    tracker = Tracker()
    tracker.expect([ONE], minute(3))  # the fill ends before minute 3
    assert tracker.arrival(ONE, minute(4)) == Arrival("next", Period(minute(3), minute(4)))
    assert tracker.arrival(ONE, minute(5)) == NEXT


def test_what_a_tail_fill_fetches_is_no_gap() -> None:
    tracker = Tracker()
    tracker.arrival(ONE, minute(0))
    tracker.expect([ONE], minute(8))
    assert tracker.arrival(ONE, minute(8)) == NEXT


def test_a_fast_clock_leaves_the_tracker_seeing() -> None:
    tracker = Tracker()
    tracker.expect([ONE], minute(10))  # our clock is ahead: those minutes have not been yet
    assert tracker.arrival(ONE, minute(5)) == EARLY
    assert tracker.arrival(ONE, minute(7)) == Arrival("next", Period(minute(6), minute(7)))


def test_a_minute_that_a_tail_fill_was_to_fetch_is_early_once() -> None:
    tracker = Tracker()
    tracker.arrival(ONE, minute(0))
    tracker.expect([ONE], minute(8))
    assert tracker.arrival(ONE, minute(7)) == EARLY  # it closed after our look at the clock
    assert tracker.arrival(ONE, minute(8)) == NEXT


def test_a_late_candle_does_not_use_up_what_is_expected() -> None:
    tracker = Tracker()
    tracker.arrival(ONE, minute(4))
    tracker.expect([ONE], minute(6))
    assert tracker.arrival(ONE, minute(2)) == LATE
    assert tracker.arrival(ONE, minute(7)) == Arrival("next", Period(minute(6), minute(7)))


def test_a_forgotten_instrument_begins_anew() -> None:
    tracker = Tracker()
    tracker.arrival(ONE, minute(0))
    tracker.forget([ONE])
    assert tracker.last_ms(ONE) is None
    assert tracker.arrival(ONE, minute(50)) == NEXT


@given(st.lists(st.integers(0, 40), max_size=60))
def test_gaps_and_arrivals_together_are_every_minute_up_to_the_newest(order: list[int]) -> None:
    tracker = Tracker()
    covered: list[int] = []
    for number in order:
        arrival = tracker.arrival(ONE, minute(number))
        if arrival.kind == "next":
            covered.append(number)
        if arrival.gap is not None:
            covered += [
                (at - minute(0)) // MINUTE_MS
                for at in range(arrival.gap.start_ms, arrival.gap.end_ms, MINUTE_MS)
            ]
    if order:
        assert sorted(covered) == list(range(order[0], max(order) + 1))  # each exactly once
