"""Bybit V5: spot and USDT/USDC futures (category `linear`).

Every answer is an envelope `{retCode, retMsg, result}`; an error is HTTP 200 with a `retCode` that
is not 0. A kline over REST is an array of texts:

    0 start time ms   2 high   4 close                6 turnover, quote asset
    1 open            3 low    5 volume, base asset

`start` and `end` both include klines that start exactly there, the newest comes first, of more
than `limit` the newest are given, and the running minute is among them. Over WebSocket a message
of topic `kline.1.SYMBOL` carries a list of objects `start end interval open high low close volume
turnover confirm`; `confirm` says that the minute is closed. Trades and taker volumes are not
published.

Sources: Bybit V5 API documentation, "Get Kline", "Get Instruments Info", "Kline" of the WebSocket
stream, "Connect", "Rate Limit Rules", "Error Codes".
"""

from __future__ import annotations

import json
from collections.abc import Mapping, Sequence
from typing import Any, Final

from compute.market.instrument import Instrument
from ingest.errors import ExchangeError, RateLimited
from ingest.exchanges.exchange import (
    Archive,
    Conversation,
    Frame,
    HttpRequest,
    InstrumentMetadata,
    Market,
    Usage,
    WeightLimit,
    checked,
    is_closed,
    malformed,
    message_of,
    named_pause_s,
    nonblank,
    number,
)
from ingest.rows import DAY_MS, Candle, floor_minute

_RAW: Final = "raw_bybit_klines_1m"
SPOT: Final = Market(3, "bybit", "spot", _RAW)
LINEAR: Final = Market(4, "bybit", "futures", _RAW)

_CATEGORY: Final = {SPOT.market_id: "spot", LINEAR.market_id: "linear"}
_KLINES: Final = "/v5/market/kline"
_INSTRUMENTS: Final = "/v5/market/instruments-info"
_KLINE_FIELDS: Final = 7
_ARCHIVE: Final = Archive(
    columns=("ts_open", "open", "high", "low", "close", "volume_base"),
    time_format="%Y.%m.%d %H:%M",
    ahead_ms=3 * 3_600_000,
)
_ARGS_PER_FRAME: Final = 10
_HOUR_MS: Final = 3_600_000
_FIRST_MS: Final = 1_514_764_800_000  # 2018-01-01, before the exchange's first kline
_TOO_MANY: Final = {10006, 10018, 10429}  # visits of this endpoint, of this address, of everyone
_TRY_LATER: Final = {10000, 10016, *_TOO_MANY}  # server timeout, server error
_BANNED_S: Final = 600.0
"""What the documentation asks of an address that got 403 "access too frequent": ten minutes."""


class Bybit:
    """Bybit V5, as `ingest.exchanges.exchange.Exchange` asks."""

    name = "bybit"
    markets = (SPOT, LINEAR)
    max_connection_age_s = None
    ping_every_s = 20.0  # the exchange recommends it, and counts no protocol ping as a sign of life

    def archive(self, market: Market) -> Archive | None:
        """Monthly `.csv.gz` files of derivatives under public.bybit.com/kline_for_metatrader4.

        Their clock is three hours ahead of UTC all year, as their page says and as their minutes
        agree with those of trades. Of spot only trades are published there.
        """
        return _ARCHIVE if market == LINEAR else None

    def ping_frame(self) -> str | None:
        """The heartbeat of public streams."""
        return '{"op":"ping"}'

    def max_streams_per_socket(self, market: Market) -> int:
        """700: all topics of a socket together may be 21 000 characters long."""
        return 700

    def kline_limit(self, market: Market) -> int:
        """1000 minutes."""
        return 1000

    def kline_request(
        self, market: Market, symbol: str, start_ms: int, end_ms: int, limit: int
    ) -> HttpRequest:
        """Asks for the minutes of `[start_ms, end_ms)`."""
        return _klines(market, symbol, "1", start_ms, end_ms, limit)

    def parse_klines(self, market: Market, symbol: str, body: Any) -> list[Candle]:
        """The candles of an answer, turned round to ascend."""
        instrument = Instrument(market.market_id, symbol)
        rows = _listed(market, body)
        return [checked(_candle(market, instrument, row)) for row in reversed(rows)]

    def first_candle(self, market: Market, symbol: str) -> Conversation[int | None]:
        """Open of the first minute: the oldest month, its oldest day, hour and minute.

        Spot publishes no launch time, and a request for one row gives the newest. Four pages that
        cannot overflow (a month is 31 days, a day 24 hours, an hour 60 minutes) find the oldest.
        """
        first: int = _FIRST_MS
        end: int | None = None
        for interval, span_ms in (("M", 31 * DAY_MS), ("D", DAY_MS), ("60", _HOUR_MS), ("1", 0)):
            body = yield _klines(market, symbol, interval, first, end, 1000)
            starts = [_start_ms(market, row) for row in _listed(market, body)]
            if not starts and interval == "M":
                return None
            first = max(first, min(starts, default=first))
            end = first + span_ms
        return first

    def metadata(self, market: Market) -> Conversation[list[InstrumentMetadata]]:
        """Every instrument of a market, page after page until the cursor is blank or repeats."""
        found: list[InstrumentMetadata] = []
        seen: set[str] = set()
        cursor: str | None = None
        while True:
            params: dict[str, str | int] = {"category": _CATEGORY[market.market_id], "limit": 1000}
            if cursor:
                params["cursor"] = cursor
            body = yield HttpRequest(_INSTRUMENTS, params)
            found += [_metadata(market, row) for row in _listed(market, body)]
            cursor = nonblank(body["result"].get("nextPageCursor"))
            if cursor is None or cursor in seen:
                return found
            seen.add(cursor)

    def weight_limit(self, market: Market) -> Conversation[WeightLimit | None]:
        """None: answers carry their limit."""
        return None
        yield  # a conversation without a request

    def usage(self, headers: Mapping[str, str]) -> Usage | None:
        """Requests of this endpoint's window: the limit, and what is left of it."""
        limit = headers.get("x-bapi-limit", "")
        left = headers.get("x-bapi-limit-status", "")
        reset = headers.get("x-bapi-limit-reset-timestamp", "")
        if not (limit.isdecimal() and left.isdecimal()):
            return None
        # Beyond the limit the timestamp is when the window ends, before that it is just now.
        reset_at_ms = int(reset) + (0 if int(left) == 0 else 1000) if reset.isdecimal() else None
        return Usage(max(0, int(limit) - int(left)), int(limit), reset_at_ms)

    def retry_after_s(self, status: int, headers: Mapping[str, str], body: Any) -> float | None:
        """How long to wait after 429, a `retCode` for speed, or 403 "access too frequent".

        A 403 without these words is a country that is not served, which no waiting cures.
        """
        if status == 403 and "access too frequent" in str(body).lower():
            return _BANNED_S
        if status != 429 and _code(body) not in _TOO_MANY:
            return None
        named = named_pause_s(headers)
        if named is not None:
            return named
        reset = headers.get("x-bapi-limit-reset-timestamp", "")
        now = body.get("time") if isinstance(body, dict) else None
        if reset.isdecimal() and type(now) is int:  # both are times of the exchange's clock
            return max(0.0, (int(reset) - now) / 1000)
        return 0.0

    def retryable(self, status: int, body: Any) -> bool:
        """Server errors and refusals for speed, by status or by `retCode`."""
        if status == 403:
            return "access too frequent" in str(body).lower()
        return status in (408, 429) or status >= 500 or _code(body) in _TRY_LATER

    def failure(self, body: Any) -> tuple[int | str | None, str]:
        """`retCode` and `retMsg`, when the code is not 0."""
        if isinstance(body, dict) and _code(body) not in (0, None):
            return _code(body), str(body.get("retMsg", ""))
        return None, ""

    def stream_url(self, base_url: str, market: Market, symbols: Sequence[str]) -> str:
        """The address itself; messages subscribe."""
        return base_url

    def subscribe_frames(self, market: Market, symbols: Sequence[str]) -> list[str]:
        """One message for ten symbols, which is as many as the exchange takes."""
        topics = [f"kline.1.{symbol.upper()}" for symbol in symbols]
        return [
            json.dumps({"op": "subscribe", "args": topics[i : i + _ARGS_PER_FRAME]})
            for i in range(0, len(topics), _ARGS_PER_FRAME)
        ]

    def parse_frame(self, market: Market, text: str | bytes) -> Frame:
        """The minutes of a kline message, an ack, or a pong."""
        message = message_of(market, text)
        operation = message.get("op")
        if operation == "subscribe":
            ok = message.get("success") in (True, "true")
            return Frame("ack", ok=ok, message=str(message.get("ret_msg", "")))
        if operation in ("ping", "pong"):
            return Frame("pong")
        topic = message.get("topic")
        if not isinstance(topic, str) or not topic.startswith("kline."):
            return Frame("other")
        data = message.get("data")
        if not isinstance(data, list):
            raise malformed(market, "kline message has no list", message)
        closed: list[Candle] = []
        running = 0
        for item in data:
            if not isinstance(item, dict):
                raise malformed(market, "kline is no object", message)
            if str(item.get("interval")) not in ("1", "1m"):
                continue
            if is_closed(market, item.get("confirm"), message):
                closed.append(checked(_closed(market, topic, item)))
            else:
                running += 1
        return Frame("kline", candles=tuple(closed), open_count=running)


def _klines(
    market: Market, symbol: str, interval: str, start_ms: int, end_ms: int | None, limit: int
) -> HttpRequest:
    params: dict[str, str | int] = {
        "category": _CATEGORY[market.market_id],
        "symbol": symbol,
        "interval": interval,
        "start": start_ms,
        "limit": limit,
    }
    if end_ms is not None:
        params["end"] = end_ms - 1
    return HttpRequest(_KLINES, params)


def _code(body: Any) -> int | str | None:
    """`retCode` as a number where it is one, 0 where it is absent, None for what is no envelope."""
    if not isinstance(body, dict):
        return None
    code = body.get("retCode", 0)
    try:
        return int(code)
    except (TypeError, ValueError):
        return str(code)


def _listed(market: Market, body: Any) -> list[Any]:
    """`result.list` of a good envelope."""
    code = _code(body)
    if code is None:
        raise malformed(market, "answer is no envelope", body)
    if code != 0:
        message = f"{market.code} answered retCode {code}: {body.get('retMsg', '')}"
        if code in _TOO_MANY:
            raise RateLimited(message, market_id=market.market_id, status=200, code=code)
        raise ExchangeError(
            message,
            market_id=market.market_id,
            status=200,
            code=code,
            retryable=code in _TRY_LATER,
        )
    result = body.get("result")
    rows = result.get("list") if isinstance(result, dict) else None
    if not isinstance(rows, list):
        raise malformed(market, "answer has no result.list", body)
    return rows


def _start_ms(market: Market, row: Any) -> int:
    try:
        return int(row[0])
    except (IndexError, KeyError, OverflowError, TypeError, ValueError):
        raise malformed(market, "kline has no start time", row) from None


def _candle(market: Market, instrument: Instrument, row: Any) -> Candle:
    if not isinstance(row, list) or len(row) < _KLINE_FIELDS:
        raise malformed(market, f"kline of {instrument} is no row of {_KLINE_FIELDS} fields", row)
    try:
        opened, highest, lowest, closed, volume, turnover = map(float, row[1:_KLINE_FIELDS])
        start_ms = int(row[0])
    except (OverflowError, TypeError, ValueError):
        raise malformed(market, f"kline of {instrument} holds what is no number", row) from None
    return Candle(instrument, start_ms, opened, highest, lowest, closed, volume, turnover)


def _closed(market: Market, topic: str, item: dict[str, Any]) -> Candle:
    symbol = nonblank(item.get("symbol")) or nonblank(topic.rpartition(".")[2])
    if symbol is None:
        raise malformed(market, "kline names no symbol", item)
    try:
        return Candle(
            Instrument(market.market_id, symbol),
            floor_minute(int(item["start"])),
            float(item["open"]),
            float(item["high"]),
            float(item["low"]),
            float(item["close"]),
            volume_base=float(item["volume"]),
            volume_quote=float(item["turnover"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise malformed(market, "kline lacks a number", item) from None


def _metadata(market: Market, row: Any) -> InstrumentMetadata:
    symbol = nonblank(row.get("symbol")) if isinstance(row, dict) else None
    if symbol is None:
        raise malformed(market, "instruments-info has a symbol without a name", row)
    prices, lots = row.get("priceFilter"), row.get("lotSizeFilter")
    prices = prices if isinstance(prices, dict) else {}
    lots = lots if isinstance(lots, dict) else {}
    # The smallest order is minNotionalValue on futures and minOrderAmt on spot, both in the quote
    # asset; minOrderQty is a quantity of the base asset, hence never taken for it.
    spot = market is SPOT
    return InstrumentMetadata(
        symbol=symbol.upper(),
        base_asset=nonblank(row.get("baseCoin")),
        quote_asset=nonblank(row.get("quoteCoin")),
        price_step=number(prices.get("tickSize")),
        qty_step=number(lots.get("basePrecision" if spot else "qtyStep")),
        min_notional=number(lots.get("minOrderAmt" if spot else "minNotionalValue")),
        trading=row.get("status") == "Trading",
    )
