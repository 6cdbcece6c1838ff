"""What is stored of an instrument, to be drawn: its days, its gaps, the part that is asked for."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Final

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.gaps import minutes_in
from ingest.rows import DAY_MS, MINUTE_MS, floor_day
from ingest.stores.candles import CandleStore
from ingest.stores.gaps import GapLedger

CELLS: Final = 180
WIDTH: Final = 1000
"""Of the picture, in its own units."""


@dataclass(frozen=True, slots=True)
class Cell:
    """Some days of the strip: where they are drawn, and how much of their minutes is there."""

    x: float
    width: float
    level: int
    start_ms: int
    share: float


@dataclass(frozen=True, slots=True)
class Stored:
    """What is stored of an instrument; `inside` is the share of a range's minutes that is there.

    `absent` are minutes that its exchange does not have, `marked` the part of the strip that a
    range covers, None where it lies outside.
    """

    instrument: Instrument
    first_ms: int
    end_ms: int
    minutes: int
    absent: int
    cells: Sequence[Cell]
    generated: bool
    inside: float | None = None
    marked: tuple[float, float] | None = None

    @property
    def missing(self) -> int:
        """Minutes from the first to the last that have no candle."""
        return (self.end_ms - self.first_ms) // MINUTE_MS - self.minutes

    @property
    def share(self) -> float:
        """Share of the minutes from the first to the last that is there."""
        return self.minutes / (self.minutes + self.missing)


def stored(
    store: CandleStore, ledger: GapLedger, instrument: Instrument, wanted: Period | None
) -> Stored | None:
    """What is stored of an instrument, None where nothing is; blocks."""
    bounds = store.bounds(instrument)
    if bounds is None:
        return None
    span = Period(bounds[0], bounds[1] + MINUTE_MS)
    days = store.day_counts(instrument, span)
    inside: float | None = None
    if wanted is not None:
        there = sum(store.day_counts(instrument, wanted).values())
        inside = there / max(1, wanted.duration_ms // MINUTE_MS)
    return Stored(
        instrument,
        span.start_ms,
        span.end_ms,
        sum(days.values()),
        minutes_in(ledger.absent(instrument, span)),
        cells(days, span),
        store.synthetic(instrument, wanted or span) > 0,
        inside,
        None if wanted is None else marked(wanted, span),
    )


def cells(days: Mapping[int, int], span: Period) -> list[Cell]:
    """The strip: at most `CELLS` cells of whole days, none of them without a day of the span."""
    first, stop = floor_day(span.start_ms), floor_day(span.end_ms - 1) + DAY_MS
    count = (stop - first) // DAY_MS
    each = -(-count // CELLS)
    found: list[Cell] = []
    for at in range(0, count, each):
        upto = min(at + each, count)
        start_ms, end_ms = first + at * DAY_MS, first + upto * DAY_MS
        there = sum(days.get(first + day * DAY_MS, 0) for day in range(at, upto))
        possible = (min(end_ms, span.end_ms) - max(start_ms, span.start_ms)) // MINUTE_MS
        share = there / max(1, possible)
        x = round(WIDTH * at / count, 2)
        width = round(WIDTH * (upto - at) / count, 2)
        found.append(Cell(x, width, level(share), start_ms, share))
    return found


def level(share: float) -> int:
    """How dark a cell is: 0 for nothing to 4 for all of it."""
    return sum(share > least for least in (0, 0.5, 0.9, 0.995))


def marked(wanted: Period, span: Period) -> tuple[float, float] | None:
    """(x, width) of a range in the strip, None where it lies outside."""
    start_ms, end_ms = max(wanted.start_ms, span.start_ms), min(wanted.end_ms, span.end_ms)
    if start_ms >= end_ms:
        return None
    first, stop = floor_day(span.start_ms), floor_day(span.end_ms - 1) + DAY_MS
    scale = WIDTH / (stop - first)
    return round((start_ms - first) * scale, 2), round((end_ms - start_ms) * scale, 2)
