"""The streaming search against the oracle that sorts everything, where ties are the rule."""

from __future__ import annotations

import math
from random import Random
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.ranking import Ranking, metric
from compute.reference.engine import SIZINGS
from compute.reference.search import METRICS, RiskPair, Search
from compute.reference.search import search as search_everything
from tests.compute.engines.fast import Found, Market, search
from tests.compute.engines.markets import LENGTHS, markets, tie_breaking_key, vote, walk

SL: tuple[float, ...] = (0.5, 300.0, 2.0)
TP: tuple[float, ...] = (5.0, 0.1, 100.0)
PAIRS: list[RiskPair] = [(sl, tp) for sl in SL for tp in TP]


def assert_same_search(
    market: Market, preselect: int, top_k: int, ranking: Ranking, threads: int = 1
) -> None:
    """Both cuts hold the same variants in the same order, with the same scores."""
    found = search(
        market, SL, TP, preselect=preselect, top_k=top_k, ranking=ranking, threads=threads
    )
    expected = search_everything(
        market.closes,
        [market.signals(i) for i in range(len(market.rows))],
        PAIRS,
        market.terms,
        preselect=preselect,
        top_k=top_k,
        key=tie_breaking_key,
        primary=ranking.primary,
        secondary=ranking.secondary,
        min_trades=ranking.min_trades,
        distinct=ranking.distinct,
        start=market.start,
        stop=market.stop,
    )
    assert found.shortlist.scores.index.tolist() == [row.base for row in expected.shortlist]
    assert found.top.scores.index.tolist() == [row.variant_index for row in expected.top]
    for fast, rows in ((found.shortlist, expected.shortlist), (found.top, expected.top)):
        for name in {ranking.primary, ranking.secondary} - {None}:
            assert metric(name, fast.scores).tolist() == [
                getattr(row.simulation, name) for row in rows
            ]
        assert fast.scores.trades.tolist() == [row.simulation.num_trades for row in rows]
    if ranking.distinct:
        assert_same_equals(found, expected)


def assert_same_equals(found: Found, expected: Search) -> None:
    """Rows stand for as many others, over the same span of every parameter."""
    assert found.shortlist.equals is not None
    for fast, row in zip(found.shortlist.equals, expected.shortlist, strict=True):
        assert fast.count == len(row.equals)
        assert fast.axes == {"variant": [min(row.equals), max(row.equals)]}
    if not expected.shortlist:
        return
    assert found.top.equals is not None
    for fast, row in zip(found.top.equals, expected.top, strict=True):
        assert fast.count == len(row.equals)
        bases = [expected.shortlist[index // len(PAIRS)].base for index in row.equals]
        sl = [SL[index % len(PAIRS) // len(TP)] for index in row.equals]
        tp = [TP[index % len(TP)] for index in row.equals]
        assert fast.axes == {
            "variant": [min(bases), max(bases)],
            "sl_pct": [min(sl), max(sl)],
            "tp_pct": [min(tp), max(tp)],
        }


@st.composite
def rankings(draw: st.DrawFn) -> Ranking:
    """Any metrics, any minimum of trades that leaves some out."""
    primary = draw(st.sampled_from(["total_return_pct", *sorted(METRICS)]))
    secondary = draw(st.sampled_from([None, *sorted(METRICS.keys() - {primary})]))
    minimum = draw(st.sampled_from([0, 0, 1, 3]))
    return Ranking(primary, secondary, minimum, draw(st.booleans()))


@st.composite
def crowded(draw: st.DrawFn, sizing_mode: str) -> Market:
    """A market with keys for all its pairs and variants that repeat each other."""
    market = draw(markets(sizing_mode, most_variants=16))
    return Market(
        market.closes, market.indicators, market.rows, market.terms, market.start, market.stop,
        market.order, tie_breaking_key, PAIRS,
    )  # fmt: skip


@pytest.mark.parametrize("sizing_mode", SIZINGS)
@given(data=st.data())
def test_equals_the_full_sort(sizing_mode: str, data: st.DataObject) -> None:
    market = data.draw(crowded(sizing_mode))
    preselect = data.draw(st.integers(1, len(market.rows)))
    top_k = data.draw(st.integers(1, 2 * len(PAIRS)))
    threads = data.draw(st.sampled_from([1, 2]))
    assert_same_search(market, preselect, top_k, data.draw(rankings()), threads)


@pytest.mark.parametrize("primary", sorted(METRICS))
def test_equal_ratios_of_different_trades(primary: str) -> None:
    """Round prices make metrics that are equal to the bit for different trades."""
    random = Random(5)
    closes = [float(random.choice([50, 100, 200])) for _ in range(40)]
    votes = [vote(random, 40, (1, 2, 5, 9)) for _ in range(80)]
    for sizing_mode in ("fixed_quote", "all_in"):
        for init_cash_quote in (1000.0, 700.0):
            terms: dict[str, Any] = {
                "direction_mode": "long-only",
                "sizing_mode": sizing_mode,
                "init_cash_quote": init_cash_quote,
                "fee_pct": 0.0,
                "slippage_pct": 0.0,
                "fixed_quote": 10.0,
                "safe_profit_percent": 30.0,
            }
            rows = [(i,) for i in range(80)]
            market = Market(closes, [votes], rows, terms, key=tie_breaking_key, pairs=PAIRS)
            assert_same_search(market, 40, 60, Ranking(primary))
            assert_same_search(market, 40, 60, Ranking(primary, min_trades=4))
            assert_same_search(market, 40, 60, Ranking(primary, distinct=True))


def test_more_ties_than_a_part_carries() -> None:
    """Thousands of equal variants: the cut falls among them and the keys decide it."""
    random = Random(9)
    closes = walk(random, 70, 8)
    votes = [vote(random, 70, (1, 2, 5)) for _ in range(3)]
    terms: dict[str, Any] = {
        "direction_mode": "long-short",
        "sizing_mode": "all_in",
        "init_cash_quote": 1000.0,
        "fee_pct": 0.1,
        "slippage_pct": 0.0,
        "fixed_quote": 100.0,
        "safe_profit_percent": 30.0,
    }
    rows = [(i % 3,) for i in range(15_000)]
    crowd = Market(closes, [votes], rows, terms, key=tie_breaking_key, pairs=PAIRS)
    found = search(crowd, SL, TP, preselect=6_000, top_k=10, ranking=Ranking(), threads=2)
    # Three scores, each five thousand times: full sort by (score, key) and cut.
    small = Market(closes, [votes], [(0,), (1,), (2,)], terms)
    alone = search(small, SL, TP, preselect=3, top_k=1, ranking=Ranking()).shortlist.scores
    merit = dict(zip(alone.index.tolist(), alone.equity.tolist(), strict=True))
    by_order = sorted(
        range(len(rows)), key=lambda i: (-merit[rows[i][0]], tie_breaking_key(i, (None, None)))
    )
    assert found.shortlist.scores.index.tolist() == by_order[:6_000]

    distinct = Ranking(distinct=True)
    groups = search(crowd, SL, TP, preselect=3, top_k=10, ranking=distinct, threads=2).shortlist
    assert groups.scores.index.tolist() == [by_order[0], by_order[5_000], by_order[10_000]]
    assert groups.equals is not None
    assert [equals.count for equals in groups.equals] == [5_000] * 3


@pytest.mark.parametrize(
    ("primary", "fee_pct", "closes", "merit"),
    [
        ("return_over_max_drawdown", 0.1, [100.0], -math.inf),  # a loss without a fall
        ("max_drawdown_pct", 150.0, [100.0, 90.0], math.inf),  # no positive peak to fall from
        ("profit_factor", 0.0, [100.0, 110.0, 120.0], math.inf),  # no loss
    ],
)
def test_crowds_at_infinity_are_cut_by_their_keys(
    primary: str, fee_pct: float, closes: list[float], merit: float
) -> None:
    votes = [1] * len(closes)
    terms: dict[str, Any] = {
        "direction_mode": "long-only",
        "sizing_mode": "all_in",
        "init_cash_quote": 1000.0,
        "fee_pct": fee_pct,
        "slippage_pct": 0.0,
        "fixed_quote": 100.0,
        "safe_profit_percent": 30.0,
    }
    rows = [(0,)] * 6_000
    crowd = Market(closes, [[votes]], rows, terms, key=tie_breaking_key, pairs=[(None, None)])
    found = search(crowd, [None], [None], preselect=40, top_k=5, ranking=Ranking(primary))
    scores = found.shortlist.scores
    assert metric(primary, scores).tolist() == [merit] * 40
    by_key = sorted(range(len(rows)), key=lambda i: tie_breaking_key(i, (None, None)))
    assert scores.index.tolist() == by_key[:40]


@given(data=st.data())
def test_the_guard_band_catches_what_rounding_hides(data: st.DataObject) -> None:
    """Variants that make the same moves in another place differ in the last digits alone."""
    random = data.draw(st.integers(0, 2**32 - 1).map(Random))
    block = walk(random, 20, 8)
    scale = block[0] / block[-1]
    closes, price = [], 1.0
    for _ in range(8):  # the same moves eight times, each from where the last one ended
        closes += [c / block[0] * price for c in block]
        price /= scale
    base = vote(random, 20, data.draw(LENGTHS))
    votes = [[0] * (20 * i) + base + [0] * (20 * (7 - i)) for i in range(8)]
    terms: dict[str, Any] = {
        "direction_mode": "long-short",
        "sizing_mode": data.draw(st.sampled_from(SIZINGS)),
        "init_cash_quote": 1000.0,
        "fee_pct": 0.1,
        "slippage_pct": 0.01,
        "fixed_quote": 100.0,
        "safe_profit_percent": 30.0,
    }
    rows = [(i,) for i in range(8)]
    market = Market(closes, [votes], rows, terms, key=tie_breaking_key, pairs=PAIRS)
    for primary in ("total_return_pct", "profit_factor"):
        assert_same_search(market, data.draw(st.integers(1, 8)), 7, Ranking(primary))
