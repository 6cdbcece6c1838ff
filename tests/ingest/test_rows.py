"""Rows of market data: the rules of a candle, for a table and for one."""

from __future__ import annotations

import math
from typing import Any

import pyarrow as pa
import pytest
from hypothesis import given
from hypothesis import strategies as st

from compute.errors import InvalidInput
from compute.market.instrument import Instrument
from ingest.rows import (
    CANDLE_SCHEMA,
    MINUTE_MS,
    Candle,
    Fault,
    Origin,
    faults,
    floor_day,
    floor_minute,
    instrument_key,
    table_of,
    whole,
)

BTC = Instrument(1, "BTCUSDT")
GOOD = Candle(BTC, 1_700_000_040_000, 1.0, 3.0, 0.5, 2.0, 0.0)

prices = st.sampled_from([1.0, 2.0, 3.0, 0.0, -1.0, math.nan, math.inf])
volumes = st.sampled_from([0.0, 1.5, -1.0, math.nan, math.inf])
times = st.sampled_from(
    [0, 60_000, 60_001, -60_000, 1_700_000_040_000, 4_102_444_740_000, 4_102_444_800_000]
)
candles = st.builds(
    Candle,
    st.just(BTC),
    times,
    prices,
    prices,
    prices,
    prices,
    volumes,
    volumes | st.none(),
    st.integers(0, 9) | st.none(),
    volumes | st.none(),
    volumes | st.none(),
)


@given(st.lists(candles, max_size=6))
def test_a_table_and_a_candle_have_the_same_rules(made: list[Candle]) -> None:
    found = faults(table_of(made, Origin("rest", 1)))
    assert [fault.row for fault in found] == [at for at, one in enumerate(made) if not whole(one)]


@pytest.mark.parametrize(
    ("changed", "reason"),
    [
        ({"ts_open_ms": 1_700_000_040_001}, "ts_open is not on a whole minute"),
        ({"ts_open_ms": -60_000}, "ts_open lies outside the years 1970 to 2099"),
        ({"open": math.nan}, "open is not finite and positive"),
        ({"low": 0.0}, "low is not finite and positive"),
        ({"high": 1.5}, "high is below open or close"),
        ({"low": 1.5}, "low is above open or close"),
        ({"volume_base": -1.0}, "volume_base is negative or not finite"),
        ({"volume_base": None}, "volume_base is missing"),
        ({"volume_quote": math.inf}, "volume_quote is negative or not finite"),
    ],
)
def test_a_fault_says_why(changed: dict[str, Any], reason: str) -> None:
    values = {name: getattr(GOOD, name) for name in GOOD.__slots__}
    bad = Candle(**{**values, **changed})
    assert faults(table_of([GOOD, bad, GOOD], Origin("ws", 1))) == [Fault(1, reason)]
    assert whole(GOOD)
    assert not whole(bad)


def test_a_table_has_an_origin_a_candle_or_one_for_all() -> None:
    other = Candle(Instrument(4, "ethusdt"), 60_000, 1.0, 1.0, 1.0, 1.0, 2.0, 3.0, 4, 5.0, 6.0)
    rows = table_of([GOOD, other], [Origin("ws", 5, "id"), Origin("rest", 6)])
    assert rows.schema == CANDLE_SCHEMA
    assert rows.column("source").to_pylist() == ["ws", "rest"]
    assert rows.column("ingested_at").cast(pa.int64()).to_pylist() == [5, 6]
    assert rows.column("ingest_id").to_pylist() == ["id", None]
    assert rows.column("instrument_key").to_pylist() == [
        "binance:spot:BTCUSDT",
        "bybit:futures:ETHUSDT",
    ]
    assert rows.column("trades_count").to_pylist() == [None, 4]
    assert table_of([], Origin("ws", 1)) == CANDLE_SCHEMA.empty_table()
    with pytest.raises(InvalidInput, match="2 candles need as many origins, got 1"):
        table_of([GOOD, other], [Origin("ws", 5)])
    with pytest.raises(InvalidInput, match="source 'socket' is none of ws, rest, file"):
        Origin("socket", 1)
    with pytest.raises(InvalidInput, match="market 7 is unknown"):
        instrument_key(Instrument(7, "X"))


@given(st.integers(-(10**15), 10**15))
def test_floors_are_at_or_before(ms: int) -> None:
    for floored, step_ms in ((floor_minute(ms), MINUTE_MS), (floor_day(ms), 86_400_000)):
        assert floored % step_ms == 0
        assert floored <= ms < floored + step_ms
