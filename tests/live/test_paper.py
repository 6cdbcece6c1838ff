"""The paper account, bar by bar, is the replay of the same bars, last position left open."""

from __future__ import annotations

import json

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.account import DIRECTION_MODES, SIZING_MODES, terms
from compute.bits import pack
from compute.replay import replay, stop_rate
from live.paper import Account, PaperBroker, Trade, Trading

MINUTE_MS = 60_000
VOTES = st.lists(st.sampled_from([-1, -1, 0, 1, 1]), min_size=1, max_size=200)


@given(
    votes=VOTES,
    seed=st.integers(0, 2**32 - 1),
    sizing=st.sampled_from(SIZING_MODES),
    direction=st.sampled_from(DIRECTION_MODES),
    sl=st.sampled_from([None, 0.5, 3.0]),
    tp=st.sampled_from([None, 0.5, 3.0]),
    fee=st.sampled_from([0.0, 0.1, 40.0]),
    restart=st.integers(0, 200),
)
def test_an_account_is_the_replay_of_its_bars(
    votes: list[int],
    seed: int,
    sizing: str,
    direction: str,
    sl: float | None,
    tp: float | None,
    fee: float,
    restart: int,
) -> None:
    noise = np.random.default_rng(seed).standard_normal(len(votes))
    close = (100 * np.exp(np.cumsum(0.02 * noise))).astype(np.float32).astype(np.float64)
    rules = terms(fee_pct=fee, sizing_mode=sizing, direction_mode=direction, fixed_quote=3_000)
    trading = Trading(PaperBroker(rules), rules, stop_rate(sl), stop_rate(tp))
    account, steps = trading.opened(), []
    for bar, vote in enumerate(votes):
        if bar == restart:
            account = Account.of_record(json.loads(json.dumps(account.record())))
        account, step = trading.step(account, bar * MINUTE_MS, float(close[bar]), vote)
        steps.append(step)

    side = np.array(votes)
    times = (np.arange(len(votes), dtype=np.int64) + 1) * MINUTE_MS
    expected = replay(
        close, times, pack(side > 0), pack(side < 0), rules, sl_pct=sl, tp_pct=tp, end="open"
    )
    np.testing.assert_array_equal([step.equity for step in steps], expected.equity)
    closed = [step.closed for step in steps if step.closed]
    assert [_fields(trade) for trade in closed] == [
        tuple(record.values()) for record in expected.trades.records()
    ]
    assert (account.balance.available, account.balance.safe) == (expected.available, expected.safe)
    open_ = expected.position
    if open_ is None:
        assert account.position is None
    else:
        at = account.position
        assert at is not None
        assert (at.side, at.bar_ms // MINUTE_MS, at.fill, at.quantity, at.quote, at.fee) == (
            open_.side, open_.entry_bar, open_.entry_fill, open_.qty_base, open_.entry_quote,
            open_.entry_fee,
        )  # fmt: skip


def _fields(trade: Trade) -> tuple[object, ...]:
    """A trade in the order of `compute.trades.Trades.records`."""
    return (
        trade.number, "long" if trade.side > 0 else "short",
        trade.entry_bar_ms // MINUTE_MS, trade.exit_bar_ms // MINUTE_MS,
        trade.entry_fill, trade.exit_fill, trade.quantity, trade.entry_quote, trade.exit_quote,
        trade.entry_fee, trade.exit_fee, trade.gross, trade.net, trade.locked, trade.reason,
    )  # fmt: skip


def test_a_ruined_account_opens_nothing() -> None:
    rules = terms(fee_pct=99.0)
    trading = Trading(PaperBroker(rules), rules)
    account, opened = trading.opened(), []
    for bar, vote in enumerate([1, 0, 1]):
        account, step = trading.step(account, bar * MINUTE_MS, 100.0, vote)
        opened.append(step.opened is not None)
    assert account.balance.available <= 0
    assert opened == [True, False, False]


@pytest.mark.parametrize("broken", [{}, {"balance": {}}, {"balance": {"other": 1}}])
def test_a_record_that_is_none_is_refused(broken: dict[str, object]) -> None:
    with pytest.raises((KeyError, TypeError)):
        Account.of_record(broken)
