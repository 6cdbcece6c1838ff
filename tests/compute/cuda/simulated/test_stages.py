"""Scores of the card against those of the processor, to the bit, over random markets.

The processor's fast scores are held against the oracle elsewhere; so are its exact ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Iterator, Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, reject, settings
from hypothesis import strategies as st

from compute.cuda.memory import CardMemory
from compute.cuda.residence import Residence
from compute.cuda.stages import CardStage
from compute.executor import LocalExecutor, Span
from compute.ranking import RETURN, SCORE_FIELDS, Ranking, Scores, joined
from compute.reference.engine import SIZINGS
from compute.selection import Scan
from tests.benchmarks.card import alike
from tests.compute.cuda.simulated.counted import Counted
from tests.compute.engines.fast import Market
from tests.compute.engines.markets import axis, markets

MODES = pytest.mark.parametrize("sizing_mode", SIZINGS)


class Fitting(Counted):
    """Memory for `planes` tenths of the planes of `stage` beside so many positions."""

    def __init__(self, stage: Any, planes: int, positions: int, threads: int) -> None:
        super().__init__(1 << 24, threads=threads)
        with Residence(self) as residence:
            needs = CardStage(stage, residence, [], lambda work, items: None)._needs  # pyright: ignore
        self.memory_bytes = self.told = needs.total(-(-needs.planes * planes // 10), positions)


def fitting(draw: Any, stage: Any) -> Fitting:
    """A card with memory for all of a stage, for some positions, for some planes."""
    planes, positions = draw(st.sampled_from([10, 10, 7, 4])), draw(st.integers(1, 17))
    return Fitting(stage, planes, positions, draw(st.sampled_from([1, 3, 8, 32])))


@pytest.fixture(autouse=True, scope="module")
def nothing_to_spare() -> Iterator[None]:
    """Planes stay beside any number of positions, and nothing is counted but what is put there:
    scores are not reduced here, and room for that must not hide what was forgotten."""
    with pytest.MonkeyPatch.context() as patch:
        patch.setattr("compute.cuda.memory._FEW", 1)
        patch.setattr("compute.cuda.stages._REDUCING", 0)
        yield


def unchecked() -> None:
    """Nobody asks for a stop."""


def on_card(stage: Any, card: Counted, spans: Sequence[Span]) -> Scores:
    """Scores of a stage as a card gives them, asked for span by span.

    It takes no more memory than it has counted before; what cannot fit is not tried.
    """
    with LocalExecutor(1) as inner, Residence(card) as residence:
        one = CardStage(stage, residence, [(spans[0][0], spans[-1][1])], inner.each)
        try:
            found = [part for span in spans for part in one.scores(*span, unchecked)]
        except CardMemory:
            reject()
    assert card.overdrawn == 0
    return joined(found)


def cut(total: int, cuts: Sequence[int]) -> list[Span]:
    """Spans of a stage from random cuts."""
    edges = sorted({0, total, *(at % (total + 1) for at in cuts)})
    return list(itertools.pairwise(edges))


def assert_bits(one: Scores, other: Scores) -> None:
    for name in SCORE_FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@MODES
@settings(max_examples=30)
@given(data=st.data())
def test_stage_a(sizing_mode: str, data: st.DataObject) -> None:
    market: Market = data.draw(markets(sizing_mode, most_variants=16))
    ranking = Ranking(data.draw(st.sampled_from(["total_return_pct", "profit_factor"])))
    stage = market.stage_a(ranking, columns=data.draw(st.booleans()))
    spans = cut(stage.total, data.draw(st.lists(st.integers(0, 16), max_size=2)))
    found = on_card(stage, fitting(data.draw, stage), spans)
    assert_bits(found, joined(list(stage.scores(0, stage.total))))


@settings(max_examples=30)
@given(data=st.data())
def test_candidates_of_a_stage(data: st.DataObject) -> None:
    """What the card cuts off itself is what the processor cuts off: below what is surely in."""
    sizing_mode = data.draw(st.sampled_from(SIZINGS))
    market: Market = data.draw(markets(sizing_mode, most_variants=16))
    stage = market.stage_a(Ranking())
    n, min_trades = data.draw(st.integers(1, 5)), data.draw(st.integers(0, 3))
    scan = Scan(n, RETURN, stage.terms.sizing, min_trades)
    card, length = Counted(1 << 24), data.draw(st.integers(1, 16))
    with (
        LocalExecutor(1) as inner,
        Residence(card) as residence,
        pytest.MonkeyPatch.context() as patch,
    ):
        patch.setattr("compute.cuda.stages.launch_positions", lambda *_: length)
        patch.setattr(Scan, "capacity", property(lambda self: self.n))
        placed = CardStage(stage, residence, [(0, stage.total)], inner.each)
        best = scan.part(placed, 0, stage.total, unchecked)
        patch.undo()
        expected = scan.part(stage, 0, stage.total, unchecked)
    assert len(card.launches) == -(-stage.total // length)
    alike(best, expected, scan, "A")
    assert set(best.index.tolist()) <= set(expected.index.tolist())


@MODES
@settings(max_examples=30)
@given(data=st.data())
def test_stage_b(sizing_mode: str, data: st.DataObject) -> None:
    market: Market = data.draw(markets(sizing_mode, most_variants=4))
    sl, tp = data.draw(axis()), data.draw(axis())
    ranking = Ranking(data.draw(st.sampled_from(["total_return_pct", "profit_factor"])))
    stage = market.stage_b(range(len(market.rows)), sl, tp, ranking)
    spans = cut(stage.total, data.draw(st.lists(st.integers(0, 4), max_size=1)))
    found = on_card(stage, fitting(data.draw, stage), spans)
    assert found.index.tolist() == list(range(stage.total * len(sl) * len(tp)))
    if stage.product:  # all pairs at once, as the processor does
        assert_bits(found, joined(list(stage.scores(0, stage.total))))
    else:
        assert_bits(found, stage.exact(found.index))
