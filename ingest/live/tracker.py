"""Which minutes of an instrument have come over the socket: gaps, duplicates, late ones."""

from __future__ import annotations

from collections.abc import Iterable
from dataclasses import dataclass
from typing import Literal

from compute.market.instrument import Instrument
from compute.market.period import Period
from ingest.rows import MINUTE_MS

Kind = Literal["next", "duplicate", "late"]


@dataclass(frozen=True, slots=True)
class Arrival:
    """What a minute was to those before it; `gap` are the minutes that it shows to be missing.

    An `early` one opens before the end of what a tail fill was told to fetch. Once it is stored,
    a look-up of the last stored minute may find it, and take what is before it for stored.
    """

    kind: Kind
    gap: Period | None = None
    early: bool = False


NEXT = Arrival("next")
EARLY = Arrival("next", early=True)
DUPLICATE = Arrival("duplicate")
LATE = Arrival("late")


class Tracker:
    """The newest minute of every instrument, in memory."""

    def __init__(self) -> None:
        self._last: dict[Instrument, int] = {}
        self._expected: dict[Instrument, int] = {}

    def expect(self, instruments: Iterable[Instrument], end_ms: int) -> None:
        """Says that the minutes before `end_ms` are fetched otherwise: a tail fill has them.

        The first candle after it that opens later than `end_ms` then shows a gap from there. A
        minute that closes between the look at the clock and the subscription is in neither the
        fill nor the stream, and so is one that a slow clock holds for not yet closed.
        """
        for instrument in instruments:
            self._expected[instrument] = end_ms

    def forget(self, instruments: Iterable[Instrument]) -> None:
        """Drops instruments that are no longer followed: their next candle is a first one."""
        for instrument in instruments:
            self._last.pop(instrument, None)
            self._expected.pop(instrument, None)

    def last_ms(self, instrument: Instrument) -> int | None:
        """The open of the newest minute seen."""
        return self._last.get(instrument)

    def arrival(self, instrument: Instrument, ts_open_ms: int) -> Arrival:
        """Takes note of a minute, and says what it is."""
        last = self._last.get(instrument)
        if last is not None and ts_open_ms <= last:
            return DUPLICATE if ts_open_ms == last else LATE
        expected = self._expected.pop(instrument, None)
        self._last[instrument] = ts_open_ms
        following = ts_open_ms if last is None else last + MINUTE_MS
        if expected is not None:
            if ts_open_ms < expected:
                return EARLY
            following = expected if last is None else max(expected, following)
        if ts_open_ms > following:
            return Arrival("next", Period(following, ts_open_ms))
        return NEXT
