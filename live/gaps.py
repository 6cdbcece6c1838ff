"""Minutes that a run has to wait for: told when they are missed, and how that ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Self

import numpy as np
from numpy.typing import NDArray

from compute.market.period import Period
from ingest.rows import MINUTE_MS
from live.minutes import Minutes
from live.output import moment_text

Event = tuple[str, Mapping[str, Any]]


@dataclass(frozen=True, slots=True)
class Gap:
    """`missing` minutes of [from_ms, to_ms) were not there; `given_up` of them never came.

    It is in the run's metadata while it is open, so that it is told once.
    """

    from_ms: int
    to_ms: int
    missing: int
    given_up: int = 0

    @classmethod
    def found(cls, minutes: Minutes, from_ms: int, to_ms: int) -> Self | None:
        """The gap of [from_ms, to_ms), None where nothing is missing."""
        missing = minutes.missing(from_ms, to_ms)
        return cls(int(missing[0]), to_ms, len(missing)) if len(missing) else None

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """The gap that `record` was made of."""
        return cls(**{name: int(record[name]) for name in cls.__slots__})

    def record(self) -> dict[str, int]:
        """The gap as metadata holds it."""
        return asdict(self)

    def passed(self, lost: NDArray[np.int64]) -> Gap:
        """The same after a run went on without the minutes `lost`."""
        beyond = int((lost >= self.to_ms).sum())
        return replace(self, missing=self.missing + beyond, given_up=self.given_up + len(lost))

    def opened(self) -> Event:
        """What is told when minutes are missed."""
        return "gap", self._place()

    def ended(self, attempts: int) -> Event:
        """What is told when the run has gone on past them."""
        told = {"given_up_minutes": self.given_up, "attempts": attempts}
        return "repair", {**self._place(), **told}

    def _place(self) -> dict[str, Any]:
        return {"from_ts": moment_text(self.from_ms), "missing_minutes": self.missing}


def with_minutes(periods: list[Period], opens: NDArray[np.int64]) -> list[Period]:
    """Ascending ranges with later minutes added to them."""
    found = list(periods)
    for ms in opens.tolist():
        if found and found[-1].end_ms == ms:
            found[-1] = Period(found[-1].start_ms, ms + MINUTE_MS)
        else:
            found.append(Period(ms, ms + MINUTE_MS))
    return found
