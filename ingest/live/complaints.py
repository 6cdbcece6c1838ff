"""Failures that repeat, told now and then: an outage is one reason, however often it is met."""

from __future__ import annotations

import re
from dataclasses import dataclass
from typing import Final
from urllib.parse import urlsplit

from compute.market.instrument import Instrument

PAUSE_S: Final = (60.0, 3600.0)
"""How long a reason is not told again: at first, and at most."""
RETURN_S: Final = 600.0
"""How long at most after it was told where its end was told since."""

_REASONS: Final = 16
"""Reasons of a source that are remembered."""
_SYMBOL: Final = re.compile(r"\b(?=[0-9]*[A-Z])[A-Z0-9]{5,}\b")


@dataclass(slots=True)
class _Told:
    pause_s: float
    next_s: float
    is_over: bool = False


class Complaints:
    """What is to be said of the failures of some sources, each known by a text."""

    def __init__(self) -> None:
        self._told: dict[str, dict[str, _Told]] = {}

    def tells(self, source: str, reason: str, now_s: float) -> bool:
        """Whether a failure is to be told: for another reason at once, for the same one again after
        pauses that grow. Long after the last one would have been told it is a new failure."""
        told = self._told.setdefault(source, {})
        last = told.pop(reason, None)
        pause_s = PAUSE_S[0]
        if last is not None:
            if now_s < last.next_s:
                told[reason] = last
                return False
            if now_s < last.next_s + last.pause_s:
                pause_s = min(2 * last.pause_s, PAUSE_S[1])
        told[reason] = _Told(pause_s, now_s + pause_s)
        if len(told) > _REASONS:
            del told[next(iter(told))]
        return True

    def over(self, source: str) -> bool:
        """Whether the end of a failure is to be told: once after it was.

        Whoever read that does not wait an hour to read that it is there again.
        """
        lasting = [one for one in self._told.get(source, {}).values() if not one.is_over]
        for one in lasting:
            one.is_over = True
            one.next_s = min(one.next_s, one.next_s - one.pause_s + RETURN_S)
        return bool(lasting)


def unreachable(error: Exception, url: str) -> str:
    """Why a socket at `url` failed; of a host that is not reached with the cure."""
    reason = str(error) or type(error).__name__
    if isinstance(error, OSError):
        return (
            f"{urlsplit(url).netloc} cannot be reached ({reason}); check the network and this"
            " market's ws.url; it is tried again until it answers"
        )
    return reason


def of_any(instrument: Instrument, error: Exception) -> str:
    """The reason of a failure without its instrument, and without the one that its market was asked
    for instead: that of all that fail alike."""
    symbol = rf"(?<![A-Za-z0-9]){re.escape(instrument.symbol)}(?![A-Za-z0-9])"
    return _SYMBOL.sub("…", re.sub(symbol, "…", str(error) or type(error).__name__))
