"""A third exchange, complete: what CONTRIBUTING's recipe asks for, and a server that speaks it.

`GET /candles?pair=A&from=S&to=E` answers `{"candles": [[seconds, o, h, l, c, volume], ...]}` with
both ends inclusive; its stream sends `pair|seconds|o|h|l|c|volume|final`.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from compute.market.instrument import Instrument
from ingest.errors import MalformedFrame
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
)
from ingest.rows import Candle
from tests.ingest.exchange_servers.server import ExchangeServer, Socket

# A raw table of its own would come with a migration; the toy borrows one.
TOY = Market(5, "toy", "spot", "raw_bybit_klines_1m")


class Toy:
    """The toy exchange."""

    name = "toy"
    markets = (TOY,)
    max_connection_age_s = None
    ping_every_s = None

    def archive(self, market: Market) -> Archive | None:
        return None

    def ping_frame(self) -> str | None:
        return None

    def max_streams_per_socket(self, market: Market) -> int:
        return 300

    def kline_limit(self, market: Market) -> int:
        return 100

    def kline_request(
        self, market: Market, symbol: str, start_ms: int, end_ms: int, limit: int
    ) -> HttpRequest:
        params = {"pair": symbol, "from": start_ms // 1000, "to": (end_ms - 1) // 1000}
        return HttpRequest("/candles", params)

    def parse_klines(self, market: Market, symbol: str, body: Any) -> list[Candle]:
        try:
            return [_candle(market, symbol, row) for row in body["candles"]]
        except (KeyError, TypeError, ValueError):
            raise MalformedFrame(f"no candles: {body}", market_id=market.market_id) from None

    def first_candle(self, market: Market, symbol: str) -> Conversation[int | None]:
        body = yield HttpRequest("/candles", {"pair": symbol, "from": 0, "count": 1})
        candles = self.parse_klines(market, symbol, body)
        return candles[0].ts_open_ms if candles else None

    def metadata(self, market: Market) -> Conversation[list[InstrumentMetadata]]:
        return []
        yield

    def weight_limit(self, market: Market) -> Conversation[WeightLimit | None]:
        return None
        yield

    def usage(self, headers: Mapping[str, str]) -> Usage | None:
        return None

    def retry_after_s(self, status: int, headers: Mapping[str, str], body: Any) -> float | None:
        return 1.0 if status == 429 else None

    def retryable(self, status: int, body: Any) -> bool:
        return status >= 500

    def failure(self, body: Any) -> tuple[int | str | None, str]:
        return None, ""

    def stream_url(self, base_url: str, market: Market, symbols: Sequence[str]) -> str:
        return base_url

    def subscribe_frames(self, market: Market, symbols: Sequence[str]) -> list[str]:
        return ["+" + ",".join(symbols)]

    def parse_frame(self, market: Market, text: str | bytes) -> Frame:
        parts = str(text).split("|")
        if parts == ["ok"]:
            return Frame("ack")
        try:
            symbol, final = parts[0], parts[7] == "final"
            row = [int(parts[1]), *map(float, parts[2:7])]
        except (IndexError, ValueError):
            raise MalformedFrame(f"no candle: {text!r}", market_id=market.market_id) from None
        if not final:
            return Frame("kline", open_count=1)
        return Frame("kline", candles=(_candle(market, symbol, row),))


def _candle(market: Market, symbol: str, row: Sequence[Any]) -> Candle:
    return checked(Candle(Instrument(market.market_id, symbol), row[0] * 1000, *row[1:]))


class ToyServer(ExchangeServer):
    """What the toy exchange runs."""

    market_ids = (TOY.market_id,)
    rest_paths = ("/candles",)
    stream_paths: Mapping[str, int] = {"/stream": TOY.market_id}

    def error_body(self, code: int, message: str) -> Any:
        return message

    def answer(self, path: str, params: Mapping[str, str]) -> tuple[int, Any, dict[str, str]]:
        end_ms = min(int(params.get("to", self.clock() // 1000)) * 1000, self.clock()) + 1
        span = self.tape(TOY.market_id).span(params["pair"], int(params["from"]) * 1000, end_ms)
        rows = [
            [c.ts_open_ms // 1000, c.open, c.high, c.low, c.close, c.volume_base]
            for c in span[: int(params.get("count", 100))]
        ]
        return 200, {"candles": rows}, {}

    def reply(self, socket: Socket, message: Any) -> str | None:
        socket.topics |= dict.fromkeys(message.removeprefix("+").split(","))
        return "ok"

    def kline_text(self, market_id: int, symbol: str, minute_ms: int, closed: bool) -> str | None:
        c = self.tape(market_id).at(symbol, minute_ms)
        if c is None:
            return None
        numbers = (minute_ms // 1000, c.open, c.high, c.low, c.close, c.volume_base)
        return "|".join([symbol, *map(str, numbers), "final" if closed else "running"])
