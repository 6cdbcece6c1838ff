"""Minutes that a run has to wait for: told when they are missed, and how that ended."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Final, Self

import numpy as np
from numpy.typing import NDArray

from ingest.rows import MINUTE_MS
from live.minutes import Minutes
from live.outcomes import Event
from live.output import moment_text

MOST_RANGES: Final = 1_000


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


@dataclass(frozen=True, slots=True)
class Without:
    """The minutes from `from_ms` on that a run went on without, as ranges [start, end), ascending.

    All others from there on it has seen. Of earlier ones it is not known: the newest `MOST_RANGES`
    are kept.
    """

    from_ms: int
    ranges: tuple[tuple[int, int], ...] = ()

    @classmethod
    def of_record(cls, record: Mapping[str, Any]) -> Self:
        """The minutes that `record` was made of."""
        return cls(int(record["from_ms"]), tuple((int(a), int(b)) for a, b in record["ranges"]))

    def record(self) -> dict[str, Any]:
        """The minutes as metadata holds them."""
        return {"from_ms": self.from_ms, "ranges": [list(edges) for edges in self.ranges]}

    def among(self, opens: NDArray[np.int64]) -> NDArray[np.bool_]:
        """Which of some minutes it went on without."""
        edges = np.array(self.ranges, np.int64).ravel()
        return np.searchsorted(edges, opens, side="right") % 2 == 1

    def and_those(self, lost: NDArray[np.int64]) -> Without:
        """The same with later minutes, ascending."""
        if not len(lost):
            return self
        breaks = np.flatnonzero(np.diff(lost) != MINUTE_MS)
        starts = lost[np.append(0, breaks + 1)].tolist()
        ends = (lost[np.append(breaks, len(lost) - 1)] + MINUTE_MS).tolist()
        before = list(self.ranges)
        if before and before[-1][1] == starts[0]:
            starts[0] = before.pop()[0]
        ranges = [*before, *zip(starts, ends, strict=True)]
        dropped = ranges[:-MOST_RANGES]
        from_ms = dropped[-1][1] if dropped else self.from_ms
        return Without(from_ms, tuple(ranges[-MOST_RANGES:]))
