from __future__ import annotations

import json
from dataclasses import replace

import numpy as np
from hypothesis import given
from hypothesis import strategies as st

from compute.report.curves import MAX_TRADES, extremes, market_curve, rounded, variant_curve
from tests.compute.report.sample import crossing, prices, run


@given(
    st.lists(st.floats(-1e6, 1e6), min_size=0, max_size=400),
    st.integers(1, 20),
)
def test_extremes_keep_ends_and_every_buckets_reach(values: list[float], buckets: int) -> None:
    array = np.array(values, float)
    kept = extremes(array, buckets).tolist()
    assert kept == sorted(set(kept))
    assert len(kept) <= 2 * buckets + 2
    if not values:
        return
    assert (kept[0], kept[-1]) == (0, len(values) - 1)
    chosen = [values[i] for i in kept]
    assert (min(chosen), max(chosen)) == (min(values), max(values))


def test_one_bar_spike_survives() -> None:
    values = np.zeros(35_000)
    values[17_123], values[20_001] = 9.0, -9.0
    kept = extremes(values, 100)
    assert 17_123 in kept
    assert 20_001 in kept
    assert len(kept) <= 202


def test_rounded_is_short_and_finite() -> None:
    assert rounded([1.23456789, 0.1 + 0.2, float("nan"), float("inf"), 1e9 + 1]) == [
        1.234568, 0.3, None, None, 1_000_000_000.0,
    ]  # fmt: skip


def test_curve_of_a_long_run_is_small_and_true() -> None:
    closes = prices(35_040)
    made = run(closes.tolist(), crossing(closes, 4, 14), fee=0.00075, start=200, bar_ms=900_000)
    curve = variant_curve(made, variant=2, init_cash=10_000.0, buckets=500)
    assert len(json.dumps(curve, allow_nan=False)) < 400_000
    equity = curve["equity"]
    assert len(equity["bars"]) <= 1_002
    assert min(v for v in equity["values"] if v is not None) == rounded([made.equity.min()])[0]
    peak = np.maximum.accumulate(made.equity)
    deepest = min(v for v in curve["drawdown_pct"]["values"] if v is not None)
    assert deepest == rounded([-100 * (1 - made.equity / peak).max()])[0]
    trades = curve["trades"]
    assert trades["total"] == len(trades["net_pct"]) == len(made.trades.net)
    assert trades["entry_bar"][0] == made.trades.entry_bar[0] - 200
    assert sum(trades["reason_counts"]) == trades["total"]
    market = market_curve(made)
    assert (market["bars"], market["bar_ms"]) == (35_040, 900_000)
    assert market["close"]["values"][0] == rounded([closes[0]])[0]


def test_more_trades_than_a_page_can_show_keep_the_largest() -> None:
    closes = np.tile([100.0, 101.0, 100.0, 99.0], 3_000)
    made = run(closes.tolist(), "LNSN" * 3_000)
    made.trades = replace(made.trades, net=made.trades.net * 0 + 1.0)
    made.trades.net[[5, 4_321]] = (-50.0, 70.0)
    marks = variant_curve(made, variant=0, init_cash=1.0)["trades"]
    assert marks["total"] == 6_000
    assert len(marks["number"]) == MAX_TRADES
    assert marks["number"] == sorted(marks["number"])
    assert {6, 4_322} <= set(marks["number"])


def test_no_bars_and_undefined_drawdown() -> None:
    empty = run([], "")
    assert market_curve(empty)["bars"] == 0
    assert variant_curve(empty, variant=0, init_cash=1.0)["equity"]["bars"] == []
    lost = run([100, 90], "NN")
    lost.equity[:] = (-1.0, 2.0)
    assert variant_curve(lost, variant=0, init_cash=1.0)["drawdown_pct"]["values"] == []
