"""What an exchange is: data and parsers behind one interface.

Nothing here waits, connects or knows which exchange it is about. An exchange says which request to
send and what an answer means; `ingest.http` and `ingest.live` do the sending.
"""

from __future__ import annotations

import json
from collections.abc import Generator, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import UTC
from email.utils import parsedate_to_datetime
from typing import Any, Literal, Protocol, TypeAlias, TypeVar

from ingest.errors import MalformedFrame
from ingest.rows import Candle, whole

T = TypeVar("T")


@dataclass(frozen=True, slots=True)
class Market:
    """A market of an exchange, and the raw table its candles are kept in."""

    market_id: int
    exchange: str
    market_type: str
    raw_table: str

    @property
    def code(self) -> str:
        """`<exchange>:<market type>`."""
        return f"{self.exchange}:{self.market_type}"


@dataclass(frozen=True, slots=True)
class Archive:
    """How an exchange lays out the CSV archives of candles that it publishes without a header.

    `columns` have our names where we keep them; the last one may be left out. Times are integers
    of UTC, or texts of `time_format` by a clock that is `ahead_ms` ahead of UTC.
    """

    columns: tuple[str, ...]
    time_format: str | None = None
    ahead_ms: int = 0


@dataclass(frozen=True, slots=True)
class HttpRequest:
    """A GET to an exchange; `weight` is what the exchange will count for it."""

    path: str
    params: Mapping[str, str | int] = field(default_factory=dict)
    weight: int = 1


Conversation: TypeAlias = Generator[HttpRequest, Any, T]
"""Requests one after another, each depending on the answers before it, and what they come to.

The generator yields a request and is sent its decoded JSON; its return value is the result.
"""


@dataclass(frozen=True, slots=True)
class WeightLimit:
    """So much weight may be used within a window that begins on the window's own grid."""

    weight: int
    window_s: int


@dataclass(frozen=True, slots=True)
class Usage:
    """What an answer's headers say about the limit its request counted against.

    `used` counts within the window of the exchange, `limit` is None where only a conversation
    tells it, and `reset_at_ms` is when the count starts anew, where the exchange says so.
    """

    used: int
    limit: int | None = None
    reset_at_ms: int | None = None


@dataclass(frozen=True, slots=True)
class InstrumentMetadata:
    """What an exchange publishes about a symbol; None is what it does not, or not as a number."""

    symbol: str
    base_asset: str | None
    quote_asset: str | None
    price_step: float | None
    qty_step: float | None
    min_notional: float | None
    trading: bool


@dataclass(frozen=True, slots=True)
class Frame:
    """A message of a stream.

    `candles` are the closed minutes in it and `open_count` the minutes still running, which are
    dropped. `ok` and `message` are the answer's when it is an `ack`. `ending` says that the
    exchange is about to end the socket.
    """

    kind: Literal["kline", "ack", "pong", "ending", "other"]
    candles: tuple[Candle, ...] = ()
    open_count: int = 0
    ok: bool = True
    message: str = ""


class Exchange(Protocol):
    """Everything the rest of Roehub asks of an exchange.

    Parsers raise `MalformedFrame` for what does not have the documented shape, and
    `ExchangeError` or `RateLimited` for an error that the exchange put into a good answer.
    """

    @property
    def name(self) -> str: ...

    @property
    def markets(self) -> tuple[Market, ...]: ...

    @property
    def max_connection_age_s(self) -> float | None:
        """When a stream should be replaced, ahead of the exchange cutting it; None is never."""
        ...

    @property
    def ping_every_s(self) -> float | None:
        """How often to send `ping_frame`; None where the protocol's own pings are enough."""
        ...

    def archive(self, market: Market) -> Archive | None:
        """The layout of a market's archives; None where no such archives are known."""
        ...

    def ping_frame(self) -> str | None: ...

    def max_streams_per_socket(self, market: Market) -> int: ...

    def kline_limit(self, market: Market) -> int:
        """Minutes to ask for in one request at most."""
        ...

    def kline_request(
        self, market: Market, symbol: str, start_ms: int, end_ms: int, limit: int
    ) -> HttpRequest:
        """Asks for the minutes of `[start_ms, end_ms)`, which are `limit` at most."""
        ...

    def parse_klines(self, market: Market, symbol: str, body: Any) -> list[Candle]:
        """The candles of an answer, ascending; the running minute may be among them."""
        ...

    def first_candle(self, market: Market, symbol: str) -> Conversation[int | None]:
        """Open of the first minute that the exchange has of a symbol, None when it has none."""
        ...

    def metadata(self, market: Market) -> Conversation[list[InstrumentMetadata]]:
        """Every instrument of a market."""
        ...

    def weight_limit(self, market: Market) -> Conversation[WeightLimit | None]:
        """The limit of the market's host, None where answers tell it themselves."""
        ...

    def usage(self, headers: Mapping[str, str]) -> Usage | None:
        """What an answer's headers tell of the limit; `headers` ignores case."""
        ...

    def retry_after_s(self, status: int, headers: Mapping[str, str], body: Any) -> float | None:
        """Seconds to leave the host alone when an answer says so, 0.0 when it names no time.

        None for an answer that does not complain of too many requests. `body` is the decoded
        JSON, or the text of what is none.
        """
        ...

    def retryable(self, status: int, body: Any) -> bool:
        """Whether the same request may succeed later."""
        ...

    def failure(self, body: Any) -> tuple[int | str | None, str]:
        """Code and message of an error in the exchange's words, as far as there are any."""
        ...

    def stream_url(self, base_url: str, market: Market, symbols: Sequence[str]) -> str: ...

    def subscribe_frames(self, market: Market, symbols: Sequence[str]) -> list[str]:
        """Messages that subscribe, each answered by an ack before the next one is sent."""
        ...

    def parse_frame(self, market: Market, text: str | bytes) -> Frame: ...


def message_of(market: Market, text: str | bytes) -> dict[str, Any]:
    """The JSON object that a message of a stream is.

    Raises:
        MalformedFrame: it is none.
    """
    try:
        message = json.loads(text)
    except ValueError:
        raise malformed(market, "frame is no JSON", text) from None
    if not isinstance(message, dict):
        raise malformed(market, "frame is no object", message)
    return message


def is_closed(market: Market, said: Any, message: Any) -> bool:
    """Whether a kline is closed, as a message says.

    Raises:
        MalformedFrame: it does not say.
    """
    if said is True or said is False:
        return said
    raise malformed(market, "kline does not say whether it is closed", message)


def malformed(market: Market, what: str, got: Any) -> MalformedFrame:
    """The error for what does not have the documented shape, with the beginning of it."""
    return MalformedFrame(f"{market.code}: {what}: {str(got)[:200]}", market_id=market.market_id)


def date_ms(headers: Mapping[str, str]) -> int | None:
    """The exchange's clock when it answered, to a second; None where it does not tell."""
    return _moment_ms(headers.get("date", ""))


def named_pause_s(headers: Mapping[str, str]) -> float | None:
    """Seconds that Retry-After asks for, as a number or as a date (RFC 9110, section 10.2.3).

    A date counts from the answer's own `Date`, so that it does not matter how the clock here goes.
    None where there is none that can be read, or where it asks for no time.
    """
    text = headers.get("retry-after", "").strip()
    until_ms, now_ms = _moment_ms(text), date_ms(headers)
    if until_ms is None or now_ms is None:
        return number(text)
    return number((until_ms - now_ms) / 1000)


def _moment_ms(text: str) -> int | None:
    """Epoch ms of an HTTP date in any of its three forms."""
    try:
        moment = parsedate_to_datetime(text)
    except (TypeError, ValueError):
        return None
    if moment.tzinfo is None:  # the form of asctime names no zone; all are UTC
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def number(value: Any) -> float | None:
    """A positive finite number, or None for anything else: zero, blank, text, absent."""
    try:
        parsed = float(value)
    except (TypeError, ValueError):
        return None
    return parsed if 0 < parsed < float("inf") else None


def nonblank(value: Any) -> str | None:
    """A text that is not blank, stripped, or None."""
    return value.strip() if isinstance(value, str) and value.strip() else None


def checked(candle: Candle) -> Candle:
    """The candle.

    Raises:
        MalformedFrame: it breaks a rule of candles.
    """
    if not whole(candle):
        raise MalformedFrame(
            f"{candle.instrument} at {candle.ts_open_ms} is no candle: "
            f"open {candle.open}, high {candle.high}, low {candle.low}, close {candle.close}, "
            f"volume {candle.volume_base}",
            market_id=candle.instrument.market_id,
        )
    return candle
