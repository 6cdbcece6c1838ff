"""Binance: spot and USD-M futures.

A kline over REST is an array:

    0 open time ms    4 close                 8 number of trades
    1 open            5 volume, base asset    9 taker buy volume, base asset
    2 high            6 close time, ...999   10 taker buy volume, quote asset
    3 low             7 volume, quote asset  11 unused

Prices and volumes are texts. Over WebSocket the same fields have letters: t T open and close time,
o h l c prices, v q volumes, n trades, V Q taker volumes, i interval, s symbol, x whether the minute
is closed. Ahead of the end of a socket comes an event `serverShutdown` (stream `!serverShutdown`).
USD-M sends klines below the path `/market` only, since 2026-04-23. `startTime` and `endTime` both
include klines that open exactly there, rows ascend, and the running minute is among them.

Sources: Binance Spot API documentation, "Kline/Candlestick data", "Limits", "WebSocket Streams",
"Server Shutdown"; USD-M Futures API, "Kline Candlestick Data", "Exchange Information", "WebSocket
Market Streams", "Important WebSocket Change Notice".
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any, Final

from compute.market.instrument import Instrument
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
    date_ms,
    is_closed,
    malformed,
    message_of,
    named_pause_s,
    nonblank,
    number,
)
from ingest.rows import Candle, floor_minute

_RAW: Final = "raw_binance_klines_1m"
SPOT: Final = Market(1, "binance", "spot", _RAW)
USD_M: Final = Market(2, "binance", "futures", _RAW)

_PATH: Final = {SPOT.market_id: "/api/v3", USD_M.market_id: "/fapi/v1"}
_KLINE_FIELDS: Final = 11
_INFO_WEIGHT: Final = {SPOT.market_id: 20, USD_M.market_id: 1}
_TRADING: Final = "TRADING"
_ARCHIVE: Final = Archive(
    columns=(
        "ts_open",
        "open",
        "high",
        "low",
        "close",
        "volume_base",
        "close_time",
        "volume_quote",
        "trades_count",
        "taker_buy_volume_base",
        "taker_buy_volume_quote",
        "ignore",
    )
)
_BANNED_UNTIL: Final = re.compile(r"banned until (\d{13})")
_SECONDS: Final = {"SECOND": 1, "MINUTE": 60, "HOUR": 3600, "DAY": 86_400}


class Binance:
    """Binance, as `ingest.exchanges.exchange.Exchange` asks."""

    name = "binance"
    markets = (SPOT, USD_M)
    max_connection_age_s = 23 * 3600.0  # the exchange ends a socket at 24 h
    ping_every_s = None  # the server pings, and the WebSocket library answers

    def archive(self, market: Market) -> Archive | None:
        """Monthly and daily ZIP files of data.binance.vision, alike for both markets."""
        return _ARCHIVE

    def ping_frame(self) -> str | None:
        """None: the protocol's own pings are enough."""
        return None

    def max_streams_per_socket(self, market: Market) -> int:
        """1024 on either market."""
        return 1024

    def kline_limit(self, market: Market) -> int:
        """1000 minutes; USD-M serves 1500, at twice the weight for half as many more."""
        return 1000

    def kline_request(
        self, market: Market, symbol: str, start_ms: int, end_ms: int, limit: int
    ) -> HttpRequest:
        """Asks for the minutes of `[start_ms, end_ms)`."""
        params = {
            "symbol": symbol,
            "interval": "1m",
            "startTime": start_ms,
            "endTime": end_ms - 1,
            "limit": limit,
        }
        return HttpRequest(f"{_path(market)}/klines", params, _kline_weight(market, limit))

    def parse_klines(self, market: Market, symbol: str, body: Any) -> list[Candle]:
        """The candles of an answer, ascending."""
        if not isinstance(body, list):
            raise malformed(market, f"klines of {symbol} are no list", body)
        instrument = Instrument(market.market_id, symbol)
        return [checked(_candle(market, instrument, row)) for row in body]

    def first_candle(self, market: Market, symbol: str) -> Conversation[int | None]:
        """Open of the first minute: from the beginning of time, one row."""
        params = {"symbol": symbol, "interval": "1m", "startTime": 0, "limit": 1}
        body = yield HttpRequest(f"{_path(market)}/klines", params, _kline_weight(market, 1))
        candles = self.parse_klines(market, symbol, body)
        return candles[0].ts_open_ms if candles else None

    def metadata(self, market: Market) -> Conversation[list[InstrumentMetadata]]:
        """Every instrument of a market, from one answer."""
        params = {"showPermissionSets": "false"} if market is SPOT else {}
        body = yield _info_request(market, params)
        rows = body.get("symbols") if isinstance(body, dict) else None
        if not isinstance(rows, list):
            raise malformed(market, "exchangeInfo has no list of symbols", body)
        return [_metadata(market, row) for row in rows]

    def weight_limit(self, market: Market) -> Conversation[WeightLimit | None]:
        """The host's REQUEST_WEIGHT of a minute, from `rateLimits`."""
        # The whole of spot is megabytes; one symbol comes with the same limits.
        params = {"symbol": "BTCUSDT"} if market is SPOT else {}
        body = yield _info_request(market, params)
        rows = body.get("rateLimits") if isinstance(body, dict) else None
        for row in rows if isinstance(rows, list) else ():
            if isinstance(row, dict) and row.get("rateLimitType") == "REQUEST_WEIGHT":
                weight, count = number(row.get("limit")), number(row.get("intervalNum"))
                seconds = _SECONDS.get(str(row.get("interval")))
                # The used-weight header this module reads is the one of a minute.
                if weight and count and seconds and seconds * count == 60:
                    return WeightLimit(int(weight), 60)
        return None

    def usage(self, headers: Mapping[str, str]) -> Usage | None:
        """Weight used in this minute by this address."""
        used = headers.get("x-mbx-used-weight-1m", "")
        return Usage(int(used)) if used.isdecimal() else None

    def retry_after_s(self, status: int, headers: Mapping[str, str], body: Any) -> float | None:
        """Retry-After of 429 (slow down) and 418 (banned).

        A ban also says in words until when, as a time of the exchange's clock; `Date` makes
        seconds of it where Retry-After is missing.
        """
        if status not in (429, 418):
            return None
        named = named_pause_s(headers)
        if named is not None:
            return named
        until = _BANNED_UNTIL.search(str(body.get("msg")) if isinstance(body, dict) else str(body))
        now_ms = date_ms(headers)
        if until is None or now_ms is None:
            return 0.0
        return max(0.0, (int(until.group(1)) - now_ms) / 1000)

    def retryable(self, status: int, body: Any) -> bool:
        """Server errors and refusals for speed."""
        return status in (408, 418, 429) or status >= 500

    def failure(self, body: Any) -> tuple[int | str | None, str]:
        """`code` and `msg`."""
        if isinstance(body, dict):
            return body.get("code"), str(body.get("msg", ""))
        return None, ""

    def stream_url(self, base_url: str, market: Market, symbols: Sequence[str]) -> str:
        """The combined stream of the symbols; the address subscribes, no message is needed."""
        streams = "/".join(f"{symbol.lower()}@kline_1m" for symbol in symbols)
        return f"{base_url}{'&' if '?' in base_url else '?'}streams={streams}"

    def subscribe_frames(self, market: Market, symbols: Sequence[str]) -> list[str]:
        """None: the address has subscribed."""
        return []

    def parse_frame(self, market: Market, text: str | bytes) -> Frame:
        """The minute of a combined-stream message, a notice, or the answer to a request."""
        message = message_of(market, text)
        if "error" in message or ("result" in message and "id" in message):
            error = message.get("error")
            return Frame("ack", ok=not error, message=str(self.failure(error)[1] if error else ""))
        data = message.get("data", message)
        if not isinstance(data, dict):
            raise malformed(market, "frame carries no object", message)
        if data.get("e") != "kline":
            return Frame("ending" if data.get("e") == "serverShutdown" else "other")
        kline = data.get("k")
        if not isinstance(kline, dict):
            raise malformed(market, "kline event has no kline", message)
        if kline.get("i") != "1m":
            return Frame("other")
        if not is_closed(market, kline.get("x"), message):
            return Frame("kline", open_count=1)
        return Frame("kline", candles=(checked(_closed(market, data, kline)),))


def _path(market: Market) -> str:
    return _PATH[market.market_id]


def _kline_weight(market: Market, limit: int) -> int:
    """What a request for `limit` klines counts: 2 on spot; on USD-M it grows with the limit."""
    if market is SPOT:
        return 2
    return 1 if limit < 100 else 2 if limit < 500 else 5 if limit <= 1000 else 10


def _info_request(market: Market, params: Mapping[str, str]) -> HttpRequest:
    weight = _INFO_WEIGHT[market.market_id]
    return HttpRequest(f"{_path(market)}/exchangeInfo", params, weight)


def _candle(market: Market, instrument: Instrument, row: Any) -> Candle:
    if not isinstance(row, list) or len(row) < _KLINE_FIELDS:
        raise malformed(market, f"kline of {instrument} is no row of {_KLINE_FIELDS} fields", row)
    try:
        return Candle(
            instrument,
            int(row[0]),
            float(row[1]),
            float(row[2]),
            float(row[3]),
            float(row[4]),
            volume_base=float(row[5]),
            volume_quote=float(row[7]),
            trades_count=int(row[8]),
            taker_buy_volume_base=float(row[9]),
            taker_buy_volume_quote=float(row[10]),
        )
    except (TypeError, ValueError, OverflowError):
        raise malformed(market, f"kline of {instrument} holds what is no number", row) from None


def _closed(market: Market, data: dict[str, Any], kline: dict[str, Any]) -> Candle:
    symbol = nonblank(kline.get("s")) or nonblank(data.get("s"))
    if symbol is None:
        raise malformed(market, "kline names no symbol", data)
    try:
        return Candle(
            Instrument(market.market_id, symbol),
            floor_minute(int(kline["t"])),
            float(kline["o"]),
            float(kline["h"]),
            float(kline["l"]),
            float(kline["c"]),
            volume_base=float(kline["v"]),
            volume_quote=float(kline["q"]),
            trades_count=int(kline["n"]),
            taker_buy_volume_base=float(kline["V"]),
            taker_buy_volume_quote=float(kline["Q"]),
        )
    except (KeyError, TypeError, ValueError, OverflowError):
        raise malformed(market, "kline lacks a number", kline) from None


def _metadata(market: Market, row: Any) -> InstrumentMetadata:
    symbol = nonblank(row.get("symbol")) if isinstance(row, dict) else None
    if symbol is None:
        raise malformed(market, "exchangeInfo has a symbol without a name", row)
    listed = row.get("filters")
    filters = {
        one.get("filterType"): one
        for one in (listed if isinstance(listed, list) else ())
        if isinstance(one, dict)
    }

    def of(kind: str, name: str) -> float | None:
        return number(filters.get(kind, {}).get(name))

    if market is USD_M:
        least = of("MIN_NOTIONAL", "notional")
    else:  # NOTIONAL replaced MIN_NOTIONAL on spot; old symbols may still carry the latter
        least = of("NOTIONAL", "minNotional") or of("MIN_NOTIONAL", "minNotional")
    return InstrumentMetadata(
        symbol=symbol.upper(),
        base_asset=nonblank(row.get("baseAsset")),
        quote_asset=nonblank(row.get("quoteAsset")),
        price_step=of("PRICE_FILTER", "tickSize"),
        qty_step=of("LOT_SIZE", "stepSize"),
        min_notional=least,
        trading=row.get("status") == _TRADING,
    )
