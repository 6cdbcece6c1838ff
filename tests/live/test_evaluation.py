"""A strategy minute by minute is its back-test over the same minutes, to the bit."""

from __future__ import annotations

from typing import Any

import numpy as np
import pytest

from compute.backtest import Backtest
from compute.market.candles import Candles
from compute.settings import Defaults
from ingest.rows import MINUTE_MS
from live.batch import batch
from live.evaluation import Bar, Course, Evaluation
from live.paper import Account
from live.strategies.spec import backtest_of_spec

START_MS = 1_700_006_400_000 // 86_400_000 * 86_400_000


def strategy(timeframe: str, warmup: int = 30, **more: Any) -> Backtest:
    spec = {
        "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
        "timeframe": timeframe,
        "indicators": [
            {"id": "ma.ema", "inputs": {"source": "close"}, "params": {"window": 9}},
            {"id": "momentum.rsi", "inputs": {"source": "hlc3"}, "params": {"window": 7}},
            {"id": "trend.donchian", "params": {"window": 12}},
        ],
        "signals": {"momentum.rsi": {"long_threshold": 51, "short_threshold": 49}},
        "warmup_bars": warmup,
        **more,
    }
    return backtest_of_spec(spec, Defaults())


def market(minutes: int, holes: float, seed: int = 1) -> Candles:
    rng = np.random.default_rng(seed)
    close = 100 * np.exp(np.cumsum(0.002 * rng.standard_normal(minutes)))
    spread = 1 + 0.001 * rng.random((2, minutes))
    columns = np.array(
        [np.roll(close, 1), close * spread[0], close / spread[1], close, rng.random(minutes)]
    )
    columns[0, 0] = close[0]
    here = np.flatnonzero(rng.random(minutes) >= holes)
    return Candles(START_MS + here * MINUTE_MS, *columns[:, here].astype(np.float32))


def part(minutes: Candles, start_ms: int, stop_ms: int) -> Candles:
    first, last = np.searchsorted(minutes.ts_open_ms, [start_ms, stop_ms])
    return minutes.slice(int(first), int(last))


def equal_to_batch(job: Backtest, course: Course, minutes: Candles, bars: list[Bar]) -> None:
    expected = batch(job, course, minutes, bars[-1].step.bar_ms + job.timeframe.ms)
    np.testing.assert_array_equal([bar.step.bar_ms for bar in bars], expected.bar_ms)
    np.testing.assert_array_equal([bar.step.vote for bar in bars], expected.votes)
    np.testing.assert_array_equal([bar.step.equity for bar in bars], expected.replay.equity)
    trades = [bar.step.closed for bar in bars if bar.step.closed]
    np.testing.assert_array_equal([trade.net for trade in trades], expected.replay.trades.net)
    assert len(trades) > 3


@pytest.mark.parametrize("holes", [0.0, 0.1])
@pytest.mark.parametrize("timeframe", ["1m", "5m", "15m"])
def test_it_is_the_back_test(timeframe: str, holes: float) -> None:
    job = strategy(timeframe, risk={"sl_enabled": True, "sl_pct": 0.4})
    minutes = market(2_400, holes)
    course = Course.begun(job, START_MS + 600 * MINUTE_MS + 5)
    live = Evaluation(job, course)
    bars: list[Bar] = []
    rng = np.random.default_rng(5)
    restart_ms = START_MS + 1_500 * MINUTE_MS
    while live.next_ms < START_MS + 2_400 * MINUTE_MS:
        if live.next_ms >= restart_ms:  # a new process with the account of the old one
            restart_ms = START_MS + 10**6 * MINUTE_MS
            account = Account.of_record(live.account.record())
            live, before_ms = Evaluation(job, live.course, account), live.next_ms
            live.replay(part(minutes, course.anchor_ms, before_ms), before_ms)
        until_ms = live.next_ms + int(rng.integers(1, 40)) * MINUTE_MS
        bars += live.advance(part(minutes, live.next_ms, until_ms), until_ms)
    assert live.course.trading_from_ms == course.earliest_ms
    equal_to_batch(job, live.course, minutes, bars)


def test_a_short_history_delays_the_first_trade() -> None:
    job = strategy("5m", warmup=40)
    minutes = market(1_200, 0.0)
    course = Course.begun(job, START_MS + 60 * MINUTE_MS)
    live, bars = Evaluation(job, course), []
    warm: list[int] = []
    while live.next_ms < START_MS + 1_200 * MINUTE_MS:
        until_ms = live.next_ms + MINUTE_MS
        bars += live.advance(part(minutes, live.next_ms, until_ms), until_ms)
        warm += [until_ms] if live.warm else []
    first_ms = START_MS + 40 * 5 * MINUTE_MS
    assert live.course.trading_from_ms == first_ms
    assert warm[0] == first_ms - 5 * MINUTE_MS
    equal_to_batch(job, live.course, minutes, bars)
