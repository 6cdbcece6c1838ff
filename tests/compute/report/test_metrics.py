from __future__ import annotations

import math

import numpy as np
import pytest

from compute.account import terms
from compute.bits import pack
from compute.replay import replay
from compute.report.metrics import (
    max_drawdown_pct,
    metrics,
    profit_factor,
    return_over_drawdown,
)
from tests.compute.report.sample import crossing, prices, run


def test_agrees_with_the_engine_to_the_bit() -> None:
    closes = prices(4_000)
    signals = np.array(list(crossing(closes, 7, 23)))
    times = np.arange(4_000, dtype=np.int64)
    made = replay(closes, times, pack(signals == "L"), pack(signals == "S"), terms())
    found = metrics(made, made.trades, init_cash=10_000.0)
    assert found.total_return_pct == made.total_return_pct
    assert found.max_drawdown_pct == 100.0 * made.max_drawdown
    assert found.profit_factor == made.won / made.lost
    assert found.win_rate_pct == 100.0 * made.num_wins / len(made.trades)
    assert found.num_trades == len(made.trades) > 100


def test_by_hand() -> None:
    made = run([100, 120, 100, 100, 90], "LNNLN", init=1000.0)
    found = metrics(made, made.trades, init_cash=1000.0)
    assert found.total_return_pct == pytest.approx(8.0)
    assert found.max_drawdown_pct == pytest.approx(10.0)
    assert found.return_over_max_drawdown == pytest.approx(0.8)
    assert found.profit_factor == pytest.approx(200 / 120)
    assert found.win_rate_pct == 50.0


def test_without_trades_everything_is_zero_and_the_win_rate_unknown() -> None:
    made = run([100, 120], "NN")
    found = metrics(made, made.trades, init_cash=10_000.0)
    assert found.record() == {
        "total_return_pct": 0.0,
        "max_drawdown_pct": 0.0,
        "return_over_max_drawdown": 0.0,
        "profit_factor": 0.0,
        "win_rate_pct": None,
        "num_trades": 0,
    }


def test_infinities_order_and_are_null_in_records() -> None:
    made = run([100, 120, 130], "LLN")
    found = metrics(made, made.trades, init_cash=10_000.0)
    assert found.profit_factor == found.return_over_max_drawdown == math.inf
    assert found.record()["profit_factor"] is None


@pytest.mark.parametrize(
    ("gain", "drop", "ratio"),
    [
        (5.0, 2.0, 2.5),
        (5.0, 0.0, math.inf),
        (0.0, 0.0, 0.0),
        (-5.0, 0.0, -math.inf),
        (-150.0, math.inf, -math.inf),
    ],
)
def test_return_over_drawdown(gain: float, drop: float, ratio: float) -> None:
    assert return_over_drawdown(gain, drop) == ratio


def test_undefined_drawdown_ranks_last() -> None:
    assert max_drawdown_pct(np.array([0.0, 1.0])) == math.inf
    assert max_drawdown_pct(np.empty(0)) == 0.0
    assert max_drawdown_pct(np.array([100.0, 80.0, 90.0])) == pytest.approx(20.0)


def test_profit_factor_of_losses_alone_is_zero() -> None:
    assert profit_factor(np.array([-1.0, 0.0])) == 0.0
