"""The oracle engine against the contract's worked numbers, its own rules and its invariants."""

from __future__ import annotations

import math
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.reference.engine import (
    Simulation,
    max_drawdown_pct,
    return_over_max_drawdown,
    simulate,
)
from tests.golden.worked_examples import (
    CURVE,
    CURVE_EQUITY,
    CURVE_EXPOSURE,
    EXAMPLES,
    WorkedExample,
    matches,
)

TERMS: dict[str, Any] = {
    "direction_mode": "long-short",
    "sizing_mode": "all_in",
    "init_cash_quote": 1000.0,
    "fee_pct": 0.0,
    "slippage_pct": 0.0,
    "fixed_quote": 100.0,
    "safe_profit_percent": 30.0,
}


def bars_and_reasons(simulation: Simulation) -> list[tuple[str, int, int, str]]:
    return [
        (t.direction, t.entry_bar_index, t.exit_bar_index, t.exit_reason) for t in simulation.trades
    ]


@pytest.mark.parametrize("example", [*EXAMPLES, CURVE], ids=lambda example: str(example.number))
def test_worked_example(example: WorkedExample) -> None:
    simulation = simulate(example.closes, example.signals, **example.terms)
    assert bars_and_reasons(simulation) == [trade[:4] for trade in example.trades]
    for trade, expected in zip(simulation.trades, example.trades, strict=True):
        for name, value in expected[4].items():
            assert matches(value, getattr(trade, name)), (name, value, getattr(trade, name))
    assert matches(example.equity, simulation.equity_end)
    assert matches(example.return_pct, simulation.total_return_pct)
    for name, value in example.balances.items():
        assert matches(value, getattr(simulation, name)), name


def test_worked_curve() -> None:
    simulation = simulate(CURVE.closes, CURVE.signals, **CURVE.terms)
    assert len(simulation.equity) == len(CURVE_EQUITY)
    for shown, value in zip(CURVE_EQUITY, simulation.equity, strict=True):
        assert matches(shown, value)
    for shown, value in zip(CURVE_EXPOSURE, simulation.exposure, strict=True):
        assert matches(shown, value)
    # 80 % coverage, 10.5191 % drawdown, one win in three: rows 8, 9 and 14 of the worked table.
    assert simulation.have_position == [True] * 3 + [False] + [True] * 5 + [False]
    assert round(simulation.max_drawdown_pct, 4) == 10.5191
    assert simulation.win_rate_pct == pytest.approx(100 / 3)


@pytest.mark.parametrize("example", EXAMPLES, ids=lambda example: str(example.number))
def test_text_signals_equal_codes(example: WorkedExample) -> None:
    texts = {1: " long", -1: "Short", 0: "NEUTRAL "}
    by_text = simulate(example.closes, [texts[code] for code in example.signals], **example.terms)
    assert by_text == simulate(example.closes, example.signals, **example.terms)


@pytest.mark.parametrize("signal", ["BUY", "", 2, -2, True, 0.5])
def test_unknown_signal_is_refused(signal: Any) -> None:
    with pytest.raises(ValueError, match="signal must be"):
        simulate([1.0, 2.0], [0, signal], **TERMS)


@pytest.mark.parametrize(
    ("changed", "message"),
    [
        ({"direction_mode": "both"}, "direction_mode"),
        ({"sizing_mode": "half"}, "sizing_mode"),
        ({"end": "later"}, "end must be"),
    ],
)
def test_unknown_mode_is_refused(changed: dict[str, Any], message: str) -> None:
    with pytest.raises(ValueError, match=message):
        simulate([1.0], [0], **(TERMS | changed))


@pytest.mark.parametrize("close", [0.0, -1.0, math.nan])
def test_non_positive_close_is_refused(close: float) -> None:
    with pytest.raises(ValueError, match="close must be > 0"):
        simulate([1.0, close], [0, 0], **TERMS)


def test_non_positive_close_outside_the_slice_is_not_seen() -> None:
    simulate([0.0, 1.0, 2.0, -1.0], [1, 1, 0, 0], **TERMS, start=1, stop=3)


def test_open_end_leaves_the_last_position() -> None:
    closed = simulate([100, 110, 121], [1, 1, 1], **TERMS)
    left = simulate([100, 110, 121], [1, 1, 1], **TERMS, end="open")
    assert bars_and_reasons(closed) == [("long", 0, 2, "forced_close")]
    assert left.trades == []
    assert left.position is not None
    assert left.position.entry_bar_index == 0
    # Without costs the mark of the open position is what closing it would have brought.
    assert left.equity == closed.equity
    assert left.have_position == [True, True, True]


def test_empty_slice() -> None:
    empty = simulate([100, 110], [1, 1], **TERMS, start=1, stop=1)
    assert empty.equity == []
    assert (empty.total_return_pct, empty.num_trades, empty.equity_end) == (0.0, 0, 1000.0)
    assert (empty.win_rate_pct, empty.profit_factor, empty.max_drawdown_pct) == (None, 0.0, 0.0)
    assert empty.return_over_max_drawdown == 0.0


def test_profit_factor() -> None:
    ups_and_downs = simulate([100, 110, 110, 99], [1, 0, 1, 0], **TERMS)
    assert [t.net_pnl_quote for t in ups_and_downs.trades] == pytest.approx([100.0, -110.0])
    assert ups_and_downs.profit_factor == pytest.approx(100 / 110)
    assert simulate([100, 110, 110], [1, 0, 0], **TERMS).profit_factor == math.inf
    assert simulate([100, 90, 90], [1, 0, 0], **TERMS).profit_factor == 0.0
    assert simulate([100, 100, 90], [1, 0, 0], **TERMS).profit_factor == 0.0


def test_drawdown_rules() -> None:
    assert max_drawdown_pct([100.0, 80.0, 120.0, 90.0]) == 25.0
    assert max_drawdown_pct([1.0, 2.0, 3.0]) == 0.0
    assert max_drawdown_pct([100.0, -50.0]) == 150.0
    assert max_drawdown_pct([0.0, 1.0]) == math.inf
    assert return_over_max_drawdown(10.0, 5.0) == 2.0
    assert return_over_max_drawdown(10.0, 0.0) == math.inf
    assert return_over_max_drawdown(-10.0, 0.0) == -math.inf
    assert return_over_max_drawdown(0.0, 0.0) == 0.0
    assert return_over_max_drawdown(10.0, math.inf) == -math.inf


MARKETS = st.lists(
    st.tuples(
        st.floats(1.0, 1000.0, width=32),
        st.sampled_from([1, 1, -1, -1, 0]),
    ),
    min_size=1,
    max_size=40,
)
ACCOUNTS = st.fixed_dictionaries(
    {
        "direction_mode": st.sampled_from(["long-short", "long-only", "short-only"]),
        "sizing_mode": st.sampled_from(
            ["all_in", "fixed_quote", "strategy_compound", "strategy_compound_profit_lock"]
        ),
        "init_cash_quote": st.floats(50.0, 2000.0),
        "fee_pct": st.sampled_from([0.0, 0.1, 2.0]),
        "slippage_pct": st.sampled_from([0.0, 0.05]),
        "fixed_quote": st.floats(10.0, 500.0),
        "safe_profit_percent": st.sampled_from([0.0, 30.0, 100.0]),
        "sl_pct": st.sampled_from([None, 0.0, 3.0]),
        "tp_pct": st.sampled_from([None, 0.0, 5.0]),
    }
)


@given(market=MARKETS, terms=ACCOUNTS)
def test_invariants(market: list[tuple[float, int]], terms: dict[str, Any]) -> None:
    closes = [close for close, _ in market]
    signals = [signal for _, signal in market]
    done = simulate(closes, signals, **terms)
    allowed = {"long-only": {"long"}, "short-only": {"short"}}.get(
        terms["direction_mode"], {"long", "short"}
    )
    assert {t.direction for t in done.trades} <= allowed
    assert [t.trade_id for t in done.trades] == list(range(1, done.num_trades + 1))
    for earlier, later in zip(done.trades, done.trades[1:], strict=False):
        assert earlier.entry_bar_index < later.entry_bar_index
        assert earlier.exit_bar_index <= later.entry_bar_index
    for trade in done.trades:
        side = 1 if trade.direction == "long" else -1
        entry = trade.entry_bar_index
        assert signals[entry] == side
        assert entry == 0 or signals[entry - 1] != side
        assert trade.entry_bar_index <= trade.exit_bar_index
        held = range(entry, trade.exit_bar_index)
        assert all(signals[bar] == side for bar in held)
        if trade.exit_reason == "signal_exit":
            assert signals[trade.exit_bar_index] != side
    # Every quote unit is the initial cash or some trade's net profit; locked profit stays locked.
    profits = math.fsum(t.net_pnl_quote for t in done.trades)
    turnover = math.fsum(abs(t.net_pnl_quote) for t in done.trades) + terms["init_cash_quote"]
    expected = terms["init_cash_quote"] + profits
    assert done.equity_end == pytest.approx(expected, rel=1e-9, abs=turnover * 1e-9)
    assert done.safe == pytest.approx(math.fsum(t.locked_profit_quote for t in done.trades))
    assert done.equity[-1] == done.available + done.safe
    if done.available <= 0.0:
        assert done.num_trades > 0


@given(market=MARKETS, terms=ACCOUNTS, cut=st.integers(0, 40))
def test_no_bar_sees_the_future(
    market: list[tuple[float, int]], terms: dict[str, Any], cut: int
) -> None:
    """A prefix with an open end trades and marks exactly as the whole does on those bars."""
    closes = [close for close, _ in market]
    signals = [signal for _, signal in market]
    cut = min(cut, len(market))
    whole = simulate(closes, signals, **terms, end="open")
    part = simulate(closes[:cut], signals[:cut], **terms, end="open")
    assert part.equity == whole.equity[:cut]
    assert part.trades == [t for t in whole.trades if t.exit_bar_index < cut]


@given(market=MARKETS, terms=ACCOUNTS, warmup=st.integers(0, 10))
def test_a_slice_is_its_own_history(
    market: list[tuple[float, int]], terms: dict[str, Any], warmup: int
) -> None:
    """Bars outside the slice change nothing but the bar numbers."""
    closes = [close for close, _ in market]
    signals = [signal for _, signal in market]
    alone = simulate(closes, signals, **terms)
    stop = warmup + len(market)
    inside = simulate(
        [7.0] * warmup + closes + [9.0],
        [1] * warmup + signals + [-1],
        **terms,
        start=warmup,
        stop=stop,
    )
    assert inside.equity == alone.equity
    assert [(t.entry_bar_index - warmup, t.exit_bar_index - warmup) for t in inside.trades] == [
        (t.entry_bar_index, t.exit_bar_index) for t in alone.trades
    ]
