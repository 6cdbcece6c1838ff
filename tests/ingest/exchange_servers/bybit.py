"""Bybit V5 as documented: envelopes, newest first, cursors, acks, JSON pings."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import UTC, datetime
from itertools import islice
from typing import Any

from tests.ingest.exchange_servers.server import Clock, ExchangeServer, Socket
from tests.ingest.exchange_servers.tape import DAY_MS, MINUTE_MS, TapeCandle

SPOT, LINEAR = 3, 4
_MARKET = {"spot": SPOT, "linear": LINEAR}
_SPANS_MS = {"1": MINUTE_MS, "60": 60 * MINUTE_MS, "D": DAY_MS}
_ARGS = 10


class BybitServer(ExchangeServer):
    """Both markets on one host. `visits` requests are let through in each second of its clock."""

    market_ids = (SPOT, LINEAR)
    rest_paths = ("/v5/market/kline", "/v5/market/instruments-info")
    stream_paths: Mapping[str, int] = {"/v5/public/spot": SPOT, "/v5/public/linear": LINEAR}

    def __init__(self, clock: Clock, *, port: int = 0) -> None:
        super().__init__(clock, port=port)
        self.visits = 10_000
        self.page_size = 1000
        """Instruments on a page of instruments-info at most."""
        self.refuse_acks = 0
        """So many next subscriptions are refused."""
        self.pings = 0
        """Heartbeats received."""
        self._counts: dict[int, int] = {}

    def error_body(self, code: int, message: str) -> Any:
        return self._envelope({}, code, message)

    def _envelope(self, result: Any, code: int = 0, message: str = "OK") -> Any:
        return {
            "retCode": code,
            "retMsg": message,
            "result": result,
            "retExtInfo": {},
            "time": self.clock(),
        }

    def answer(self, path: str, params: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        now_ms = self.clock()
        second = now_ms // 1000
        count = self._counts[second] = self._counts.get(second, 0) + 1
        over = count > self.visits
        headers = {
            "X-Bapi-Limit": str(self.visits),
            "X-Bapi-Limit-Status": str(max(0, self.visits - count)),
            "X-Bapi-Limit-Reset-Timestamp": str((second + 1) * 1000 if over else now_ms),
        }
        if over:
            return 200, self.error_body(10006, "Too many visits!"), headers
        market_id = _MARKET.get(params.get("category", ""))
        if market_id is None:
            return 200, self.error_body(10001, "params error: Category is invalid"), headers
        if path.endswith("kline"):
            return 200, self._klines(market_id, params), headers
        return 200, self._instruments(market_id, params), headers

    def _klines(self, market_id: int, params: Mapping[str, str]) -> Any:
        symbol, interval = params.get("symbol", ""), params.get("interval", "")
        if symbol not in self.tape(market_id).listings:
            return self.error_body(10001, "params error: Symbol Invalid")
        if interval != "M" and interval not in _SPANS_MS:
            return self.error_body(10001, "Invalid period!")
        limit = min(int(params.get("limit", 200)), 1000)
        now_ms = self.clock()
        end_ms = min(int(params.get("end", now_ms)), now_ms)
        start_ms = int(params.get("start", end_ms - limit * _SPANS_MS.get(interval, DAY_MS)))
        rows = (
            self._minutes(market_id, symbol, start_ms, end_ms, limit, "end" not in params)
            if interval == "1"
            else self._coarse(market_id, symbol, interval, start_ms, end_ms)
        )
        # Of too many rows the newest count, but from a start without an end the oldest.
        open_ended = "start" in params and "end" not in params
        newest_first = (rows[:limit] if open_ended else rows[-limit:])[::-1]
        result = {"category": params["category"], "symbol": symbol, "list": newest_first}
        return self._envelope(result)

    def _minutes(
        self,
        market_id: int,
        symbol: str,
        start_ms: int,
        end_ms: int,
        limit: int,
        oldest: bool,
    ) -> list[list[str]]:
        tape = self.tape(market_id)
        if oldest:
            return [_row(c) for c in islice(tape.iterate(symbol, start_ms, end_ms + 1), limit)]
        # The newest of a long span: whole chunks from its end, until there are enough.
        rows: list[list[str]] = []
        first_ms = max(start_ms, tape.listings[symbol].first_ms)
        upper_ms = end_ms + 1
        while len(rows) < limit and upper_ms > first_ms:
            lower_ms = max(first_ms, upper_ms - 1000 * MINUTE_MS)
            rows = [_row(c) for c in tape.iterate(symbol, lower_ms, upper_ms)] + rows
            upper_ms = lower_ms
        return rows

    def _coarse(
        self, market_id: int, symbol: str, interval: str, start_ms: int, end_ms: int
    ) -> list[list[str]]:
        """One row for each span that has a minute; only its start is worth reading."""
        tape, rows = self.tape(market_id), []
        listing = tape.listings[symbol]
        at_ms = _floor(interval, max(start_ms, _floor(interval, listing.first_ms)))
        last_ms = min(end_ms, (listing.until_ms or end_ms + 1) - 1)
        while at_ms <= last_ms:
            next_ms = _next(interval, at_ms)
            candle = next(tape.iterate(symbol, at_ms, min(next_ms, self.clock() + 1)), None)
            if candle is not None and at_ms >= start_ms:
                rows.append([str(at_ms), *_row(candle)[1:]])
            at_ms = next_ms
        return rows

    def _instruments(self, market_id: int, params: Mapping[str, str]) -> Any:
        symbols = sorted(self.tape(market_id).listings)
        size = min(int(params.get("limit", 500)), self.page_size)
        start = int(params.get("cursor") or 0)
        page = symbols[start : start + size]
        cursor = str(start + size) if start + size < len(symbols) else ""
        result = {
            "category": params["category"],
            "nextPageCursor": cursor,
            "list": [_instrument(market_id, s, self.tape(market_id).listings[s]) for s in page],
        }
        return self._envelope(result)

    def reply(self, socket: Socket, message: Any) -> str | None:
        try:
            asked = json.loads(message)
        except ValueError:
            return json.dumps({"success": False, "ret_msg": "Params Error", "op": ""})
        operation = asked.get("op")
        answer = {"success": True, "ret_msg": "", "conn_id": "2324d924", "req_id": ""}
        answer["req_id"], answer["op"] = asked.get("req_id", ""), operation
        if operation == "ping":
            self.pings += 1
            return json.dumps(answer | {"ret_msg": "pong"})
        args = asked.get("args", [])
        unknown = [arg for arg in args if self._symbol(socket, arg) is None]
        if len(args) > _ARGS:
            return json.dumps(answer | {"success": False, "ret_msg": f"args size >{_ARGS}"})
        if unknown:
            refusal = f"error:handler not found,topic:{unknown[0]}"
            return json.dumps(answer | {"success": False, "ret_msg": refusal})
        if operation == "subscribe" and self.refuse_acks > 0:
            self.refuse_acks -= 1
            return json.dumps(answer | {"success": False, "ret_msg": "error:system busy"})
        repeated = [arg for arg in args if self._symbol(socket, arg) in socket.topics]
        if operation == "subscribe" and repeated:  # like an unknown one, it takes all others along
            refusal = f"error:already subscribed,topic:{repeated[0]}"
            return json.dumps(answer | {"success": False, "ret_msg": refusal})
        for arg in args:
            symbol = str(self._symbol(socket, arg))
            if operation == "subscribe":
                socket.topics[symbol] = None
            else:
                socket.topics.pop(symbol, None)
        return json.dumps(answer)

    def _symbol(self, socket: Socket, topic: str) -> str | None:
        symbol = topic.removeprefix("kline.1.")
        listed = self.tape(socket.market_id).listings
        return symbol if topic.startswith("kline.1.") and symbol in listed else None

    def kline_text(self, market_id: int, symbol: str, minute_ms: int, closed: bool) -> str | None:
        candle = self.tape(market_id).at(symbol, minute_ms)
        if candle is None:
            return None
        c, now_ms = candle, minute_ms + (MINUTE_MS if closed else MINUTE_MS // 2)
        return (
            f'{{"topic":"kline.1.{symbol}","data":[{{"start":{minute_ms},'
            f'"end":{minute_ms + MINUTE_MS - 1},"interval":"1","open":"{c.open}",'
            f'"close":"{c.close}","high":"{c.high}","low":"{c.low}","volume":"{c.volume_base}",'
            f'"turnover":"{c.volume_quote}","confirm":{"true" if closed else "false"},'
            f'"timestamp":{now_ms}}}],"ts":{now_ms},"type":"snapshot"}}'
        )


def _floor(interval: str, ms: int) -> int:
    if interval == "M":
        day = datetime.fromtimestamp(ms / 1000, UTC)
        return int(datetime(day.year, day.month, 1, tzinfo=UTC).timestamp()) * 1000
    return ms // _SPANS_MS[interval] * _SPANS_MS[interval]


def _next(interval: str, ms: int) -> int:
    return _floor("M", ms + 32 * DAY_MS) if interval == "M" else ms + _SPANS_MS[interval]


def _row(c: TapeCandle) -> list[str]:
    prices = [str(c.open), str(c.high), str(c.low), str(c.close)]
    return [str(c.ts_open_ms), *prices, str(c.volume_base), str(c.volume_quote)]


def _instrument(market_id: int, symbol: str, listing: Any) -> dict[str, Any]:
    row: dict[str, Any] = {
        "symbol": symbol,
        "baseCoin": listing.base,
        "quoteCoin": listing.quote,
        "status": "Trading" if listing.trading else "Closed",
    }
    if market_id == SPOT:
        row["lotSizeFilter"] = {
            "basePrecision": "0.000001",
            "quotePrecision": "0.0000001",
            "minOrderQty": "0.000048",
            "maxOrderQty": "71.73956243",
            "minOrderAmt": "5",
            "maxOrderAmt": "4000000",
        }
        row["priceFilter"] = {"tickSize": "0.01"}
    else:
        row["launchTime"] = str(listing.first_ms)
        row["lotSizeFilter"] = {
            "maxOrderQty": "1190.000",
            "minOrderQty": "0.001",
            "qtyStep": "0.001",
            "minNotionalValue": "5",
        }
        row["priceFilter"] = {"minPrice": "0.10", "maxPrice": "1999999.80", "tickSize": "0.10"}
    return row
