"""Coverage: from when to when there are candles of an instrument, and how many are missing."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Any

from compute.market.instrument import Instrument
from compute.market.period import Period, instant
from ingest.rows import MINUTE_MS
from ingest.stores.candles import CandleStore


@dataclass(frozen=True, slots=True)
class Coverage:
    """What is stored of an instrument: from when to when, and how much of that is there."""

    instrument: Instrument
    first_ms: int
    last_ms: int
    minutes: int

    @property
    def missing(self) -> int:
        """Minutes between the first and the last that have no candle."""
        return (self.last_ms - self.first_ms) // MINUTE_MS + 1 - self.minutes

    @property
    def coverage_pct(self) -> float:
        """Share of the minutes from the first to the last, cut off so that 100 is all of them."""
        return 10_000 * self.minutes // (self.minutes + self.missing) / 100

    def record(self) -> dict[str, Any]:
        """The coverage as JSON."""
        return {
            "market_id": self.instrument.market_id,
            "symbol": self.instrument.symbol,
            "first": instant(self.first_ms),
            "last": instant(self.last_ms),
            "minutes": self.minutes,
            "missing": self.missing,
            "coverage_pct": self.coverage_pct,
        }


def coverage(candles: CandleStore, instrument: Instrument) -> Coverage | None:
    """The coverage of an instrument, None where there is no candle of it."""
    bounds = candles.bounds(instrument)
    if bounds is None:
        return None
    first_ms, last_ms = bounds
    counts = candles.day_counts(instrument, Period(first_ms, last_ms + MINUTE_MS))
    return Coverage(instrument, first_ms, last_ms, sum(counts.values()))
