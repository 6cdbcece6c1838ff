"""Binance: what it is asked, and what its answers and messages mean."""

from __future__ import annotations

import json

import pytest

from compute.market.instrument import Instrument
from ingest.errors import MalformedFrame
from ingest.exchanges.binance import SPOT, USD_M, Binance
from ingest.exchanges.exchange import Frame, InstrumentMetadata, Usage, WeightLimit
from ingest.rows import Candle
from tests.ingest.exchanges import frames
from tests.ingest.exchanges.conversation import hold

BINANCE = Binance()
NOTHING: dict[str, str] = {}
TOLD_AT = "Sat, 30 Jul 2022 00:00:00 GMT"


@pytest.mark.parametrize(
    ("market", "path", "weight"), [(SPOT, "/api/v3/klines", 2), (USD_M, "/fapi/v1/klines", 5)]
)
def test_klines_are_asked_for_with_an_inclusive_end(market, path: str, weight: int) -> None:
    request = BINANCE.kline_request(market, "BTCUSDT", 60_000, 60_060_000, 1000)
    assert (request.path, request.weight) == (path, weight)
    assert request.params == {
        "symbol": "BTCUSDT",
        "interval": "1m",
        "startTime": 60_000,
        "endTime": 60_059_999,
        "limit": 1000,
    }


@pytest.mark.parametrize(
    ("limit", "weight"), [(1, 1), (99, 1), (100, 2), (499, 2), (500, 5), (1000, 5), (1001, 10)]
)
def test_usd_m_weight_grows_with_the_limit(limit: int, weight: int) -> None:
    assert BINANCE.kline_request(USD_M, "X", 0, limit * 60_000, limit).weight == weight
    assert BINANCE.kline_request(SPOT, "X", 0, limit * 60_000, limit).weight == 2


def test_a_kline_of_rest() -> None:
    (candle,) = BINANCE.parse_klines(SPOT, "ETHBTC", json.loads(frames.BINANCE_KLINES))
    assert candle == Candle(
        Instrument(1, "ETHBTC"),
        1499040000000,
        open=0.0163479,
        high=0.8,
        low=0.015758,
        close=0.015771,
        volume_base=148976.11427815,
        volume_quote=2434.19055334,
        trades_count=308,
        taker_buy_volume_base=1756.87402397,
        taker_buy_volume_quote=28.46694368,
    )


def test_a_closed_minute_of_the_stream() -> None:
    frame = BINANCE.parse_frame(USD_M, frames.BINANCE_CLOSED)
    assert (frame.kind, frame.open_count) == ("kline", 0)
    assert frame.candles == (
        Candle(
            Instrument(2, "BNBBTC"),
            1672515780000,
            open=0.001,
            high=0.0025,
            low=0.001,
            close=0.002,
            volume_base=1000.0,
            volume_quote=1.0,
            trades_count=100,
            taker_buy_volume_base=500.0,
            taker_buy_volume_quote=0.5,
        ),
    )


def test_a_running_minute_is_counted_and_dropped() -> None:
    assert BINANCE.parse_frame(SPOT, frames.BINANCE_RUNNING) == Frame("kline", open_count=1)


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        ('{"result":null,"id":1}', Frame("ack")),
        (
            '{"error":{"code":2,"msg":"Invalid request: unknown variant"},"id":1}',
            Frame("ack", ok=False, message="Invalid request: unknown variant"),
        ),
        ('{"stream":"x@trade","data":{"e":"trade","s":"X"}}', Frame("other")),
        ('{"e":"serverShutdown","E":1770123456789}', Frame("ending")),
        (frames.BINANCE_SHUTDOWN, Frame("ending")),
        (frames.BINANCE_CLOSED.replace('"1m"', '"5m"'), Frame("other")),
    ],
)
def test_other_messages(text: str, frame: Frame) -> None:
    assert BINANCE.parse_frame(SPOT, text) == frame


def test_symbol_and_minute_are_normalised() -> None:
    text = frames.BINANCE_CLOSED.replace('"BNBBTC"', '"bnbbtc"').replace(
        '"t":1672515780000', '"t":1672515780123'
    )
    (candle,) = BINANCE.parse_frame(SPOT, text).candles
    assert (candle.instrument.symbol, candle.ts_open_ms) == ("BNBBTC", 1672515780000)


def test_the_address_of_a_stream_subscribes_in_lower_case() -> None:
    url = BINANCE.stream_url("wss://stream.binance.com:9443/stream", SPOT, ["BTCUSDT", "ETHUSDT"])
    streams = "streams=btcusdt@kline_1m/ethusdt@kline_1m"
    assert url == f"wss://stream.binance.com:9443/stream?{streams}"
    assert BINANCE.stream_url("ws://x/stream?a=1", SPOT, ["A"]).endswith("?a=1&streams=a@kline_1m")
    assert BINANCE.subscribe_frames(SPOT, ["BTCUSDT"]) == []
    assert BINANCE.ping_frame() is None
    assert BINANCE.max_connection_age_s < 24 * 3600


def test_metadata_of_spot() -> None:
    found, _ = hold(BINANCE.metadata(SPOT), [json.loads(frames.BINANCE_SPOT_INFO)])
    assert found == [
        InstrumentMetadata("ETHBTC", "ETH", "BTC", 0.00001, 0.0001, 0.0001, True),
        # A step of zero is none; MIN_NOTIONAL counts where there is no NOTIONAL.
        InstrumentMetadata("OLDBTC", "OLD", "BTC", None, None, 0.0005, False),
    ]


def test_usd_m_says_notional_where_spot_says_min_notional() -> None:
    found, _ = hold(BINANCE.metadata(USD_M), [json.loads(frames.BINANCE_USD_M_INFO)])
    assert found == [InstrumentMetadata("BLZUSDT", "BLZ", "USDT", 0.0001, 1.0, 5.0, True)]


@pytest.mark.parametrize(
    ("market", "info", "weight"),
    [(SPOT, frames.BINANCE_SPOT_INFO, 6000), (USD_M, frames.BINANCE_USD_M_INFO, 2400)],
)
def test_the_limit_of_a_minute_is_learned(market, info: str, weight: int) -> None:
    found, requests = hold(BINANCE.weight_limit(market), [json.loads(info)])
    assert found == WeightLimit(weight, 60)
    assert requests[0].path.endswith("/exchangeInfo")
    assert hold(BINANCE.weight_limit(market), [{"symbols": []}])[0] is None


def test_used_weight() -> None:
    assert BINANCE.usage({"x-mbx-used-weight-1m": "1234"}) == Usage(1234)
    assert BINANCE.usage(NOTHING) is None


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (429, {"retry-after": "12"}, {}, 12.0),
        (418, {"retry-after": "300"}, {}, 300.0),
        (429, {"retry-after": "Sat, 30 Jul 2022 00:02:00 GMT", "date": TOLD_AT}, {}, 120.0),
        (429, {"retry-after": "Saturday, 30-Jul-22 00:02:00 GMT", "date": TOLD_AT}, {}, 120.0),
        (429, {"retry-after": "Sat Jul 30 00:02:00 2022", "date": TOLD_AT}, {}, 120.0),
        (429, {"retry-after": "Fri, 29 Jul 2022 00:00:00 GMT", "date": TOLD_AT}, {}, 0.0),
        (429, {"retry-after": "Sat, 30 Jul 2022 00:02:00 GMT"}, {}, 0.0),  # by whose clock?
        (429, {"retry-after": "soon", "date": TOLD_AT}, {}, 0.0),
        (429, NOTHING, {"code": -1003, "msg": "Too many requests"}, 0.0),
        (
            418,
            {"date": TOLD_AT},
            {"code": -1003, "msg": "Way too much; IP banned until 1659139260000. Please use"},
            60.0,
        ),
        (418, NOTHING, {"code": -1003, "msg": "IP banned until 1659139260000."}, 0.0),
        (403, {"retry-after": "12"}, {}, None),
        (200, NOTHING, [], None),
    ],
)
def test_how_long_to_stay_away(status: int, headers, body, seconds: float | None) -> None:
    assert BINANCE.retry_after_s(status, headers, body) == seconds


@pytest.mark.parametrize(
    ("status", "again"),
    [(400, False), (403, False), (404, False), (408, True), (418, True), (429, True), (503, True)],
)
def test_what_is_worth_another_try(status: int, again: bool) -> None:
    assert BINANCE.retryable(status, {}) is again


@pytest.mark.parametrize(
    "body",
    [
        {"code": -1121},
        [[1499040000000, "1", "1", "1", "1", "1", 0, "1", 1, "1"]],  # ten fields
        [[1499040000000, "1", "1", "1", "x", "1", 0, "1", 1, "1", "1"]],
        [[1499040000000, "1", "1", "1", "NaN", "1", 0, "1", 1, "1", "1"]],
        [[1499040000000, "1", "0.5", "1", "1", "1", 0, "1", 1, "1", "1"]],  # high below open
        [[1499040000000, "0", "0", "0", "0", "0", 0, "0", 0, "0", "0"]],
        [[1499040000001, "1", "1", "1", "1", "1", 0, "1", 1, "1", "1"]],  # off the minute
        [None],
        "no list",
    ],
)
def test_klines_that_are_none(body) -> None:
    with pytest.raises(MalformedFrame) as caught:
        BINANCE.parse_klines(SPOT, "ETHBTC", body)
    assert caught.value.market_id == 1
