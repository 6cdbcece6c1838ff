"""Answers about market data."""

from __future__ import annotations

from pydantic import Field

from api.schemas.errors import Answer


class MarketItem(Answer):
    """A market."""

    market_id: int = Field(description="Its number.")
    exchange_name: str = Field(description="Exchange.")
    market_type: str = Field(description="spot or futures.")
    market_code: str = Field(description="Both, joined by a colon.")


class MarketList(Answer):
    """Enabled markets, by number."""

    items: list[MarketItem] = Field(description="The markets.")


class InstrumentItem(Answer):
    """An instrument."""

    market_id: int = Field(description="Its market.")
    symbol: str = Field(description="Its symbol.")


class InstrumentList(Answer):
    """Active instruments of a market, by symbol."""

    items: list[InstrumentItem] = Field(description="The instruments.")


class CoverageItem(Answer):
    """What is stored of an instrument."""

    market_id: int = Field(description="Its market.")
    symbol: str = Field(description="Its symbol.")
    first: str = Field(description="Open of the first minute.")
    last: str = Field(description="Open of the last minute.")
    minutes: int = Field(description="Minutes that have a candle.")
    missing: int = Field(description="Minutes between first and last that have none.")
    coverage_pct: float = Field(
        description="Share of the minutes from first to last, cut off so that 100 is all of them."
    )


class CoverageList(Answer):
    """What is stored, by market and symbol."""

    items: list[CoverageItem] = Field(description="The instruments that have candles.")
    next_cursor: str | None = Field(description="Send it as `cursor` for the rest; null: no more.")


class CandleItem(Answer):
    """One minute."""

    ts_open: str = Field(description="Its open.")
    open: float = Field(description="First price.")
    high: float = Field(description="Highest price.")
    low: float = Field(description="Lowest price.")
    close: float = Field(description="Last price.")
    volume_base: float = Field(description="Volume in base units.")
    volume_quote: float | None = Field(description="Volume in quote units, if known.")
    trades_count: int | None = Field(description="Trades, if known.")


class CandleList(Answer):
    """One-minute candles of a range, by time; minutes without one are left out."""

    market_id: int = Field(description="The market.")
    symbol: str = Field(description="The symbol.")
    timeframe: str = Field(description="Always 1m.")
    items: list[CandleItem] = Field(description="The candles.")


class SampleBody(Answer):
    """The sample as it is stored."""

    market_id: int = Field(description="The market that it is listed under.")
    symbol: str = Field(description="Its symbol; no exchange has it.")
    start: str = Field(description="Its first minute.")
    end: str = Field(description="The end of its last minute.")
    minutes: int = Field(description="Its candles; some minutes are missing, as on a market.")
    written: int = Field(description="Of them those that were not stored before.")
