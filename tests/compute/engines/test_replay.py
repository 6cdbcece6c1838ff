"""Replay against the oracle over random markets: same trades, same curve, to the bit."""

from __future__ import annotations

from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.reference.engine import SIZINGS, simulate
from tests.compute.engines.fast import replay
from tests.compute.engines.judge import assert_same_replay
from tests.compute.engines.markets import closes, lengths_of_history, level, signals, slices, terms


@pytest.mark.parametrize("sizing_mode", SIZINGS)
@given(data=st.data())
def test_equals_the_oracle(sizing_mode: str, data: st.DataObject) -> None:
    bars = data.draw(lengths_of_history())
    start, stop = data.draw(slices(bars))
    prices, codes = data.draw(closes(bars)), data.draw(signals(bars))
    account: dict[str, Any] = data.draw(terms(sizing_mode)) | {
        "sl_pct": data.draw(level()),
        "tp_pct": data.draw(level()),
        "start": start,
        "stop": stop,
        "end": data.draw(st.sampled_from(["close", "close", "open"])),
    }
    assert_same_replay(replay(prices, codes, **account), simulate(prices, codes, **account))


@given(data=st.data())
def test_stops_that_nothing_touches_change_nothing(data: st.DataObject) -> None:
    bars = data.draw(lengths_of_history())
    prices, codes = data.draw(closes(bars)), data.draw(signals(bars))
    account = data.draw(terms())
    off = replay(prices, codes, **account)
    far = replay(prices, codes, **account, sl_pct=1e15, tp_pct=1e15)
    assert far.trades.records() == off.trades.records()
