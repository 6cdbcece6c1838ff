"""Binance spot and USD-M as documented: arrays, inclusive ends, used weight, combined streams."""

from __future__ import annotations

import json
from collections.abc import Mapping
from itertools import islice
from typing import Any

from tests.ingest.exchange_servers.server import Clock, ExchangeServer, Socket, floor_minute
from tests.ingest.exchange_servers.tape import MINUTE_MS, TapeCandle

SPOT, FUTURES = 1, 2


class BinanceServer(ExchangeServer):
    """Both Binance hosts in one: `/api/v3` is spot, `/fapi/v1` USD-M.

    `weight_limit` is what a minute of this server's clock allows; beyond it requests are answered
    429 with Retry-After, and `ban_after` of these in a row 418 for `ban_s`.
    """

    market_ids = (SPOT, FUTURES)
    rest_paths = (
        "/api/v3/klines",
        "/api/v3/exchangeInfo",
        "/fapi/v1/klines",
        "/fapi/v1/exchangeInfo",
    )
    stream_paths: Mapping[str, int] = {"/stream": SPOT, "/market/stream": FUTURES}

    def __init__(self, clock: Clock, *, port: int = 0) -> None:
        super().__init__(clock, port=port)
        self.weight_limit = {SPOT: 6000, FUTURES: 2400}
        self.ban_after = 5
        self.ban_s = 120
        self.used: dict[tuple[int, int], int] = {}
        """Weight used, by market and minute."""
        self._refused: dict[int, int] = {}
        self._banned_until_ms: dict[int, int] = {}

    def error_body(self, code: int, message: str) -> Any:
        return {"code": code, "msg": message}

    def answer(self, path: str, params: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        market_id = SPOT if path.startswith("/api") else FUTURES
        limit = _limit(params)
        info = path.endswith("exchangeInfo")
        weight = (20 if market_id == SPOT else 1) if info else _weight(market_id, limit)
        refusal, headers = self._count(market_id, weight)
        if refusal is not None:
            return refusal
        if info:
            return 200, self._info(market_id), headers
        status, body = self._klines(market_id, params, limit)
        return status, body, headers

    def _count(
        self, market_id: int, weight: int
    ) -> tuple[tuple[int, Any, dict[str, str]] | None, dict[str, str]]:
        now_ms = self.clock()
        until_ms = self._banned_until_ms.get(market_id, 0)
        if now_ms < until_ms:
            text = f"Way too much request weight used; IP banned until {until_ms}."
            wait = {"Retry-After": str(-(-(until_ms - now_ms) // 1000))}
            return (418, self.error_body(-1003, text), wait), {}
        minute = floor_minute(now_ms)
        used = self.used.get((market_id, minute), 0) + weight
        headers = {"X-MBX-USED-WEIGHT-1M": str(used), "X-MBX-USED-WEIGHT": str(used)}
        if used > self.weight_limit[market_id]:
            self._refused[market_id] = self._refused.get(market_id, 0) + 1
            if self._refused[market_id] >= self.ban_after:
                self._banned_until_ms[market_id] = now_ms + self.ban_s * 1000
            headers["Retry-After"] = str(-(-(minute + MINUTE_MS - now_ms) // 1000))
            text = "Too much request weight used; current limit is request weight per 1 MINUTE."
            return (429, self.error_body(-1003, text), headers), headers
        self.used[market_id, minute] = used
        self._refused[market_id] = 0
        return None, headers

    def _klines(self, market_id: int, params: Mapping[str, str], limit: int) -> tuple[int, Any]:
        symbol = params.get("symbol", "")
        if not symbol:
            return 400, self.error_body(-1102, "Mandatory parameter 'symbol' was not sent.")
        if symbol not in self.tape(market_id).listings:  # lower case is no symbol either
            return 400, self.error_body(-1121, "Invalid symbol.")
        if params.get("interval") != "1m":
            return 400, self.error_body(-1120, "Invalid interval.")
        most = 1000 if market_id == SPOT else 1500
        if limit > most and market_id == FUTURES:
            return 400, self.error_body(-1130, "Data sent for parameter 'limit' is not valid.")
        limit = min(limit, most)
        now_ms = self.clock()
        start_ms = int(params.get("startTime", now_ms - limit * MINUTE_MS))
        end_ms = min(int(params.get("endTime", now_ms)), now_ms)
        rows = islice(self.tape(market_id).iterate(symbol, start_ms, end_ms + 1), limit)
        return 200, [_row(candle) for candle in rows]

    def _info(self, market_id: int) -> Any:
        return {
            "timezone": "UTC",
            "serverTime": self.clock(),
            "rateLimits": [
                {
                    "rateLimitType": "REQUEST_WEIGHT",
                    "interval": "MINUTE",
                    "intervalNum": 1,
                    "limit": self.weight_limit[market_id],
                },
                {
                    "rateLimitType": "ORDERS",
                    "interval": "SECOND",
                    "intervalNum": 10,
                    "limit": 300,
                },
            ],
            "exchangeFilters": [],
            "symbols": [
                _symbol(market_id, symbol, listing)
                for symbol, listing in self.tape(market_id).listings.items()
            ],
        }

    def greet(self, socket: Socket) -> None:
        for stream in socket.request.query.get("streams", "").split("/"):
            name, _, kind = stream.partition("@")
            if name and name == name.lower() and kind == "kline_1m":
                socket.topics[name.upper()] = None

    def reply(self, socket: Socket, message: Any) -> str | None:
        try:
            asked = json.loads(message)
        except ValueError:
            error = {"code": 3, "msg": "Invalid JSON: expected value at line 1 column 1"}
            return json.dumps({"error": error})
        for stream in asked.get("params", []):
            symbol = stream.partition("@")[0].upper()
            if asked.get("method") == "SUBSCRIBE":
                socket.topics[symbol] = None
            elif asked.get("method") == "UNSUBSCRIBE":
                socket.topics.pop(symbol, None)
        return json.dumps({"result": None, "id": asked.get("id")})

    def kline_text(self, market_id: int, symbol: str, minute_ms: int, closed: bool) -> str | None:
        candle = self.tape(market_id).at(symbol, minute_ms)
        if candle is None:
            return None
        c, event_ms = candle, minute_ms + (MINUTE_MS if closed else MINUTE_MS // 2)
        return (
            f'{{"stream":"{symbol.lower()}@kline_1m","data":{{"e":"kline","E":{event_ms},'
            f'"s":"{symbol}","k":{{"t":{minute_ms},"T":{minute_ms + MINUTE_MS - 1},"s":"{symbol}",'
            f'"i":"1m","f":100,"L":200,"o":"{c.open}","c":"{c.close}","h":"{c.high}","l":"{c.low}",'
            f'"v":"{c.volume_base}","n":{c.trades},"x":{"true" if closed else "false"},'
            f'"q":"{c.volume_quote}","V":"{c.taker_base}","Q":"{c.taker_quote}","B":"0"}}}}}}'
        )


def _limit(params: Mapping[str, str]) -> int:
    return int(params.get("limit", 500))


def _weight(market_id: int, limit: int) -> int:
    if market_id == SPOT:
        return 2
    for below, weight in ((100, 1), (500, 2), (1001, 5)):
        if limit < below:
            return weight
    return 10


def _row(c: TapeCandle) -> list[Any]:
    return [
        c.ts_open_ms,
        str(c.open),
        str(c.high),
        str(c.low),
        str(c.close),
        str(c.volume_base),
        c.ts_open_ms + MINUTE_MS - 1,
        str(c.volume_quote),
        c.trades,
        str(c.taker_base),
        str(c.taker_quote),
        "0",
    ]


def _symbol(market_id: int, symbol: str, listing: Any) -> dict[str, Any]:
    filters: list[dict[str, Any]] = [
        {
            "filterType": "PRICE_FILTER",
            "minPrice": "0.01",
            "maxPrice": "1000000",
            "tickSize": "0.01",
        },
        {"filterType": "LOT_SIZE", "minQty": "0.001", "maxQty": "9000", "stepSize": "0.001"},
    ]
    if market_id == SPOT:
        filters.append(
            {"filterType": "NOTIONAL", "minNotional": "5.00000000", "maxNotional": "9e6"}
        )
    else:
        filters.append({"filterType": "MIN_NOTIONAL", "notional": "100"})
    status = "TRADING" if listing.trading else ("BREAK" if market_id == SPOT else "SETTLING")
    return {
        "symbol": symbol,
        "status": status,
        "baseAsset": listing.base,
        "quoteAsset": listing.quote,
        "filters": filters,
    }
