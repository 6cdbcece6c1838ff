"""What is stored: the instruments, and of one its days, its gaps, the part that is asked for."""

from __future__ import annotations

import time
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Final

from api.context import AppContext
from api.market import market_of
from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.gaps import grouped, merged, minutes_in, missing, short_days
from ingest.rows import DAY_MS, MINUTE_MS, floor_day
from ingest.sample import INSTRUMENT as SAMPLE
from ingest.sample import PERIOD as SAMPLE_PERIOD
from ingest.stores.candles import CandleStore
from ingest.stores.gaps import GapLedger

CELLS: Final = 180
WIDTH: Final = 1000
"""Of the picture, in its own units."""
_KNOWN_S: Final = 30.0
_AT_ONCE: Final = 31 * DAY_MS // MINUTE_MS
"""Minutes that a statement reads; more only where each of their days lacks some."""
_INSTRUMENTS: Final = "instruments_with_candles"


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

    `gaps` are the ranges without a candle from the first to the last; `absent` are minutes that its
    exchange does not have, `marked` the part of the strip that a range covers, None where it lies
    outside.
    """

    instrument: Instrument
    first_ms: int
    end_ms: int
    minutes: int
    absent: int
    cells: Sequence[Cell]
    generated: bool
    gaps: Sequence[Period] = ()
    inside: float | None = None
    marked: tuple[float, float] | None = None

    @property
    def missing(self) -> int:
        """Minutes from the first to the last that have no candle."""
        return (self.end_ms - self.first_ms) // MINUTE_MS - self.minutes

    @property
    def longest(self) -> Period | None:
        """The longest gap, the first of such; None without one."""
        return max(self.gaps, key=lambda gap: gap.duration_ms, default=None)

    @property
    def share(self) -> float:
        """Share of the minutes from the first to the last that is there."""
        return self.minutes / (self.minutes + self.missing)


@dataclass(frozen=True, slots=True)
class Held:
    """From when to when there are candles of an instrument, and whether a generator made some."""

    instrument: Instrument
    first_ms: int
    end_ms: int
    generated: bool


def instruments(context: AppContext) -> list[Instrument]:
    """The instruments with candles, looked at once in a while: a large store is long about it."""
    now = time.monotonic()
    until, found = context.running.get(_INSTRUMENTS, (now, []))
    if now >= until or not found:
        found = market_of(context.market).candle_store.instruments()
        context.running[_INSTRUMENTS] = (time.monotonic() + _KNOWN_S, found)
    return found


async def is_bare(context: AppContext) -> bool:
    """Whether there is no candle but those of a sample that is not whole, whoever began it."""
    market = market_of(context.market)

    def found() -> bool:
        store = market.candle_store
        if store.is_empty():
            return True
        return set(instruments(context)) == {SAMPLE} and not _has_sample(store)

    return await market.read(found)


async def has_sample(context: AppContext) -> bool:
    """Whether the sample is stored, and whole, whoever stored it."""
    market = market_of(context.market)
    return await market.read(lambda: _has_sample(market.candle_store))


def _has_sample(store: CandleStore) -> bool:
    bounds = store.bounds(SAMPLE)
    return bounds is not None and bounds[1] + DAY_MS >= SAMPLE_PERIOD.end_ms


def sample_panel(
    context: AppContext, *, here: bool = False, is_stored: bool = False
) -> dict[str, Any]:
    """What the template of the sample needs; `here` it was asked for."""
    load, source = market_of(context.market).sample, context.candle_source
    return {"load": load, "source": source, "here": here, "is_stored": is_stored}


def held(store: CandleStore, instrument: Instrument) -> Held | None:
    """What the first and the last day of an instrument say of it, None without candles; blocks."""
    bounds = store.bounds(instrument)
    if bounds is None:
        return None
    first_ms, end_ms = bounds[0], bounds[1] + MINUTE_MS
    ends = (Period(first_ms, first_ms + DAY_MS), Period(end_ms - DAY_MS, end_ms))
    made_up = any(store.synthetic(instrument, one) for one in ends)
    return Held(instrument, first_ms, end_ms, made_up)


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
        gaps(store, instrument, days, span),
        inside,
        None if wanted is None else marked(wanted, span),
    )


def gaps(
    store: CandleStore, instrument: Instrument, days: Mapping[int, int], span: Period
) -> list[Period]:
    """Ranges of `span` without a candle: a statement a month that has days that lack some."""
    found: list[Period] = []
    for group in grouped(merged(short_days(days, span)), _AT_ONCE):
        here = store.minutes(instrument, Period(group[0].start_ms, group[-1].end_ms))
        found += [gap for part in group for gap in missing(here, part)]
    return merged(found)


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
