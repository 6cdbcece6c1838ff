"""The newest minutes of an instrument: from the live feed, completed from the store."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field

import numpy as np
from numpy.typing import NDArray

from compute.market.candles import SERIES, Candles
from compute.market.period import Period
from compute.market.timeframe import Timeframe
from ingest.rows import MINUTE_MS
from live.feed import Entry
from live.settled import given_up_ms, settled_until

_NO_MINUTES = np.empty(0, np.int64)
_NO_MINUTES.flags.writeable = False
_NONE = Candles(np.empty(0, np.int64), *(np.empty(0, np.float32) for _ in SERIES))


@dataclass(slots=True)
class Minutes:
    """Candles that are at hand, ascending, one a minute, and minutes that are known to be absent.

    Of two candles of one minute the first to come stays: it may have been traded on.
    """

    candles: Candles = field(default_factory=lambda: _NONE)
    absent: list[Period] = field(default_factory=list)
    _asked: Period | None = None
    _asked_at_ms: int = 0
    _reached: dict[tuple[int, str], int] = field(default_factory=dict)  # what `until` has found
    _parts: dict[tuple[int, int], Candles] = field(default_factory=dict)  # what `between` has

    def add(self, found: Candles) -> None:
        """Takes candles of the store, or of anywhere."""
        times = np.concatenate((self.candles.ts_open_ms, found.ts_open_ms))
        kept, rows = np.unique(times, return_index=True)
        pairs = zip(self.candles.series(), found.series(), strict=True)
        self.candles = Candles(kept, *(np.concatenate(pair)[rows] for pair in pairs))
        self._forget_found()

    def offer(self, entries: Sequence[Entry], from_ms: int) -> None:
        """Takes candles of the feed; those before `from_ms` have been dealt with."""
        fresh = [entry for entry in entries if entry.ts_open_ms >= from_ms]
        if fresh:
            values = np.array([entry.candle for entry in fresh], np.float64).T.astype(np.float32)
            times = np.array([entry.ts_open_ms for entry in fresh], np.int64)
            order = np.argsort(times, kind="stable")
            self.add(Candles(times[order], *values[:, order]))

    def looked_up(
        self, period: Period, found: Candles, absent: Sequence[Period], now_ms: int
    ) -> None:
        """Takes what the store has of `period`, and what it knows not to be."""
        self.add(found)
        self.absent, self._asked, self._asked_at_ms = list(absent), period, now_ms
        self._forget_found()

    def until(self, next_ms: int, timeframe: Timeframe) -> int:
        """The first minute from `next_ms` on that is not settled for bars of `timeframe`.

        One that is missing is given up only where the store was asked for it late enough, and a
        newer one is at hand: a clock that is ahead gives up nothing. Most runs of an instrument
        are at the same minute, so what was found is kept.
        """
        key = next_ms, timeframe.code
        if key not in self._reached:
            self._reached[key] = self._settled(next_ms, timeframe)
        return self._reached[key]

    def _settled(self, next_ms: int, timeframe: Timeframe) -> int:
        times = self.candles.ts_open_ms
        here = times[int(np.searchsorted(times, next_ms)) :]
        absent = [gap for gap in self.absent if gap.end_ms > next_ms]
        known_ms = settled_until(here, absent, next_ms, next_ms)
        asked, newest_ms = self._asked, self.newest()
        if asked is None or newest_ms is None or not self.asked_for(known_ms):
            return known_ms
        waited_ms = min(given_up_ms(timeframe, self._asked_at_ms), asked.end_ms, newest_ms)
        return settled_until(here, absent, next_ms, max(next_ms, waited_ms))

    def between(self, start_ms: int, stop_ms: int) -> Candles:
        """The candles of [start_ms, stop_ms), the same object for whoever asks for the same."""
        part = self._parts.get((start_ms, stop_ms))
        if part is None:
            first, last = self.candles.ts_open_ms.searchsorted((start_ms, stop_ms)).tolist()
            part = self._parts[start_ms, stop_ms] = self.candles.slice(first, last)
        return part

    def gone(self, start_ms: int, stop_ms: int) -> NDArray[np.int64]:
        """The minutes of [start_ms, stop_ms) that are not at hand."""
        minutes = max(0, stop_ms - start_ms) // MINUTE_MS
        if not minutes:
            return _NO_MINUTES
        times = self.candles.ts_open_ms
        first, last = times.searchsorted((start_ms, stop_ms)).tolist()
        if last - first == minutes:  # as nearly always
            return _NO_MINUTES
        gone = np.ones(minutes, np.bool_)
        gone[(times[first:last] - start_ms) // MINUTE_MS] = False
        return start_ms + np.flatnonzero(gone) * MINUTE_MS

    def missing(self, start_ms: int, stop_ms: int) -> NDArray[np.int64]:
        """The minutes of [start_ms, stop_ms) that are neither at hand nor known to be absent."""
        missing = self.gone(start_ms, stop_ms)
        for gap in self.absent:
            missing = missing[(missing < gap.start_ms) | (missing >= gap.end_ms)]
        return missing

    def asked_for(self, ms: int) -> bool:
        """Whether the store was asked for this minute the last time."""
        asked = self._asked
        return asked is not None and asked.start_ms <= ms < asked.end_ms

    def newest(self) -> int | None:
        """The newest minute at hand."""
        return int(self.candles.ts_open_ms[-1]) if len(self.candles) else None

    def _forget_found(self) -> None:
        self._reached.clear()
        self._parts.clear()

    def forget(self, before_ms: int) -> None:
        """Drops what nobody will ask for again."""
        newest = self.newest()
        if len(self.candles) and int(self.candles.ts_open_ms[0]) < before_ms:
            stop_ms = before_ms if newest is None else newest + 1
            self.candles = self.between(before_ms, max(before_ms, stop_ms))
        self.absent = [gap for gap in self.absent if gap.end_ms > before_ms]
        if self._asked is not None:  # what was dropped looks as if the store did not have it
            start_ms, end_ms = max(self._asked.start_ms, before_ms), self._asked.end_ms
            self._asked = Period(start_ms, end_ms) if start_ms < end_ms else None
        self._forget_found()
