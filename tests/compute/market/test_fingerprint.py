from __future__ import annotations

import hashlib
import struct

import numpy as np

from compute.market.candles import Candles
from compute.market.fingerprint import fingerprint
from compute.market.instrument import Instrument
from compute.market.period import Period
from compute.market.timeframe import TIMEFRAMES
from compute.market.timeline import timeline

MINUTE = TIMEFRAMES["1m"]
BTC = Instrument(1, "btcusdt")


def market(count: int = 60) -> Candles:
    price = 100 + np.arange(count, dtype=np.float32)
    times = np.arange(count, dtype=np.int64) * MINUTE.ms
    return Candles(times, price, price + 1, price - 1, price, price)


def fingerprinted(candles: Candles, *, warmup_bars: int = 4, timeframe: str = "1m") -> str:
    period = Period(30 * MINUTE.ms, 50 * MINUTE.ms)
    return timeline(candles, MINUTE, BTC, TIMEFRAMES[timeframe], period, warmup_bars).fingerprint


def test_layout_is_text_bounds_then_whole_columns_little_endian() -> None:
    two = Candles(
        *(np.array([a, b]) for a, b in [(60_000, 120_000), (1, 2), (3, 4), (1, 1), (2, 3), (5, 6)])
    )
    expected = hashlib.sha256(
        b"1:BTCUSDT:1m"
        + struct.pack("<qq", 60_000, 180_000)
        + struct.pack("<qq", 60_000, 120_000)
        + struct.pack("<10f", 1, 2, 3, 4, 1, 1, 2, 3, 5, 6)
    ).hexdigest()
    assert fingerprint(BTC, MINUTE, Period(60_000, 180_000), two) == expected


def test_candles_outside_the_load_window_do_not_count() -> None:
    whole = market()
    assert fingerprinted(whole) == fingerprinted(whole.slice(26, 50))
    assert fingerprinted(whole) != fingerprinted(whole.slice(27, 50))


def test_order_duplicates_and_absent_rows_do_not_count() -> None:
    whole = market()
    rng = np.random.default_rng(0)
    shuffled = whole.take(rng.permutation(len(whole)))
    doubled = whole.take(np.repeat(np.arange(len(whole)), 2))
    expected = fingerprinted(whole)
    assert fingerprinted(shuffled) == expected
    assert fingerprinted(doubled) == expected

    close = whole.close.copy()
    close[40] = np.nan
    absent = Candles(whole.ts_open_ms, whole.open, whole.high, whole.low, close, whole.volume)
    without = whole.take(np.delete(np.arange(len(whole)), 40))
    assert fingerprinted(absent) == fingerprinted(without) != expected


def test_every_value_instrument_frame_and_bound_counts() -> None:
    whole = market()
    seen = {fingerprinted(whole), fingerprinted(whole, warmup_bars=5)}
    for position in range(5):
        columns = [column.copy() for column in whole.series()]
        columns[position][30] = np.nextafter(columns[position][30], np.float32(1e9))
        seen.add(fingerprinted(Candles(whole.ts_open_ms, *columns)))
    load = Period(0, 3_600_000)
    seen.add(fingerprint(BTC, MINUTE, load, whole))
    seen.add(fingerprint(Instrument(2, "BTCUSDT"), MINUTE, load, whole))
    seen.add(fingerprint(BTC, TIMEFRAMES["5m"], load, whole))
    assert len(seen) == 10


def test_the_timeframe_counts_only_through_the_window_it_loads() -> None:
    # 15 bars of 1m and 3 bars of 5m load the same window of the same candles.
    assert fingerprinted(market(), warmup_bars=15) == fingerprinted(
        market(), warmup_bars=3, timeframe="5m"
    )
