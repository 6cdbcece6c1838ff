"""The newest minutes of an instrument: what is at hand, and what may be given up."""

from __future__ import annotations

import numpy as np

from compute.market.candles import SERIES, Candles
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from ingest.rows import DAY_MS, MINUTE_MS
from live.minutes import Minutes

FRAME = TIMEFRAMES["1m"]


def minute(number: int) -> int:
    return DAY_MS + number * MINUTE_MS


def candles(*numbers: int) -> Candles:
    times = np.array([minute(n) for n in numbers], np.int64)
    return Candles(times, *(np.ones(len(times), np.float32) for _ in SERIES))


def test_what_was_dropped_is_not_taken_for_missing() -> None:
    minutes = Minutes()
    minutes.looked_up(Period(minute(0), minute(30)), candles(*range(30)), [], minute(30))
    minutes.forget(minute(20))
    assert minutes.until(minute(20), FRAME) == minute(30)
    assert minutes.until(minute(5), FRAME) == minute(5)  # a run that comes later asks again
    minutes.forget(minute(30))
    assert minutes.until(minute(5), FRAME) == minute(5)


def test_a_minute_is_given_up_when_a_newer_one_is_there() -> None:
    minutes = Minutes()
    minutes.looked_up(Period(minute(0), minute(40)), candles(), [], minute(40))
    assert minutes.until(minute(0), FRAME) == minute(0)
    minutes.looked_up(Period(minute(0), minute(40)), candles(3), [], minute(40))
    assert minutes.until(minute(0), FRAME) == minute(4)
    assert minutes.gone(minute(0), minute(4)).tolist() == [minute(n) for n in range(3)]
    minutes.absent = [Period(minute(1), minute(3))]
    assert minutes.missing(minute(0), minute(5)).tolist() == [minute(0), minute(4)]


def test_a_part_is_shared_until_there_is_more() -> None:
    minutes = Minutes()
    minutes.add(candles(0, 1, 3))
    part = minutes.between(minute(0), minute(4))
    assert part is minutes.between(minute(0), minute(4))
    assert part.ts_open_ms.tolist() == [minute(n) for n in (0, 1, 3)]
    minutes.add(candles(2))
    assert len(minutes.between(minute(0), minute(4))) == 4
    minutes.forget(minute(2))
    assert minutes.between(minute(0), minute(4)).ts_open_ms.tolist() == [minute(2), minute(3)]
