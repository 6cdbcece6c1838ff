"""Bars of a timeframe without holes, made from candles of a finer or equal frame."""

from __future__ import annotations

from dataclasses import dataclass
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compute.errors import InvalidCandles, InvalidInput, NoMarketData
from compute.market.candles import SERIES, Candles, frozen
from compute.market.fingerprint import fingerprint
from compute.market.instrument import Instrument
from compute.market.period import FIRST_MS, Period, instant
from compute.market.timeframe import TIMEFRAMES, Timeframe

MAX_BARS: Final = 50_000_000
"""Most bars or slots that are allocated: 95 years of minutes, 1.4 GB of candles."""


@dataclass(frozen=True, slots=True, eq=False)
class Timeline:
    """All bars a back-test loads, with the slice of them it trades on.

    `candles` are the bars of `timeframe`, every value finite. `[start, stop)` is the target slice:
    the bars that close inside `period`; the ones before it are warm-up. `frame` is the frame of
    the input and `load` the window it was read from; inside it `rows` input candles were present,
    the first opening at `first_ms`, the last at `last_ms`, and `missing` slots were not. Of the
    bars, `synthetic` are carried forward because their bucket was empty. `generated` says
    that a generator made some of the candles; the fingerprint does not depend on it.
    """

    instrument: Instrument
    timeframe: Timeframe
    period: Period
    warmup_bars: int
    candles: Candles
    start: int
    stop: int
    frame: Timeframe
    load: Period
    rows: int
    missing: int
    synthetic: int
    first_ms: int
    last_ms: int
    fingerprint: str
    generated: bool

    @property
    def first_bar(self) -> int:
        """Absolute number of the first bar, counted in bars from the Unix epoch.

        Anchors of running sums use it, so that they do not depend on where loading began.
        """
        return int(self.candles.ts_open_ms[0]) // self.timeframe.ms

    @property
    def close_ts_ms(self) -> NDArray[np.int64]:
        """Closing time of every bar, int64[T]."""
        return frozen(self.candles.ts_open_ms + self.timeframe.ms)


def timeline(
    candles: Candles,
    frame: Timeframe,
    instrument: Instrument,
    timeframe: Timeframe,
    period: Period,
    warmup_bars: int,
    *,
    generated: bool = False,
) -> Timeline:
    """The bars of `timeframe` for `period` and its warm-up, from candles of `frame`.

    Candles may be unordered and repeat: of equal times the last wins, times off the frame's grid
    or outside the load window are ignored, a NaN close is a candle that is not there. A bar uses
    what its bucket has; an empty bucket repeats the close before it, and is skipped when there is
    none, so that a short history shortens the warm-up. A period that contains no bar close gives
    an empty target slice. `generated` says that a generator made some of them.

    Raises:
        InvalidInput: `warmup_bars` below 1, a frame coarser than the timeframe, too many bars.
        InvalidCandles: a close that is zero or negative inside the load window.
        NoMarketData: no candle in the period, or no bar that can be made.
    """
    if frame.ms > timeframe.ms or timeframe.ms % frame.ms:
        usable = " ".join(f.code for f in TIMEFRAMES.values() if f.ms % frame.ms == 0)
        raise InvalidInput(
            f"candles of {frame.code} cannot make bars of {timeframe.code}; "
            f"use timeframe {usable} or finer candles"
        )
    load = load_window(period, timeframe, warmup_bars, frame)
    found = present(candles, frame, load)
    if len(found) == 0 or int(found.ts_open_ms[-1]) + frame.ms <= period.start_ms:
        raise _no_market_data(candles, frame, period, load)
    _refuse_nonpositive(found)
    stop_bar = -(-load.end_ms // timeframe.ms) - 1
    filled, numbers = rolled(found, timeframe, stop_bar)
    if len(filled) == 0:
        raise _no_market_data(candles, frame, period, load)
    bars = carried(filled, numbers, timeframe, stop_bar)
    _refuse_nonfinite(bars)
    bounds = np.array([period.start_ms, period.end_ms]) - timeframe.ms
    start, stop = (int(i) for i in np.searchsorted(bars.ts_open_ms, bounds, side="left"))
    return Timeline(
        instrument=instrument,
        timeframe=timeframe,
        period=period,
        warmup_bars=warmup_bars,
        candles=bars,
        start=start,
        stop=stop,
        frame=frame,
        load=load,
        rows=len(found),
        missing=load.duration_ms // frame.ms - len(found),
        synthetic=len(bars) - len(filled),
        first_ms=int(found.ts_open_ms[0]),
        last_ms=int(found.ts_open_ms[-1]),
        fingerprint=fingerprint(instrument, frame, load, found),
        generated=generated,
    )


def load_window(
    period: Period,
    timeframe: Timeframe,
    warmup_bars: int,
    frame: Timeframe = TIMEFRAMES["1m"],
) -> Period:
    """The span of candles to read: `period` and its warm-up, widened to whole slots of `frame`.

    Raises:
        InvalidInput: `warmup_bars` is not a positive integer or reaches before the year 1.
    """
    if type(warmup_bars) is not int:  # a boolean is an int to isinstance
        raise InvalidInput(f"warmup_bars must be an integer, got {warmup_bars!r}")
    if warmup_bars <= 0:
        raise InvalidInput("warmup_bars must be > 0")
    start_ms = (period.start_ms - warmup_bars * timeframe.ms) // frame.ms * frame.ms
    if start_ms < FIRST_MS:
        raise InvalidInput(
            f"warmup_bars {warmup_bars} of {timeframe.code} reach before the year 1; lower it"
        )
    return Period(start_ms, -(-period.end_ms // frame.ms) * frame.ms)


def present(candles: Candles, frame: Timeframe, load: Period) -> Candles:
    """The candles of `load` that are there: on the grid of `frame`, ascending, one per slot.

    Of candles with equal times the last one wins, whole; one whose close is not finite is absent.
    Shares memory with the input when nothing has to be dropped or moved.
    """
    times = candles.ts_open_ms
    if bool(np.all(times[1:] > times[:-1])):
        first, last = np.searchsorted(times, [load.start_ms, load.end_ms], side="left")
        window = candles.slice(int(first), int(last))
    else:
        rows = np.flatnonzero((times >= load.start_ms) & (times < load.end_ms))
        rows = rows[np.argsort(times[rows], kind="stable")]
        ordered = times[rows]
        winners = np.append(ordered[1:] != ordered[:-1], True)[: len(rows)]
        window = candles.take(rows[winners])
    times = window.ts_open_ms
    here = np.isfinite(window.close) & (times // frame.ms * frame.ms == times)
    return window if bool(here.all()) else window.take(here)


def dense(candles: Candles, frame: Timeframe, load: Period) -> Candles:
    """One slot per `frame` of `load`; a slot without a candle has NaN in all five series.

    Raises:
        InvalidInput: `load` is not made of whole slots on the grid of `frame`, or of too many.
    """
    if load.start_ms % frame.ms or load.end_ms % frame.ms:
        raise InvalidInput(f"time range {load} is not made of whole bars of {frame.code}")
    slots = load.duration_ms // frame.ms
    _refuse_too_many(slots, frame)
    found = present(candles, frame, load)
    at = (found.ts_open_ms - load.start_ms) // frame.ms
    hole = np.full(slots, np.nan, np.float32)
    ts_open_ms = load.start_ms + np.arange(slots, dtype=np.int64) * frame.ms
    return Candles(ts_open_ms, *(_overlaid(hole, at, column) for column in found.series()))


def rolled(
    found: Candles, timeframe: Timeframe, stop_bar: int
) -> tuple[Candles, NDArray[np.int64]]:
    """Bars before `stop_bar` that have a candle and five finite values, and their numbers."""
    used = int(np.searchsorted(found.ts_open_ms, stop_bar * timeframe.ms, side="left"))
    found = found.slice(0, used)
    bar_of_row = found.ts_open_ms // timeframe.ms
    firsts = np.flatnonzero(np.diff(bar_of_row, prepend=bar_of_row[:1] - 1))
    numbers = bar_of_row[firsts]
    if len(firsts) == len(found):
        open_, high, low, close = found.open, found.high, found.low, found.close
        volume = found.volume.astype(np.float64)
    else:
        lasts = np.append(firsts[1:], len(found)) - 1
        open_, close = found.open[firsts], found.close[lasts]
        with np.errstate(invalid="ignore"):
            high = np.maximum.reduceat(found.high, firsts)
            low = np.minimum.reduceat(found.low, firsts)
            volume = np.add.reduceat(found.volume, firsts, dtype=np.float64)
    whole = np.isfinite(volume)
    for column in (open_, high, low, close):
        whole &= np.isfinite(column)
    with np.errstate(over="ignore"):
        bars = Candles(numbers * timeframe.ms, open_, high, low, close, volume.astype(np.float32))
    return (bars, numbers) if bool(whole.all()) else (bars.take(whole), numbers[whole])


def carried(
    filled: Candles,
    numbers: NDArray[np.int64],
    timeframe: Timeframe,
    stop_bar: int,
    before: tuple[int, np.float32] | None = None,
) -> Candles:
    """Every bar from the first filled one up to `stop_bar`; empty ones repeat the last close.

    With the number and the close of the bar `before` these, they begin right after it.
    """
    first, close_before = before or (int(numbers[0]) - 1, np.float32(np.nan))
    first += 1
    count = stop_bar - first
    _refuse_too_many(count, timeframe)
    if count == len(filled):
        return filled
    at = numbers - first
    closes = np.append(close_before, filled.close)
    close = np.repeat(closes, np.diff(at, prepend=0, append=count))
    return Candles(
        (first + np.arange(count, dtype=np.int64)) * timeframe.ms,
        _overlaid(close, at, filled.open),
        _overlaid(close, at, filled.high),
        _overlaid(close, at, filled.low),
        close,
        _overlaid(np.zeros(count, np.float32), at, filled.volume),
    )


def _overlaid(
    background: NDArray[np.float32], at: NDArray[np.int64], values: NDArray[np.float32]
) -> NDArray[np.float32]:
    """A copy of `background` with `values` put at the indices `at`."""
    overlaid = background.copy()
    overlaid[at] = values
    return overlaid


def _refuse_too_many(bars: int, frame: Timeframe) -> None:
    if bars > MAX_BARS:
        raise InvalidInput(
            f"the time range makes {bars} bars of {frame.code}, at most {MAX_BARS} are possible; "
            f"shorten it or use a coarser timeframe"
        )


def _refuse_nonpositive(found: Candles) -> None:
    bad = np.flatnonzero(found.close <= 0)
    if len(bad):
        at = ", ".join(instant(int(ms)) for ms in found.ts_open_ms[bad[:3]])
        raise InvalidCandles(
            f"close must be > 0, but {len(bad)} of {len(found)} candles are zero or negative "
            f"(first at {at}); remove or correct them"
        )


def _refuse_nonfinite(bars: Candles) -> None:
    for name, column in zip(SERIES, bars.series(), strict=True):
        if not bool(np.isfinite(column).all()):
            raise InvalidCandles(f"derived candles must not contain NaN in {name}")


def _no_market_data(
    candles: Candles, frame: Timeframe, period: Period, load: Period
) -> NoMarketData:
    asked = f"no market data for requested range {period} (candles are read from {load})"
    if len(candles) == 0:
        return NoMarketData(f"{asked}; there are no candles at all")
    return NoMarketData(f"{asked}; {covered(candles, frame)}: move the time range inside")


def covered(candles: Candles, frame: Timeframe) -> str:
    """What some candles cover, as the clause of a message."""
    first_ms, last_ms = int(candles.ts_open_ms.min()), int(candles.ts_open_ms.max())
    return (
        f"the {len(candles)} candles of {frame.code} that were given cover "
        f"[{instant(first_ms)}, {instant(last_ms + frame.ms)}), not necessarily without gaps"
    )
