"""What a market did, minute by minute, as the exchange servers tell it.

A tape is a function of symbol and minute, so years of it cost nothing. Prices have two decimals and
volumes three, and survive the way through text unchanged.
"""

from __future__ import annotations

import zlib
from dataclasses import dataclass, field

MINUTE_MS = 60_000
DAY_MS = 86_400_000


@dataclass(frozen=True, slots=True)
class TapeCandle:
    """A minute as it was traded."""

    ts_open_ms: int
    open: float
    high: float
    low: float
    close: float
    volume_base: float
    volume_quote: float
    trades: int
    taker_base: float
    taker_quote: float


@dataclass(slots=True)
class Listing:
    """A symbol: traded from `first_ms` until before `until_ms`, but not within `holes`."""

    first_ms: int
    until_ms: int | None = None
    trading: bool = True
    base: str = ""
    quote: str = "USDT"
    holes: list[tuple[int, int]] = field(default_factory=list)
    told: dict[int, TapeCandle] = field(default_factory=dict)


class Tape:
    """The minutes of every symbol of a market."""

    def __init__(self) -> None:
        self.listings: dict[str, Listing] = {}

    def enlist(self, *symbols: str, first_ms: int, until_ms: int | None = None) -> None:
        """Lists symbols whose first minute is `first_ms`."""
        for symbol in symbols:
            base = symbol.removesuffix("USDT")
            self.listings[symbol] = Listing(first_ms, until_ms, base=base)

    def drop(self, symbol: str, start_ms: int, end_ms: int) -> None:
        """Makes `[start_ms, end_ms)` minutes that the exchange does not have."""
        self.listings[symbol].holes.append((start_ms, end_ms))

    def mend(self, symbol: str) -> None:
        """Gives the exchange all minutes of the symbol again."""
        self.listings[symbol].holes.clear()

    def tell(self, symbol: str, candle: TapeCandle) -> None:
        """Puts a candle in place of the made-up one of its minute."""
        self.listings[symbol].told[candle.ts_open_ms] = candle

    def at(self, symbol: str, minute_ms: int) -> TapeCandle | None:
        """The candle of a minute, None where the exchange has none."""
        listing = self.listings.get(symbol)
        if listing is None or minute_ms < listing.first_ms:
            return None
        if listing.until_ms is not None and minute_ms >= listing.until_ms:
            return None
        if any(start <= minute_ms < end for start, end in listing.holes):
            return None
        return listing.told.get(minute_ms) or made_up(symbol, minute_ms)

    def span(self, symbol: str, start_ms: int, end_ms: int) -> list[TapeCandle]:
        """The candles that open in `[start_ms, end_ms)`, ascending."""
        return list(self.iterate(symbol, start_ms, end_ms))

    def iterate(self, symbol: str, start_ms: int, end_ms: int):
        """The candles of `span`, one after another."""
        listing = self.listings.get(symbol)
        if listing is None:
            return
        start_ms = max(start_ms, listing.first_ms)
        if listing.until_ms is not None:
            end_ms = min(end_ms, listing.until_ms)
        for minute_ms in range(-(-start_ms // MINUTE_MS) * MINUTE_MS, end_ms, MINUTE_MS):
            candle = self.at(symbol, minute_ms)
            if candle is not None:
                yield candle


def made_up(symbol: str, minute_ms: int) -> TapeCandle:
    """A candle that depends on symbol and minute alone, and differs from its neighbours."""
    minute = minute_ms // MINUTE_MS
    key = zlib.crc32(symbol.encode()) % 9_000 + 1_000
    opened, closed = key + _step(minute), key + _step(minute + 1)
    high = max(opened, closed) + minute % 3
    low = min(opened, closed) - minute % 2
    volume = 1 + minute % 997
    return TapeCandle(
        ts_open_ms=minute_ms,
        open=opened / 100,
        high=high / 100,
        low=low / 100,
        close=closed / 100,
        volume_base=volume / 8,
        volume_quote=volume * 12 / 8,
        trades=volume,
        taker_base=volume / 16,
        taker_quote=volume * 12 / 16,
    )


def _step(minute: int) -> int:
    return minute * 7919 % 101
