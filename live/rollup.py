"""Bars of a timeframe from minutes as they come: those a back-test makes of the same ones."""

from __future__ import annotations

from functools import lru_cache
from typing import Final

import numpy as np
from numpy.typing import NDArray

from compute.market.candles import Candles
from compute.market.timeframe import Timeframe
from compute.market.timeline import carried, rolled

SHARED_MINUTES: Final = 60


class Rollup:
    """Makes the bars of one timeframe from one instrument's minutes, from an anchor on.

    Bars begin with the first one that has a minute; later ones without any repeat the close before
    them.
    """

    def __init__(self, timeframe: Timeframe) -> None:
        self._timeframe = timeframe
        self._pending: Candles | None = None
        self._before: tuple[int, np.float32] | None = None

    def bars(self, minutes: Candles, until_ms: int) -> Candles | None:
        """The bars that end with the minutes up to `until_ms`, None where there is none.

        `minutes` are those that are there of all since the last call, ascending; none of the
        others before `until_ms` will come.
        """
        stop_bar = until_ms // self._timeframe.ms
        # Runs of an instrument are given the same few candles; histories are not kept for others.
        split = _split if len(minutes) <= SHARED_MINUTES else _split.__wrapped__
        filled, numbers, self._pending = split(self._pending, minutes, self._timeframe, stop_bar)
        if self._before is None and len(filled) == 0:
            return None
        if self._before is not None and stop_bar <= self._before[0] + 1:
            return None
        bars = carried(filled, numbers, self._timeframe, stop_bar, self._before)
        self._before = stop_bar - 1, bars.close[-1]
        return bars

    @property
    def pending(self) -> int:
        """Minutes of the bar that has not ended."""
        return 0 if self._pending is None else len(self._pending)


@lru_cache(maxsize=256)
def _split(
    pending: Candles | None, minutes: Candles, timeframe: Timeframe, stop_bar: int
) -> tuple[Candles, NDArray[np.int64], Candles | None]:
    """(bars before `stop_bar` that have a minute, their numbers, minutes of the one after them)."""
    found = minutes if pending is None else _joined(pending, minutes)
    filled, numbers = rolled(found, timeframe, stop_bar)
    left = int(np.searchsorted(found.ts_open_ms, stop_bar * timeframe.ms, side="left"))
    return filled, numbers, found.slice(left, len(found)) if left < len(found) else None


def _joined(first: Candles, second: Candles) -> Candles:
    columns = zip(first.series(), second.series(), strict=True)
    return Candles(
        np.concatenate((first.ts_open_ms, second.ts_open_ms)),
        *(np.concatenate(pair) for pair in columns),
    )
