"""What equality of the engine and the oracle means."""

from __future__ import annotations

import math
from typing import Any

import numpy as np
import pytest

from compute.ranking import Scores, metric
from compute.reference.engine import Simulation, simulate
from compute.replay import Replay
from tests.compute.engines.fast import Market

# A fast score may differ by this much, relative to the equity; of the initial cash for fixed_quote.
TOLERANCE = 1e-9


def oracle(
    market: Market, variant: int, sl_pct: float | None = None, tp_pct: float | None = None
) -> Simulation:
    """The oracle's simulation of one variant of `market`."""
    return simulate(
        market.closes, market.signals(variant), **market.terms, sl_pct=sl_pct, tp_pct=tp_pct,
        start=market.start, stop=market.stop,
    )  # fmt: skip


def assert_same_replay(fast: Replay, slow: Simulation) -> None:
    """Every trade field, every bar's equity and every balance, to the bit."""
    records = fast.trades.records()
    names = ("direction", "entry_bar_index", "exit_bar_index", "exit_reason")
    assert [[record[name] for name in names] for record in records] == [
        [getattr(trade, name) for name in names] for trade in slow.trades
    ]
    for record, trade in zip(records, slow.trades, strict=True):
        for name, value in record.items():
            assert value == getattr(trade, name), (name, trade.trade_id)
    np.testing.assert_array_equal(fast.equity, np.array(slow.equity))
    np.testing.assert_array_equal(fast.have_position, np.array(slow.have_position, np.bool_))
    np.testing.assert_array_equal(fast.exposure, np.array(slow.exposure))
    assert (fast.available, fast.safe) == (slow.available, slow.safe)
    assert fast.equity_end == slow.equity_end
    assert fast.total_return_pct == slow.total_return_pct
    assert (fast.position is None) == (slow.position is None)
    if fast.position is not None and slow.position is not None:
        for ours, theirs in (
            ("side", "side"),
            ("entry_bar", "entry_bar_index"),
            ("entry_fill", "entry_fill_price"),
            ("qty_base", "qty_base"),
            ("entry_quote", "entry_quote_amount"),
            ("entry_fee", "entry_fee_quote"),
        ):
            assert getattr(fast.position, ours) == getattr(slow.position, theirs), ours


def wins(simulation: Simulation) -> int:
    """Number of trades with a net profit."""
    return sum(trade.net_pnl_quote > 0.0 for trade in simulation.trades)


def net_sums(simulation: Simulation) -> tuple[float, float]:
    """(profits, losses) of all trades, both positive, summed in trade order."""
    won = lost = 0.0
    for trade in simulation.trades:
        won += max(trade.net_pnl_quote, 0.0)
        lost -= min(trade.net_pnl_quote, 0.0)
    return won, lost


def assert_exact(scores: Scores, i: int, slow: Simulation, drawdown: bool) -> None:
    """Row i of exact `scores` equals the oracle's metrics to the bit."""
    assert scores.trades[i] == slow.num_trades
    assert scores.wins[i] == wins(slow)
    assert (scores.won[i], scores.lost[i]) == net_sums(slow)
    row = scores.take(slice(i, i + 1))
    names = ["total_return_pct", "profit_factor"]
    if drawdown:
        names += ["max_drawdown_pct", "return_over_max_drawdown"]
    for name in names:
        assert metric(name, row)[0] == getattr(slow, name), name


def assert_money(scores: Scores, i: int, slow: Simulation, cash: float, rel: float) -> None:
    """Profits won and lost, in quote units, as the oracle's trades add up."""
    won, lost = net_sums(slow)
    assert scores.won[i] == pytest.approx(won, rel=rel, abs=rel * cash)
    assert scores.lost[i] == pytest.approx(lost, rel=rel, abs=rel * cash)


def assert_near(
    scores: Scores, i: int, slow: Simulation, terms: dict[str, Any], drawdown: bool = False
) -> None:
    """Row i of fast `scores`: the trades exactly, equity and drawdown within the guard band."""
    cash = terms["init_cash_quote"]
    assert scores.trades[i] == slow.num_trades
    expected = slow.equity_end / cash
    least = 1.0 if terms["sizing_mode"] == "fixed_quote" else 1e-6
    assert math.isfinite(scores.equity[i])
    assert abs(scores.equity[i] - expected) <= TOLERANCE * max(abs(expected), least)
    if drawdown:
        fall = slow.max_drawdown_pct
        assert scores.drawdown[i] * 100 == pytest.approx(fall, rel=TOLERANCE, abs=TOLERANCE)
