"""The contract's worked examples through every path of the fast engine."""

from __future__ import annotations

from typing import Any

import pytest

from compute.reference.engine import simulate
from tests.compute.engines.fast import Market, replay, stage_a_scores, stage_b_scores
from tests.compute.engines.judge import assert_exact, assert_near, assert_same_replay
from tests.golden.worked_examples import (
    CURVE,
    CURVE_EQUITY,
    CURVE_EXPOSURE,
    EXAMPLES,
    WorkedExample,
    matches,
)

ALL = pytest.mark.parametrize(
    "example", [*EXAMPLES, CURVE], ids=lambda example: str(example.number)
)


def split_terms(example: WorkedExample) -> tuple[dict[str, Any], dict[str, Any]]:
    """(account terms, sl_pct / tp_pct / start)."""
    rest = {k: v for k, v in example.terms.items() if k in ("sl_pct", "tp_pct", "start")}
    return {k: v for k, v in example.terms.items() if k not in rest}, rest


@ALL
def test_replay(example: WorkedExample) -> None:
    done = replay(example.closes, example.signals, **example.terms)
    records = done.trades.records()
    assert [
        (r["direction"], r["entry_bar_index"], r["exit_bar_index"], r["exit_reason"])
        for r in records
    ] == [trade[:4] for trade in example.trades]
    for record, expected in zip(records, example.trades, strict=True):
        for name, value in expected[4].items():
            assert matches(value, record[name]), (name, value, record[name])
    assert matches(example.equity, done.equity_end)
    assert matches(example.return_pct, done.total_return_pct)
    for name, value in example.balances.items():
        assert matches(value, getattr(done, name)), name
    assert_same_replay(done, simulate(example.closes, example.signals, **example.terms))


def test_replay_of_the_worked_curve() -> None:
    done = replay(CURVE.closes, CURVE.signals, **CURVE.terms)
    assert len(done.equity) == len(CURVE_EQUITY)
    for shown, value in zip(CURVE_EQUITY, done.equity.tolist(), strict=True):
        assert matches(shown, value)
    for shown, value in zip(CURVE_EXPOSURE, done.exposure.tolist(), strict=True):
        assert matches(shown, value)


@ALL
def test_stages(example: WorkedExample) -> None:
    """Stage A scores the example without its stops, stage B with and without them."""
    terms, rest = split_terms(example)
    start = rest.get("start", 0)
    market = Market(example.closes, [[example.signals]], [[0]], terms, start)
    base = simulate(example.closes, example.signals, **terms, start=start)
    assert_near(stage_a_scores(market), 0, base, terms)
    assert_near(stage_a_scores(market, level="columns"), 0, base, terms)
    assert_near(stage_a_scores(market, level="fall"), 0, base, terms, drawdown=True)
    assert_exact(stage_a_scores(market, level="exact"), 0, base, drawdown=False)
    assert_exact(stage_a_scores(market, level="exact_fall"), 0, base, drawdown=True)

    stopped = simulate(example.closes, example.signals, **example.terms)
    sl, tp = [rest.get("sl_pct")], [rest.get("tp_pct")]
    assert_near(stage_b_scores(market, sl, tp), 0, stopped, terms)
    assert_near(stage_b_scores(market, sl, tp, level="fall"), 0, stopped, terms, drawdown=True)
    assert_exact(stage_b_scores(market, sl, tp, level="exact"), 0, stopped, drawdown=False)
    assert_exact(stage_b_scores(market, sl, tp, level="exact_fall"), 0, stopped, drawdown=True)
