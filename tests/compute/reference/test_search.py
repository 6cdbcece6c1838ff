"""The oracle search: the order, the two cuts and the rows that stand for others."""

from __future__ import annotations

import hashlib
from typing import Any

import pytest

from compute.reference.search import RiskPair, search

TERMS: dict[str, Any] = {
    "direction_mode": "long-short",
    "sizing_mode": "all_in",
    "init_cash_quote": 1000.0,
    "fee_pct": 0.0,
    "slippage_pct": 0.0,
    "fixed_quote": 100.0,
    "safe_profit_percent": 30.0,
}
CLOSES = [100.0, 110.0, 100.0, 128.0, 90.0]
VARIANTS = [
    [1, 0, 0, 0, 0],  # +10 %
    [0, 0, 1, 0, 0],  # best: +28 %
    [0, 0, 0, 0, 0],  # no trade
    [1, 1, 1, 1, 0],  # -10 %
    [1, 0, 0, 0, 0],  # as the first
]


def key(base: int, pair: RiskPair) -> str:
    return hashlib.sha256(f"{base} {pair}".encode()).hexdigest()


def test_stage_a_orders_by_return_then_key() -> None:
    found = search(CLOSES, VARIANTS, [(None, None)], TERMS, preselect=5, top_k=5, key=key)
    first, second = sorted([0, 4], key=lambda base: key(base, (None, None)))
    assert [row.base for row in found.shortlist] == [1, first, second, 2, 3]
    # Without stops stage B repeats the order, with the same keys and ranks as variant_index.
    assert [row.key for row in found.top] == [row.key for row in found.shortlist]
    assert [row.variant_index for row in found.top] == [0, 1, 2, 3, 4]


def test_a_stop_ranks_what_the_base_variant_lost() -> None:
    """Variant 3 falls 10 % without stops; a take profit of 8 % makes 10 % of it."""
    found = search(CLOSES, [VARIANTS[3]], [(None, None), (None, 8.0)], TERMS, preselect=1, top_k=2,
                   key=key)  # fmt: skip
    assert [row.risk_index for row in found.top] == [1, 0]
    assert found.top[0].variant_index == 1
    assert found.top[0].simulation.total_return_pct == pytest.approx(10.0)


def test_cut_comes_after_the_full_sort() -> None:
    whole = search(CLOSES, VARIANTS, [(None, None)], TERMS, preselect=5, top_k=5, key=key)
    for size in range(1, 5):
        part = search(CLOSES, VARIANTS, [(None, None)], TERMS, preselect=size, top_k=1, key=key)
        assert part.shortlist == whole.shortlist[:size]


def test_other_metrics_have_their_direction() -> None:
    found = search(CLOSES, VARIANTS, [(None, None)], TERMS, preselect=5, top_k=5, key=key,
                   primary="max_drawdown_pct", secondary="total_return_pct")  # fmt: skip
    falls = [row.simulation.max_drawdown_pct for row in found.shortlist]
    assert falls == sorted(falls)
    assert found.shortlist[0].base == 1


def test_min_trades_leaves_out_the_idle() -> None:
    found = search(CLOSES, VARIANTS, [(None, None)], TERMS, preselect=5, top_k=5, key=key,
                   min_trades=1)  # fmt: skip
    assert 2 not in [row.base for row in found.shortlist]
    assert len(found.shortlist) == len(found.top) == 4


def test_distinct_keeps_the_first_of_equal_votes_and_trades() -> None:
    pairs: list[RiskPair] = [(None, None), (50.0, None), (None, 8.0)]
    found = search(CLOSES, VARIANTS, pairs, TERMS, preselect=5, top_k=9, key=key, distinct=True)
    first = min([0, 4], key=lambda base: key(base, (None, None)))
    assert [(row.base, row.equals) for row in found.shortlist] == [
        (1, (1,)),
        (first, (0, 4)),
        (2, (2,)),
        (3, (3,)),
    ]
    # Four votes under three pairs: only variant 3 is moved by a level, and only by the take profit,
    # which makes it the trade of the twins (rank 1).
    by_trades = {row.equals for row in found.top}
    assert by_trades == {(0, 1, 2), (3, 4, 5, 11), (6, 7, 8), (9, 10)}
    assert sum(len(equals) for equals in by_trades) == 12


def test_distinct_does_not_see_a_side_that_may_not_trade() -> None:
    variants = [[1, -1, 0, 0, 0], [1, 0, -1, 0, 0]]
    long_only = TERMS | {"direction_mode": "long-only"}
    found = search(CLOSES, variants, [(None, None)], long_only, preselect=2, top_k=2, key=key,
                   distinct=True)  # fmt: skip
    assert [row.equals for row in found.shortlist] == [(0, 1)]
    both = search(CLOSES, variants, [(None, None)], TERMS, preselect=2, top_k=2, key=key,
                  distinct=True)  # fmt: skip
    assert [row.equals for row in both.shortlist] in ([(0,), (1,)], [(1,), (0,)])
