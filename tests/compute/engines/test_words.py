"""Directed cases: runs against the edges of 64-bar words and of the slice, and near ruin."""

from __future__ import annotations

from random import Random
from typing import Any

import numpy as np
import pytest

from compute import stage_b, stops
from compute.ranking import SCORE_FIELDS, Scores
from compute.reference.engine import SIZINGS, simulate
from tests.compute.engines.fast import (
    Level,
    Market,
    replay,
    stage_a_scores,
    stage_b_scores,
)
from tests.compute.engines.judge import (
    assert_exact,
    assert_near,
    assert_same_replay,
    oracle,
)
from tests.compute.engines.markets import vote, walk

BARS = (1, 2, 63, 64, 65, 127, 128, 129, 1000)
SL: list[float | None] = [0.2, 1.0, 4.0]
TP: list[float | None] = [3.0, 0.3]
LEVELS: tuple[Level, ...] = ("score", "columns", "fall", "exact", "exact_fall")


def terms(sizing_mode: str = "all_in", **changed: Any) -> dict[str, Any]:
    return {
        "direction_mode": "long-short",
        "sizing_mode": sizing_mode,
        "init_cash_quote": 1000.0,
        "fee_pct": 0.075,
        "slippage_pct": 0.01,
        "fixed_quote": 700.0,
        "safe_profit_percent": 30.0,
    } | changed


def patterns(bars: int) -> dict[str, list[int]]:
    """Signals whose runs begin, end or stay where words and slices do."""
    edge = [1 if bar % 64 < 32 else -1 for bar in range(bars)]
    return {
        "one run over everything": [1] * bars,
        "one short over everything": [-1] * bars,
        "nothing": [0] * bars,
        "entry on the last bar": [0] * (bars - 1) + [-1],
        "reversal on the last bar": [1] * (bars - 1) + [-1],
        "exit on the last bar": [-1] * (bars - 1) + [0],
        "reversal at every bar": [1 if bar % 2 else -1 for bar in range(bars)],
        "on and off at every bar": [bar % 2 for bar in range(bars)],
        "runs that end with the word": [1 if bar % 64 < 63 else 0 for bar in range(bars)],
        "runs that begin with the last bit": [-1 if bar % 64 == 63 else 0 for bar in range(bars)],
        "reversals at word edges": [1 if bar // 64 % 2 else -1 for bar in range(bars)],
        "reversals inside words": edge,
        "runs over several words": [1 if bar // 150 % 2 else -1 for bar in range(bars)],
        "last bit and first bit": [1 if bar % 64 in (63, 0) else 0 for bar in range(bars)],
        "random": vote(Random(bars), bars, (1, 2, 5, 70)),
    }


def check(market: Market) -> None:
    """Every path agrees with the oracle on every variant of `market`."""
    score = stage_a_scores(market)
    columns = stage_a_scores(market, level="columns")
    fall = stage_a_scores(market, level="fall")
    exact = stage_a_scores(market, level="exact_fall")
    pairs = stage_b_scores(market, SL, TP)
    pair_falls = stage_b_scores(market, SL, TP, level="fall")
    for i in range(len(market.rows)):
        slow = oracle(market, i)
        assert_near(score, i, slow, market.terms)
        assert_near(columns, i, slow, market.terms)
        assert_near(fall, i, slow, market.terms, drawdown=True)
        assert_exact(exact, i, slow, drawdown=True)
        fast = replay(
            market.closes, market.signals(i), **market.terms, start=market.start, stop=market.stop
        )
        assert_same_replay(fast, slow)
        for pair in range(len(SL) * len(TP)):
            slow = oracle(market, i, SL[pair // len(TP)], TP[pair % len(TP)])
            at = i * len(SL) * len(TP) + pair
            assert_near(pairs, at, slow, market.terms)
            assert_near(pair_falls, at, slow, market.terms, drawdown=True)


@pytest.mark.parametrize("sizing_mode", SIZINGS)
@pytest.mark.parametrize("bars", BARS)
def test_edges_of_words(bars: int, sizing_mode: str) -> None:
    votes = list(patterns(bars).values())
    rows = [(i,) for i in range(len(votes))]
    check(Market(walk(Random(bars), bars, 8), [votes], rows, terms(sizing_mode)))


@pytest.mark.parametrize("direction_mode", ["long-short", "long-only", "short-only"])
@pytest.mark.parametrize(("start", "stop"), [(1, 66), (37, 229), (63, 191), (64, 192), (5, 5)])
def test_slices_that_do_not_begin_with_a_word(start: int, stop: int, direction_mode: str) -> None:
    votes = list(patterns(300).values())
    rows = [(i,) for i in range(len(votes))]
    account = terms(direction_mode=direction_mode)
    check(Market(walk(Random(start), 300, 8), [votes], rows, account, start, stop))


@pytest.mark.parametrize("sizing_mode", SIZINGS)
def test_neighbours_that_change_the_carry(sizing_mode: str) -> None:
    """One bit early in a long run moves its entry, hence a product many words later."""
    bars = 400
    long_run = [0] * 3 + [1] * 380 + [-1] * 17
    rows = [list(long_run) for _ in range(8)]
    rows[1][2] = 1
    rows[2][70] = 0
    rows[3][70] = -1
    rows[4][383] = 1
    rows[5][3] = 0
    rows[6][399] = 0
    closes = walk(Random(3), bars, 8)
    for order in ([0, 1, 0, 2, 3, 4, 5, 6, 7], [7, 3, 2, 5, 1, 6, 4, 0], [2, 2, 6, 6, 7]):
        check(Market(closes, [rows], [(i,) for i in order], terms(sizing_mode)))


@pytest.mark.parametrize("sizing_mode", SIZINGS)
@pytest.mark.parametrize("distance", [0, 64])
def test_two_ruins_do_not_make_a_profit(sizing_mode: str, distance: int) -> None:
    """Two factors below zero multiply to a positive, in one word or over two."""
    calm = [100.0] * distance
    closes = [100.0, 300.0, *calm, 100.0, 310.0, 100.0, 120.0]
    votes = [-1, 0, *[0] * distance, -1, 0, 1, 0]
    account = terms(sizing_mode, fixed_quote=5000.0)
    market = Market(closes, [[votes]], [(0,)], account)
    assert simulate(closes, votes, **account).num_trades == 1
    check(market)


def test_a_stop_saves_what_the_base_variant_ruins() -> None:
    """Stage B starts from the runs: after the rescue the later trades are there."""
    closes = [100.0, 106.0, 300.0, 100.0, 120.0, 130.0]
    votes = [-1, -1, 0, 1, 0, 0]
    account = terms(fee_pct=0.0, slippage_pct=0.0)
    market = Market(closes, [[votes]], [(0,)], account)
    assert stage_a_scores(market).trades.tolist() == [1]
    saved = stage_b_scores(market, [5.0], [None])
    assert saved.trades.tolist() == [2]
    assert_near(saved, 0, oracle(market, 0, 5.0, None), account)


@pytest.mark.parametrize("sizing_mode", SIZINGS)
@pytest.mark.parametrize("left", [0.0, 1e-12, 1e-9, 3e-9, 1e-8, 1e-7, 1e-6, 1e-5])
@pytest.mark.parametrize("recovery", [1.5, 200.0, 4000.0])
def test_nearly_ruined_accounts(sizing_mode: str, left: float, recovery: float) -> None:
    """A short keeps a share `left` of the cash, and what is left is multiplied twice.

    That share is a difference of nearly equal numbers, so a fast score may know few of its digits;
    within the guard band it must agree all the same, or hand over to the exact engine.
    """
    closes = [100.0, 100.0 * (2.0 - left), 1.0, recovery, 1.0, recovery, recovery]
    votes = [-1, 0, 1, 0, 1, 0, 0]
    for costs in ({"fee_pct": 0.0, "slippage_pct": 0.0}, {}):
        account = terms(sizing_mode, fixed_quote=1000.0, **costs)
        market = Market(closes, [[votes]], [(0,)], account)
        slow = oracle(market, 0)
        assert_near(stage_a_scores(market), 0, slow, account)
        assert_near(stage_a_scores(market, level="columns"), 0, slow, account)
        assert_near(stage_a_scores(market, level="fall"), 0, slow, account, drawdown=True)
        assert_near(stage_b_scores(market, [None], [None]), 0, slow, account)


@pytest.mark.parametrize("sizing_mode", SIZINGS)
@pytest.mark.parametrize("costs", [{"fee_pct": 250.0}, {"slippage_pct": 60.0}])
@pytest.mark.parametrize("later", [10.0, 90.0, 1000.0])
def test_undefined_drawdown(sizing_mode: str, costs: dict[str, float], later: float) -> None:
    """Costs that eat the first bar's equity leave no peak to fall from, whatever comes later."""
    account = terms(sizing_mode, fixed_quote=1000.0, **costs)
    votes = [[1, 1, 1, 0], [-1, -1, -1, 0], [0, 0, 0, 0], [1, 0, -1, 0]]
    rows = [(i,) for i in range(len(votes))]
    market = Market([100.0, 100.0, later, later], [votes], rows, account)
    exact = stage_a_scores(market, level="exact_fall")
    fall = stage_a_scores(market, level="fall")
    pairs = stage_b_scores(market, [None], [None], level="fall")
    for i in range(len(votes)):
        slow = oracle(market, i)
        assert_exact(exact, i, slow, drawdown=True)
        assert_near(fall, i, slow, account, drawdown=True)
        assert_near(pairs, i, slow, account, drawdown=True)


def test_a_fall_of_more_than_everything_is_exact() -> None:
    """Below zero, closing at the price of the last mark leaves one more unit in the last place."""
    closes = [
        97.30999755859375,
        86.77806091308594,
        81.10196685791016,
        341.3017578125,
        341.3017578125,
    ]
    account = terms("strategy_compound_profit_lock", fee_pct=0.0, slippage_pct=0.0)
    market = Market(closes, [[[-1, 0, -1, -1, 0]]], [(0,)], account)
    slow = oracle(market, 0)
    assert slow.equity[4] < slow.equity[3] < 0.0
    assert_exact(stage_a_scores(market, level="exact_fall"), 0, slow, drawdown=True)


@pytest.mark.parametrize("sizing_mode", SIZINGS)
def test_scratch_is_written_before_it_is_read(
    sizing_mode: str, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Memory that starts as garbage changes no bit of any score."""
    votes = list(patterns(200).values())
    rows = [(i,) for i in range(len(votes))]
    market = Market(walk(Random(8), 200, 8), [votes], rows, terms(sizing_mode))

    def scores() -> list[Scores]:
        return [
            *(stage_a_scores(market, level=level) for level in LEVELS),
            *(stage_b_scores(market, SL, TP, level=level) for level in LEVELS),
        ]

    clean = scores()
    fresh = stops.cells

    def poisoned(*levels: Any) -> Any:
        cells = fresh(*levels)
        for array in cells:
            array.fill(np.nan if array.dtype.kind == "f" else 1)
        return cells

    monkeypatch.setattr(stage_b, "cells", poisoned)
    for one, other in zip(scores(), clean, strict=True):
        for name in SCORE_FIELDS:
            np.testing.assert_array_equal(getattr(one, name), getattr(other, name), err_msg=name)
