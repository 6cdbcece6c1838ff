"""Votes made on a card are those that the processor packs, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st
from numpy.typing import NDArray

import compute.cuda.packing
from compute.bits import words
from compute.cuda.card import SimulatedCard
from compute.cuda.executor import CudaExecutor
from compute.cuda.packing import CardPacker, pays
from compute.cuda.residence import Residence
from compute.executor import LocalExecutor
from compute.packing import Packer
from compute.rules import BETWEEN, FALLING, RISING, Side
from tests.cluster.problems import Problem, request
from tests.compute.cuda.simulated.counted import Counted

VALUES = st.sampled_from(
    [0.0, -0.0, 1.0, 1.5, -2.0, 3e38, -3e38, 1e-45, float("nan"), float("inf"), -float("inf")]
).map(np.float32)


def side(form: int, first: list[Any], second: list[Any] | None = None) -> Side:
    """Comparisons of one form: intervals from `first` to `second`, or lags."""
    count = len(first)
    none, lags = np.zeros(count, np.float32), np.ones(count, np.int64)
    low, high = none, none
    if second is None:
        lags = np.array(first, np.int64)
    else:
        low, high = np.array(first, np.float32), np.array(second, np.float32)
    return Side(form, np.arange(count, dtype=np.int32), low, high, lags, "value")


@st.composite
def cases(draw: st.DrawFn) -> tuple[list[tuple[Side, int]], NDArray[np.float32], int, int]:
    """(sides and their first planes, rows, start, stop)."""
    rows, bars = draw(st.integers(1, 3)), draw(st.integers(1, 192))
    some = draw(st.lists(VALUES, min_size=1, max_size=24))
    random = np.random.default_rng(draw(st.integers(0, 99)))
    table = np.array(some, np.float32)[random.integers(0, len(some), (rows, bars))]
    start = draw(st.integers(0, bars - 1))
    stop = draw(st.integers(start + 1, bars))
    counts = [draw(st.integers(1, 4)) for _ in range(2)]
    if draw(st.booleans()):
        ends = [
            sorted(draw(st.lists(VALUES.filter(np.isfinite), min_size=2 * n, max_size=2 * n)))
            for n in counts
        ]
        pair = [side(BETWEEN, end[: len(end) // 2], end[len(end) // 2 :]) for end in ends]
    else:
        lags = [sorted(draw(st.sets(st.integers(1, 100), min_size=n, max_size=n))) for n in counts]
        pair = [side(form, lag) for form, lag in zip((RISING, FALLING), lags, strict=True)]
    return [(pair[0], 0), (pair[1], 4 * counts[0])], table, start, stop


@settings(max_examples=60)
@given(case=cases(), threads=st.sampled_from([1, 3, 32]), word=st.integers(0, 1))
def test_planes_are_equal_to_the_bit(case: Any, threads: int, word: int) -> None:
    sides, rows, start, stop = case
    reference = np.zeros(1, np.float32)
    count = max(first + 4 * one.count for one, first in sides)
    here = np.full((count, word + words(stop - start)), 0xABCD, np.uint64)
    there = here.copy()
    Packer(sides).put(1, rows, start, stop, reference, 0, here, word)
    with Residence(SimulatedCard(threads=threads)) as residence:
        packer = CardPacker(sides, residence)
        packer.put(1, rows, start, stop, reference, 0, there, word)
    np.testing.assert_array_equal(there, here)


@pytest.mark.parametrize("memory_bytes", [None, 2_000])
def test_a_search_whose_planes_are_made_on_the_card(
    memory_bytes: int | None, monkeypatch: pytest.MonkeyPatch
) -> None:
    """With little memory a row finds no room there, and is packed here."""
    monkeypatch.setattr(compute.cuda.packing, "pays", lambda *_: True)
    problem = Problem(request(windows=2, periods=2, long_thresholds=(52, 55, 60), preselect=2))
    made: list[int] = []

    class Spied(Counted):
        def launch(self, kernel: Any, count: int, inputs: Any, values: Any, outputs: Any) -> None:
            made.append(len(outputs) == 1)
            super().launch(kernel, count, inputs, values, outputs)

    card = Spied(memory_bytes)
    with LocalExecutor(2) as inner:
        expected = problem.outcome(inner)
        if memory_bytes is None:
            found = problem.outcome(CudaExecutor(inner, card))
            np.testing.assert_array_equal(found.top.index, expected.top.index)
            np.testing.assert_array_equal(found.top.equity, expected.top.equity)
        run = CudaExecutor(inner, card)
        with run.job(lambda: None) as packing:
            planes = problem.votes(inner, packing).planes
        np.testing.assert_array_equal(planes, problem.votes(inner).planes)
    assert any(made) == (memory_bytes is None)
    assert card.taken_bytes() == 0


def test_it_pays_for_many_comparisons_of_much_on_few_cores() -> None:
    """The least comparisons of rows over a year of minutes, as the architecture page has them."""
    rows, columns, calls = 16, 16_320, 1_000

    def least(cores: int) -> int | None:
        paying = (n for n in range(1, 1_000) if pays(n, rows * columns * calls, calls, cores))
        return next(paying, None)

    assert [least(cores) for cores in (1, 2, 4, 8, 12)] == [8, 14, 29, 115, None]
    assert not pays(2, 10**9, 1, 1)  # a sign, a crossing: two planes a row
    assert not pays(500, 1_000, 1, 1)  # a short history: the calls cost more
