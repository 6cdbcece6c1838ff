"""Scores of the card against those of the processor, to the bit, over random markets.

The processor's fast scores are held against the oracle elsewhere; so are its exact ones.
"""

from __future__ import annotations

import itertools
from collections.abc import Sequence
from typing import Any

import numpy as np
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from compute.cuda.card import SimulatedCard
from compute.cuda.stages import CardStage
from compute.executor import LocalExecutor, Span
from compute.ranking import SCORE_FIELDS, Ranking, Scores, joined
from compute.reference.engine import SIZINGS
from tests.compute.engines.fast import Market
from tests.compute.engines.markets import axis, markets

MODES = pytest.mark.parametrize("sizing_mode", SIZINGS)
THREADS = st.sampled_from([1, 3, 8, 32])


def unchecked() -> None:
    """Nobody asks for a stop."""


def on_card(stage: Any, card: SimulatedCard, spans: Sequence[Span]) -> Scores:
    """Scores of a stage as a card gives them, asked for span by span."""
    with LocalExecutor(1) as inner:
        one = CardStage(stage, card, [(spans[0][0], spans[-1][1])], inner.each)
        return joined([part for span in spans for part in one.scores(*span, unchecked)])


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
    found = on_card(stage, SimulatedCard(threads=data.draw(THREADS)), spans)
    assert_bits(found, joined(list(stage.scores(0, stage.total))))


@MODES
@settings(max_examples=30)
@given(data=st.data())
def test_stage_b(sizing_mode: str, data: st.DataObject) -> None:
    market: Market = data.draw(markets(sizing_mode, most_variants=4))
    sl, tp = data.draw(axis()), data.draw(axis())
    ranking = Ranking(data.draw(st.sampled_from(["total_return_pct", "profit_factor"])))
    stage = market.stage_b(range(len(market.rows)), sl, tp, ranking)
    spans = cut(stage.total, data.draw(st.lists(st.integers(0, 4), max_size=1)))
    found = on_card(stage, SimulatedCard(threads=data.draw(THREADS)), spans)
    assert found.index.tolist() == list(range(stage.total * len(sl) * len(tp)))
    if stage.product:  # all pairs at once, as the processor does
        assert_bits(found, joined(list(stage.scores(0, stage.total))))
    else:
        assert_bits(found, stage.exact(found.index))
