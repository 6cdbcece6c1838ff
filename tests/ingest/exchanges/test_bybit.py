"""Bybit: what it is asked, and what its answers and messages mean."""

from __future__ import annotations

import json

import pytest

from compute.market.instrument import Instrument
from ingest.errors import ExchangeError, MalformedFrame, RateLimited
from ingest.exchanges.bybit import LINEAR, SPOT, Bybit
from ingest.exchanges.exchange import Frame, InstrumentMetadata, Usage
from ingest.rows import Candle
from tests.ingest.exchanges import frames
from tests.ingest.exchanges.conversation import hold

BYBIT = Bybit()
NOTHING: dict[str, str] = {}


@pytest.mark.parametrize(("market", "category"), [(SPOT, "spot"), (LINEAR, "linear")])
def test_klines_are_asked_for_with_an_inclusive_end(market, category: str) -> None:
    request = BYBIT.kline_request(market, "BTCUSDT", 60_000, 60_060_000, 1000)
    assert request.path == "/v5/market/kline"
    assert request.params == {
        "category": category,
        "symbol": "BTCUSDT",
        "interval": "1",
        "start": 60_000,
        "end": 60_059_999,
        "limit": 1000,
    }


def test_klines_of_rest_are_turned_round() -> None:
    found = BYBIT.parse_klines(LINEAR, "BTCUSDT", json.loads(frames.BYBIT_KLINES))
    assert [candle.ts_open_ms for candle in found] == [1670608800000, 1670608860000]
    assert found[0] == Candle(
        Instrument(4, "BTCUSDT"),
        1670608800000,
        open=17071.0,
        high=17071.5,
        low=17051.5,
        close=17055.5,
        volume_base=177276.0,
        volume_quote=10.38,
    )


def test_a_closed_minute_of_the_stream() -> None:
    frame = BYBIT.parse_frame(SPOT, frames.BYBIT_CLOSED)
    assert frame == Frame(
        "kline",
        candles=(
            Candle(
                Instrument(3, "BTCUSDT"),
                1672324800000,
                open=16649.5,
                high=16677.0,
                low=16608.0,
                close=16677.0,
                volume_base=2.081,
                volume_quote=34666.4005,
            ),
        ),
    )


def test_a_message_may_close_a_minute_and_open_the_next() -> None:
    message = json.loads(frames.BYBIT_CLOSED)
    running = dict(message["data"][0], start=1672324860000, confirm=False)
    other = dict(message["data"][0], interval="5")
    message["data"] += [running, other]
    frame = BYBIT.parse_frame(SPOT, json.dumps(message))
    assert [candle.ts_open_ms for candle in frame.candles] == [1672324800000]
    assert frame.open_count == 1
    assert BYBIT.parse_frame(SPOT, frames.BYBIT_RUNNING) == Frame("kline", open_count=1)


@pytest.mark.parametrize(
    ("text", "frame"),
    [
        (frames.BYBIT_ACK, Frame("ack")),
        (frames.BYBIT_ACK.replace("true", '"true"'), Frame("ack")),
        (frames.BYBIT_ACK.replace("true", '"false"'), Frame("ack", ok=False)),
        (frames.BYBIT_ACK.replace('"success":true,', ""), Frame("ack", ok=False)),
        (frames.BYBIT_TOO_MANY_ARGS, Frame("ack", ok=False, message="args size >10")),
        (frames.BYBIT_PONG, Frame("pong")),
        ('{"op":"pong"}', Frame("pong")),
        ('{"topic":"tickers.BTCUSDT","data":{}}', Frame("other")),
    ],
)
def test_other_messages(text: str, frame: Frame) -> None:
    assert BYBIT.parse_frame(SPOT, text) == frame


def test_symbol_is_the_items_or_the_topics_in_upper_case() -> None:
    text = frames.BYBIT_CLOSED.replace("kline.1.BTCUSDT", "kline.1.btcusdt")
    assert BYBIT.parse_frame(SPOT, text).candles[0].instrument == Instrument(3, "BTCUSDT")
    text = text.replace('"interval":"1"', '"interval":"1","symbol":"ethusdt"')
    assert BYBIT.parse_frame(SPOT, text).candles[0].instrument == Instrument(3, "ETHUSDT")


def test_ten_symbols_to_a_subscription() -> None:
    texts = BYBIT.subscribe_frames(SPOT, [f"a{i}usdt" for i in range(23)])
    messages = [json.loads(text) for text in texts]
    assert [len(message["args"]) for message in messages] == [10, 10, 3]
    assert messages[0]["op"] == "subscribe"
    assert messages[2]["args"][-1] == "kline.1.A22USDT"
    assert BYBIT.stream_url("wss://stream.bybit.com/v5/public/spot", SPOT, ["A"]).endswith("/spot")
    assert json.loads(BYBIT.ping_frame() or "") == {"op": "ping"}
    assert BYBIT.ping_every_s == 20


def test_metadata_of_spot() -> None:
    found, requests = hold(BYBIT.metadata(SPOT), [json.loads(frames.BYBIT_SPOT_INSTRUMENTS)])
    assert found == [InstrumentMetadata("BTCUSDT", "BTC", "USDT", 0.1, 0.000001, 5.0, True)]
    assert requests[0].params == {"category": "spot", "limit": 1000}


def test_metadata_pages_until_the_cursor_repeats() -> None:
    page = json.loads(frames.BYBIT_LINEAR_INSTRUMENTS)
    found, requests = hold(BYBIT.metadata(LINEAR), [page, page])
    assert found[:2] == [
        InstrumentMetadata("BTCUSDT", "BTC", "USDT", 0.1, 0.001, 5.0, True),
        # minOrderQty is a quantity and never stands in for a notional.
        InstrumentMetadata("GONEUSDT", "GONE", "USDT", None, None, None, False),
    ]
    assert [request.params.get("cursor") for request in requests] == [None, "first%3DGONE"]
    blank = dict(page, result=dict(page["result"], nextPageCursor=" "))
    assert len(hold(BYBIT.metadata(LINEAR), [blank])[1]) == 1


def test_usage_of_an_endpoint() -> None:
    headers = {
        "x-bapi-limit": "100",
        "x-bapi-limit-status": "99",
        "x-bapi-limit-reset-timestamp": "1672738134824",
    }
    # Below the limit the timestamp is now, and the window may last another second.
    assert BYBIT.usage(headers) == Usage(1, 100, 1672738135824)
    assert BYBIT.usage(headers | {"x-bapi-limit-status": "0"}) == Usage(100, 100, 1672738134824)
    assert BYBIT.usage(NOTHING) is None
    assert hold(BYBIT.weight_limit(SPOT), []) == (None, [])


@pytest.mark.parametrize(
    ("status", "headers", "body", "seconds"),
    [
        (200, NOTHING, {"retCode": 10006}, 0.0),
        (200, {"x-bapi-limit-reset-timestamp": "5750"}, {"retCode": 10006, "time": 5000}, 0.75),
        (200, NOTHING, {"retCode": 10018}, 0.0),
        (429, {"retry-after": "3"}, "", 3.0),
        (403, NOTHING, "403, access too frequent", 600.0),
        (403, NOTHING, "The Amazon CloudFront distribution is configured to block", None),
        (200, NOTHING, {"retCode": 0, "result": {}}, None),
        (200, NOTHING, {"retCode": 10001}, None),
    ],
)
def test_how_long_to_stay_away(status: int, headers, body, seconds: float | None) -> None:
    assert BYBIT.retry_after_s(status, headers, body) == seconds


@pytest.mark.parametrize(
    ("status", "body", "again"),
    [
        (200, {"retCode": 10016}, True),
        (200, {"retCode": "10000"}, True),
        (200, {"retCode": 10001}, False),
        (403, "blocked", False),
        (404, "", False),
        (502, "", True),
    ],
)
def test_what_is_worth_another_try(status: int, body, again: bool) -> None:
    assert BYBIT.retryable(status, body) is again


@pytest.mark.parametrize("code", [0, "0", None])
def test_a_good_answer_says_zero_or_nothing(code) -> None:
    body = json.loads(frames.BYBIT_KLINES)
    body["retCode"] = code
    if code is None:
        del body["retCode"]
    assert len(BYBIT.parse_klines(LINEAR, "BTCUSDT", body)) == 2


@pytest.mark.parametrize(
    ("code", "kind", "retryable"),
    [(10001, ExchangeError, False), (10016, ExchangeError, True), (10006, RateLimited, True)],
)
def test_an_error_in_a_good_answer(code: int, kind: type[ExchangeError], retryable: bool) -> None:
    with pytest.raises(kind, match=str(code)) as caught:
        BYBIT.parse_klines(LINEAR, "BTCUSDT", {"retCode": code, "retMsg": "no", "result": {}})
    assert (caught.value.exchange_code, caught.value.retryable) == (code, retryable)
    assert not isinstance(caught.value, MalformedFrame)


@pytest.mark.parametrize(
    "rows",
    [
        None,
        {"0": []},
        [["1670608800000", "1", "1", "1", "1", "1"]],  # six fields
        [["1670608800000", "1", "1", "1", "one", "1", "1"]],
        [["1670608800000", "inf", "inf", "inf", "inf", "1", "1"]],
        [["1670608800000", "1", "1", "2", "1", "1", "1"]],  # low above open
        [["1670608800000", "1", "1", "1", "1", "-1", "1"]],
        [["1670608800001", "1", "1", "1", "1", "1", "1"]],
        ["row"],
    ],
)
def test_klines_that_are_none(rows) -> None:
    with pytest.raises(MalformedFrame) as caught:
        BYBIT.parse_klines(LINEAR, "BTCUSDT", {"retCode": 0, "result": {"list": rows}})
    assert caught.value.market_id == 4


@pytest.mark.parametrize("body", [[], "text", None, {"retCode": 0}, {"retCode": 0, "result": []}])
def test_answers_that_are_no_envelope(body) -> None:
    with pytest.raises(MalformedFrame):
        BYBIT.parse_klines(LINEAR, "BTCUSDT", body)
