"""Batches: all spans once and in order, about as long as asked for."""

from __future__ import annotations

from hypothesis import given
from hypothesis import strategies as st

from cluster.batches import TASK_SECONDS, Batches
from compute.executor import Span
from tests.cluster.problems import spans_of


@given(
    count=st.integers(0, 60),
    slots=st.integers(0, 9),
    position_seconds=st.floats(0, 1),
    costs=st.lists(st.floats(0, 5), max_size=60),
)
def test_every_span_is_taken_once_and_in_order(
    count: int, slots: int, position_seconds: float, costs: list[float]
) -> None:
    spans = spans_of(10 * count, count)
    batches = Batches(spans, position_seconds, slots)
    taken: list[Span] = []
    while batch := batches.take():
        taken += batch
        if costs:
            batches.learn(10 * len(batch), costs.pop())
    assert taken == spans


def sizes(batches: Batches) -> list[int]:
    found: list[int] = []
    while batch := batches.take():
        found.append(len(batch))
    return found


def test_long_spans_go_alone() -> None:
    assert sizes(Batches(spans_of(80, 8), TASK_SECONDS / 10, 2)) == [1] * 8


def test_short_spans_are_shared_out_among_the_slots_and_thin_out_at_the_end() -> None:
    assert sizes(Batches(spans_of(320, 32), 1e-9, 4)) == [8, 6, 5, 4, 3, 2, 1, 1, 1, 1]


def test_a_batch_is_as_long_as_measured_times_allow() -> None:
    batches = Batches(spans_of(1000, 1000), TASK_SECONDS / 10.5, 1)
    assert len(batches.take()) == 10  # the model's guess
    batches.learn(10, 10 * TASK_SECONDS / 40.5)
    assert len(batches.take()) == 40  # the first measurement replaces it
    batches.learn(40, 40 * TASK_SECONDS * (2 / 20.5 - 1 / 40.5))
    assert len(batches.take()) == 20  # later ones are averaged with what was known
