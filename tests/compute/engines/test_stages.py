"""Stage A and Stage B kernels against the oracle over random markets, every sizing mode."""

from __future__ import annotations

import itertools

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.ranking import SCORE_FIELDS, Scores
from compute.reference.engine import SIZINGS
from tests.compute.engines.fast import Market, stage_a_scores, stage_b_scores
from tests.compute.engines.judge import assert_exact, assert_money, assert_near, oracle, wins
from tests.compute.engines.markets import axis, markets

MODES = pytest.mark.parametrize("sizing_mode", SIZINGS)


def assert_bits(one: Scores, other: Scores) -> None:
    for name in SCORE_FIELDS:
        np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)


@MODES
@given(data=st.data())
def test_stage_a(sizing_mode: str, data: st.DataObject) -> None:
    market = data.draw(markets(sizing_mode))
    cash = market.terms["init_cash_quote"]
    score = stage_a_scores(market)
    columns = stage_a_scores(market, level="columns")
    fall = stage_a_scores(market, level="fall")
    exact = stage_a_scores(market, level="exact")
    exact_fall = stage_a_scores(market, level="exact_fall")
    assert score.index.tolist() == list(range(len(market.rows)))
    for i in range(len(market.rows)):
        slow = oracle(market, i)
        assert_near(score, i, slow, market.terms)
        assert_near(columns, i, slow, market.terms)
        assert columns.wins[i] == wins(slow)
        assert_money(columns, i, slow, cash, rel=1e-8)
        assert_exact(exact, i, slow, drawdown=False)
        assert_exact(exact_fall, i, slow, drawdown=True)
        assert_near(fall, i, slow, market.terms, drawdown=True)
        assert_money(fall, i, slow, cash, rel=1e-8)


@MODES
@given(data=st.data())
def test_stage_b(sizing_mode: str, data: st.DataObject) -> None:
    market = data.draw(markets(sizing_mode, most_variants=4))
    sl, tp = data.draw(axis()), data.draw(axis())
    cash = market.terms["init_cash_quote"]
    score = stage_b_scores(market, sl, tp)
    columns = stage_b_scores(market, sl, tp, level="columns")
    fall = stage_b_scores(market, sl, tp, level="fall")
    exact = stage_b_scores(market, sl, tp, level="exact")
    exact_fall = stage_b_scores(market, sl, tp, level="exact_fall")
    pairs = [(sl_pct, tp_pct) for sl_pct in sl for tp_pct in tp]
    assert score.index.tolist() == list(range(len(market.rows) * len(pairs)))
    for i in range(len(market.rows)):
        for risk_index, pair in enumerate(pairs):
            slow = oracle(market, i, *pair)
            at = i * len(pairs) + risk_index
            assert_near(score, at, slow, market.terms)
            assert_near(columns, at, slow, market.terms)
            assert_money(columns, at, slow, cash, rel=1e-8)
            assert_exact(exact, at, slow, drawdown=False)
            assert_exact(exact_fall, at, slow, drawdown=True)
            assert_near(fall, at, slow, market.terms, drawdown=True)
            assert_money(fall, at, slow, cash, rel=1e-8)


@MODES
@given(data=st.data())
def test_scores_do_not_depend_on_the_walk(sizing_mode: str, data: st.DataObject) -> None:
    """Any order, cut into any spans, gives the same bits."""
    market = data.draw(markets(sizing_mode))
    count = len(market.rows)
    cuts = sorted({0, count, *data.draw(st.lists(st.integers(0, count), max_size=4))})
    spans = list(itertools.pairwise(cuts))
    singles = [(i, i + 1) for i in range(count)]
    as_given = Market(
        market.closes, market.indicators, market.rows, market.terms, market.start, market.stop
    )
    for level in ("score", "columns", "fall"):
        whole = stage_a_scores(market, level=level)
        assert_bits(stage_a_scores(market, level=level, spans=spans), whole)
        assert_bits(stage_a_scores(market, level=level, spans=singles), whole)
        assert_bits(stage_a_scores(as_given, level=level), whole)


@given(data=st.data())
def test_pairs_do_not_depend_on_the_grid(data: st.DataObject) -> None:
    """A pair's exact score, alone or in any grid; its fast score, whatever the order of levels."""
    market = data.draw(markets(most_variants=3))
    sl, tp = data.draw(axis()), data.draw(axis())
    pairs = [(sl_pct, tp_pct) for sl_pct in sl for tp_pct in tp]
    grid = stage_b_scores(market, sl, tp)
    turned = stage_b_scores(market, sl[::-1], tp[::-1])
    for i in range(len(market.rows)):
        rows = slice(i * len(pairs), (i + 1) * len(pairs))
        np.testing.assert_array_equal(turned.equity[rows][::-1], grid.equity[rows])
        np.testing.assert_array_equal(turned.trades[rows][::-1], grid.trades[rows])
    alone = stage_b_scores(market, [pairs[-1][0]], [pairs[-1][1]])
    np.testing.assert_allclose(
        alone.equity, grid.equity[len(pairs) - 1 :: len(pairs)], rtol=2e-9, atol=2e-9
    )
