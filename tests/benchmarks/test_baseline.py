"""The baseline of the benchmarks gives the oracle's numbers to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compute.reference.engine import SIZINGS, simulate
from tests.benchmarks.baseline import account, stage_a, stage_b

VARIANTS, BARS = 24, 300
SL: list[float | None] = [None, 0.0, 2.0, 8.0]
TP: list[float | None] = [0.5, None, 6.0]


def market(seed: int, volatility: float) -> tuple[np.ndarray, np.ndarray, np.ndarray]:
    """(closes, votes of two indicators with six rows each, vote rows of the variants)."""
    random = np.random.default_rng(seed)
    closes = np.exp(np.cumsum(random.normal(0, volatility, BARS))).astype(np.float32)
    runs = random.choice(np.array([1, -1, 0], np.int8), (12, BARS), p=[0.45, 0.45, 0.1])
    votes = np.repeat(runs, 6, axis=1)[:, :BARS].copy()
    rows = np.stack(
        [random.integers(0, 6, VARIANTS), random.integers(6, 12, VARIANTS)], axis=1
    ).astype(np.int32)
    return closes.astype(np.float64), votes, rows


def signals(votes: np.ndarray, rows: np.ndarray) -> list[int]:
    columns = zip(*(votes[row].tolist() for row in rows), strict=True)
    return [vote[0] if len(set(vote)) == 1 else 0 for vote in columns]


@pytest.mark.parametrize("direction_mode", ["long-short", "long-only", "short-only"])
@pytest.mark.parametrize("sizing_mode", SIZINGS)
def test_equals_the_oracle(sizing_mode: str, direction_mode: str) -> None:
    # Hard moves, so that some shorts are ruined.
    closes, votes, rows = market(seed=7, volatility=0.15)
    terms: dict[str, Any] = {
        "direction_mode": direction_mode,
        "sizing_mode": sizing_mode,
        "init_cash_quote": 1000.0,
        "fee_pct": 0.1,
        "slippage_pct": 0.05,
        "fixed_quote": 400.0,
        "safe_profit_percent": 30.0,
    }
    a = stage_a(closes, votes, rows, account(**terms), columns=True, drawdown=True)
    b = stage_b(closes, votes, rows, SL, TP, account(**terms), columns=True, drawdown=True)
    assert a.sums is not None
    assert a.drawdown_pct is not None
    assert b.sums is not None
    assert b.drawdown_pct is not None
    for i in range(VARIANTS):
        signal = signals(votes, rows[i])
        oracle = simulate(closes.tolist(), signal, **terms)
        nets = [trade.net_pnl_quote for trade in oracle.trades]
        assert (a.equity[i], a.trades[i]) == (oracle.equity_end, oracle.num_trades)
        assert a.drawdown_pct[i] == oracle.max_drawdown_pct
        assert a.sums[i, 0] == sum(net > 0 for net in nets)
        assert a.sums[i, 1] == pytest.approx(sum(net for net in nets if net > 0))
        assert a.sums[i, 2] == pytest.approx(-sum(net for net in nets if net < 0))
        for pair in range(len(SL) * len(TP)):
            sl_pct, tp_pct = SL[pair // len(TP)], TP[pair % len(TP)]
            oracle = simulate(closes.tolist(), signal, **terms, sl_pct=sl_pct, tp_pct=tp_pct)
            assert b.equity[i, pair] == oracle.equity_end
            assert b.trades[i, pair] == oracle.num_trades
            assert b.drawdown_pct[i, pair] == oracle.max_drawdown_pct
            assert b.sums[i, pair, 0] == sum(t.net_pnl_quote > 0 for t in oracle.trades)


def test_levels_and_threads_do_not_change_scores() -> None:
    closes, votes, rows = market(seed=11, volatility=0.02)
    terms = account(
        direction_mode="long-short", sizing_mode="all_in", init_cash_quote=1000.0, fee_pct=0.1,
        slippage_pct=0.05, fixed_quote=100.0, safe_profit_percent=30.0,
    )  # fmt: skip
    whole = stage_a(closes, votes, rows, terms, columns=True, drawdown=True)
    plain = stage_a(closes, votes, rows, terms, threads=2)
    assert (plain.sums, plain.drawdown_pct) == (None, None)
    np.testing.assert_array_equal(plain.equity, whole.equity)
    np.testing.assert_array_equal(plain.trades, whole.trades)
    off = stage_b(closes, votes, rows, [None], [None], terms, threads=2)
    np.testing.assert_array_equal(off.equity[:, 0], whole.equity)
