"""Bars made as minutes come are those of the timeline over all of them."""

from __future__ import annotations

import numpy as np
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import timeline
from live.rollup import Rollup

MINUTE = TIMEFRAMES["1m"]
START_MS = 1_700_006_400_000 // 86_400_000 * 86_400_000


@given(
    code=st.sampled_from(["1m", "5m", "15m", "1h"]),
    seed=st.integers(0, 2**32 - 1),
    share=st.sampled_from([0.05, 0.5, 0.97, 1.0]),
    cuts=st.lists(st.integers(0, 600), max_size=12),
)
def test_bars_are_those_of_the_timeline(
    code: str, seed: int, share: float, cuts: list[int]
) -> None:
    frame, rng = TIMEFRAMES[code], np.random.default_rng(seed)
    here = np.flatnonzero(rng.random(600) < share)
    here = here if len(here) else np.array([300])
    prices = np.exp(rng.standard_normal((5, len(here)))).astype(np.float32)
    minutes = Candles(START_MS + here * MINUTE.ms, *prices)
    rollup, made = Rollup(frame), []
    begin = 0
    for cut in [*sorted(cuts), 600]:
        until_ms = START_MS + cut * MINUTE.ms
        end = int(np.searchsorted(minutes.ts_open_ms, until_ms))
        bars = rollup.bars(minutes.slice(begin, end), until_ms)
        begin = end
        if bars is not None:
            made.append(bars)
    assert rollup.pending == 0

    period = Period(START_MS + 1, START_MS + 600 * MINUTE.ms + 1)
    expected = timeline(minutes, MINUTE, Instrument(1, "A"), frame, period, 1).candles
    for name in ("ts_open_ms", "open", "high", "low", "close", "volume"):
        joined = np.concatenate([getattr(bars, name) for bars in made])
        np.testing.assert_array_equal(joined, getattr(expected, name))


@pytest.mark.parametrize("minutes", [1, 4])
def test_a_bar_that_has_not_ended_is_not_made(minutes: int) -> None:
    times = START_MS + np.arange(minutes) * MINUTE.ms
    candles = Candles(times, *np.ones((5, minutes), np.float32))
    rollup = Rollup(TIMEFRAMES["5m"])
    assert rollup.bars(candles, START_MS + minutes * MINUTE.ms) is None
    assert rollup.pending == minutes
