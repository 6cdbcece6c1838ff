"""What holds for every exchange, and that nobody else knows one by name."""

from __future__ import annotations

import json
import re
from pathlib import Path
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ingest
from compute.errors import InvalidInput
from compute.market.instrument import MARKETS as NAMES
from compute.market.instrument import Instrument
from ingest.errors import ExchangeError, MalformedFrame
from ingest.exchanges.exchange import Frame
from ingest.exchanges.registry import EXCHANGES, MARKETS, exchange_of, market
from ingest.rows import instrument_key, whole
from tests.ingest.exchanges import frames
from tests.ingest.exchanges.conversation import hold

KLINES = {
    1: frames.BINANCE_KLINES,
    2: frames.BINANCE_KLINES,
    3: frames.BYBIT_KLINES,
    4: frames.BYBIT_KLINES,
}
CLOSED = {
    1: frames.BINANCE_CLOSED,
    2: frames.BINANCE_CLOSED,
    3: frames.BYBIT_CLOSED,
    4: frames.BYBIT_CLOSED,
}
INSTRUMENTS = {
    1: frames.BINANCE_SPOT_INFO,
    2: frames.BINANCE_USD_M_INFO,
    3: frames.BYBIT_SPOT_INSTRUMENTS,
    4: frames.BYBIT_LINEAR_INSTRUMENTS,
}
ODD: st.SearchStrategy[Any] = st.one_of(
    st.none(),
    st.booleans(),
    st.integers(),
    st.floats(),
    st.text(max_size=8),
    st.sampled_from(["NaN", "-1", "1e999", "0", ""]),
    st.lists(st.integers(), max_size=2),
    st.dictionaries(st.text(max_size=3), st.integers(), max_size=2),
)


def test_the_registry_has_each_market_once() -> None:
    assert list(MARKETS) == [1, 2, 3, 4]
    assert sum(len(exchange.markets) for exchange in EXCHANGES) == len(MARKETS)
    assert len({one.code for one in MARKETS.values()}) == len(MARKETS)
    for market_id, one in MARKETS.items():
        assert market(market_id) is one
        exchange = exchange_of(one)
        assert exchange is exchange_of(market_id)
        assert one.exchange == exchange.name
        assert one.raw_table == f"raw_{exchange.name}_klines_1m"
        assert NAMES[market_id] == one.code.replace(":", " ")
        assert instrument_key(Instrument(market_id, "BTCUSDT")) == f"{one.code}:BTCUSDT"


@pytest.mark.parametrize("ask", [market, exchange_of])
def test_an_unknown_market_is_refused_with_the_known_ones(ask) -> None:
    with pytest.raises(InvalidInput, match=r"market 9 is unknown; known are 1 \(.*4 \("):
        ask(9)


def test_nobody_else_knows_an_exchange_by_name() -> None:
    """Only its module and the registry name one: every other file works for a third exchange."""
    package = Path(str(ingest.__file__)).parent
    names = re.compile("|".join(exchange.name for exchange in EXCHANGES), re.IGNORECASE)
    allowed = {package / "exchanges" / f"{exchange.name}.py" for exchange in EXCHANGES}
    allowed.add(package / "exchanges" / "registry.py")
    knowing = [
        f"{path.relative_to(package)}:{number}: {line.strip()}"
        for path in sorted(package.rglob("*.py"))
        if path not in allowed
        for number, line in enumerate(path.read_text(encoding="utf-8").splitlines(), 1)
        if names.search(line)
    ]
    assert knowing == []


@pytest.mark.parametrize("market_id", MARKETS)
def test_streams_fit_and_connections_are_kept_alive(market_id: int) -> None:
    one, exchange = MARKETS[market_id], exchange_of(market_id)
    assert exchange.max_streams_per_socket(one) >= 200
    assert (exchange.ping_every_s is None) == (exchange.ping_frame() is None)
    symbols = [f"A{i}USDT" for i in range(25)]
    asked = exchange.stream_url("ws://host/path", one, symbols) + "".join(
        exchange.subscribe_frames(one, symbols)
    )
    assert all(asked.upper().count(f"{symbol}") >= 1 for symbol in symbols)


@pytest.mark.parametrize("market_id", MARKETS)
@pytest.mark.parametrize(
    "text",
    [
        "",
        "{",
        "null",
        "[]",
        "17",
        '"text"',
        b"\xff\xfe",
        '{"data":{"e":"kline"},"topic":"kline.1.BTCUSDT"}',
        '{"data":{"e":"kline","k":[]},"topic":"kline.1.X"}',
        '{"data":[17],"topic":"kline.1.X"}',
    ],
)
def test_frames_that_are_none(market_id: int, text: str | bytes) -> None:
    with pytest.raises(MalformedFrame) as caught:
        exchange_of(market_id).parse_frame(MARKETS[market_id], text)
    assert caught.value.market_id == market_id


def spoiled(value: Any, draw: Any) -> Any:
    """A JSON value with one place of it replaced, dropped or doubled."""
    if isinstance(value, dict) and value and draw(st.integers(0, 4)):
        key = draw(st.sampled_from(sorted(value)))
        if draw(st.integers(0, 3)) == 0:
            return {k: v for k, v in value.items() if k != key}
        return value | {key: spoiled(value[key], draw)}
    if isinstance(value, list) and value and draw(st.integers(0, 4)):
        at = draw(st.integers(0, len(value) - 1))
        if draw(st.integers(0, 3)) == 0:
            return value[:at] + value[at + 1 :]
        return [*value[:at], spoiled(value[at], draw), *value[at + 1 :]]
    return draw(ODD)


@given(market_id=st.sampled_from(sorted(MARKETS)), data=st.data())
def test_a_spoiled_frame_is_a_frame_or_malformed(market_id: int, data: Any) -> None:
    """Nothing else is raised, and what passes is a candle."""
    text = json.dumps(spoiled(json.loads(CLOSED[market_id]), data.draw))
    try:
        frame = exchange_of(market_id).parse_frame(MARKETS[market_id], text)
    except MalformedFrame:
        return
    assert isinstance(frame, Frame)
    assert all(whole(candle) for candle in frame.candles)
    assert all(candle.instrument.market_id == market_id for candle in frame.candles)


@given(market_id=st.sampled_from(sorted(MARKETS)), data=st.data())
def test_spoiled_klines_are_candles_or_an_error(market_id: int, data: Any) -> None:
    body = spoiled(json.loads(KLINES[market_id]), data.draw)
    try:
        found = exchange_of(market_id).parse_klines(MARKETS[market_id], "BTCUSDT", body)
    except ExchangeError:
        return
    assert all(whole(candle) for candle in found)


@given(market_id=st.sampled_from(sorted(MARKETS)), data=st.data())
def test_spoiled_metadata_is_positive_or_none(market_id: int, data: Any) -> None:
    body = spoiled(json.loads(INSTRUMENTS[market_id]), data.draw)
    exchange, one = exchange_of(market_id), MARKETS[market_id]
    try:
        found, _ = hold(exchange.metadata(one), [body] * 3)
    except ExchangeError:
        return
    for row in found:
        assert row.symbol == row.symbol.strip().upper() != ""
        assert all(v is None or v > 0 for v in (row.price_step, row.qty_step, row.min_notional))
        assert row.base_asset is None or row.base_asset.strip()


@given(
    market_id=st.sampled_from(sorted(MARKETS)),
    status=st.sampled_from([200, 400, 403, 418, 429, 500, 503]),
    body=ODD,
    header=st.text(max_size=5),
)
def test_any_answer_can_be_judged(market_id: int, status: int, body: Any, header: str) -> None:
    exchange = exchange_of(market_id)
    names = ("retry-after", "date", "x-mbx-used-weight-1m", "x-bapi-limit", "x-bapi-limit-status")
    headers: dict[str, str] = dict.fromkeys((*names, "x-bapi-limit-reset-timestamp"), header)
    pause_s = exchange.retry_after_s(status, headers, body)
    assert pause_s is None or pause_s >= 0
    exchange.retryable(status, body)
    exchange.usage(headers)
    exchange.failure(body)
