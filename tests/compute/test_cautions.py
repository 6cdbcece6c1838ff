"""What a run says against itself: unsettled indicators, made-up bars, an empty holdout."""

from __future__ import annotations

import copy
from typing import Any

import pytest

from compute.backtest import Backtest, resolve
from compute.cautions import cautions, taken_for, unsettled_bars
from compute.market.candles import Candles
from compute.market.instrument import Instrument
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import Timeline, timeline
from compute.request import parse_request
from compute.settings import Defaults
from ingest.synthetic import walk_candles

HOUR = TIMEFRAMES["1h"]
START_MS = 1_767_225_600_000  # 2026-01-01
EMA_SETTLE = 35  # ceil(3.5 (9 + 1))
BODY: dict[str, Any] = {
    "time_range": {"start": "2026-01-11T00:00:00Z", "end": "2026-01-21T00:00:00Z"},
    "template": {
        "instrument_id": {"market_id": 1, "symbol": "BTCUSDT"},
        "timeframe": "1h",
        "indicator_grids": [
            {
                "indicator_id": "ma.ema",
                "source": {"mode": "explicit", "values": ["close"]},
                "params": {"window": {"mode": "explicit", "values": [5, 9]}},
            }
        ],
    },
}


def prepared(candles: Candles, **changed: Any) -> tuple[Backtest, Timeline]:
    job = resolve(parse_request({**copy.deepcopy(BODY), **changed}), Defaults())
    return job, timeline(candles, HOUR, job.instrument, HOUR, job.period, job.warmup_bars)


def hours(days: int, first_day: int = 0) -> Candles:
    start_ms = START_MS + first_day * 86_400_000
    return walk_candles(seed=2, bars=24 * days, frame=HOUR, start_ms=start_ms)


def test_a_run_with_enough_history_has_none() -> None:
    assert cautions(*prepared(hours(30))) == []


def test_rule_parameters_of_an_absent_indicator_are_said() -> None:
    signals = {"momentum.rsi": {"long_threshold": {"mode": "explicit", "values": [50]}}}
    template = {**BODY["template"], "signal_grids": signals}
    (found,) = cautions(*prepared(hours(30), template=template))
    assert found.code == "signals_ignored"
    assert "momentum.rsi" in found.message


@pytest.mark.parametrize(("warmup", "early"), [(1, 35), (20, 16), (35, 1), (36, 0)])
def test_a_warmup_shorter_than_the_settling_is_said(warmup: int, early: int) -> None:
    job, line = prepared(hours(30), warmup_bars=warmup)
    assert unsettled_bars(job, line) == early
    found = cautions(job, line)
    assert [caution.code for caution in found] == (["unsettled"] if early else [])
    if early:
        assert f"the first {early} of 240 bars" in found[0].message
        assert f"send warmup_bars {EMA_SETTLE + 1} or more" in found[0].message


def test_candles_that_begin_with_the_period_are_said() -> None:
    job, line = prepared(hours(20, first_day=10))
    assert unsettled_bars(job, line) == EMA_SETTLE
    (caution,) = cautions(job, line)
    assert "the candles begin too late for the 36 bars of warm-up" in caution.message


def test_candles_without_a_symbol_are_said() -> None:
    btc = Instrument(1, "BTCUSDT")
    assert taken_for(btc, ()) == taken_for(btc, ("market_id",)) == []
    (caution,) = taken_for(btc, ("symbol",))
    assert caution.code == "instrument_assumed"
    assert "name no symbol: they are taken for 1:BTCUSDT" in caution.message
    (caution,) = taken_for(btc, ("market_id", "symbol"))
    assert "name no market_id and no symbol" in caution.message


def test_made_up_bars_and_an_empty_holdout_are_said() -> None:
    job, line = prepared(hours(14), validation={"holdout_fraction": 0.3})
    assert [caution.code for caution in cautions(job, line)] == [
        "carried_forward",
        "holdout_without_candles",
    ]
    full, whole = prepared(hours(30), validation={"holdout_fraction": 0.3})
    assert cautions(full, whole) == []
