"""Cancellation and progress of a run: what it checks, what it tells."""

from __future__ import annotations

import time
from collections.abc import Callable
from dataclasses import dataclass, field

from compute.errors import Cancelled


@dataclass(slots=True)
class Control:
    """Asks a run to stop: a flag any thread may set, and a deadline on the monotonic clock.

    The first reason wins. A run looks at it between blocks, never inside a kernel.
    """

    deadline: float | None = None
    reason: str | None = None

    def cancel(self, reason: str = "client_disconnected") -> None:
        """Asks for a stop at the next check."""
        if self.reason is None:
            self.reason = reason

    def check(self, stage: str) -> None:
        """Raises Cancelled when a stop was asked for or the deadline has passed."""
        if self.reason is None and self.deadline is not None and time.monotonic() >= self.deadline:
            self.reason = "deadline_exceeded"
        if self.reason is not None:
            raise Cancelled(self.reason, stage)


@dataclass(frozen=True, slots=True)
class Progress:
    """Units of one stage done so far; a stage begins with 0 of its total."""

    stage: str
    done: int
    total: int


Report = Callable[[Progress], None]


def silent(progress: Progress) -> None:
    """A report that nobody reads."""


@dataclass(slots=True)
class Meter:
    """Counts the units of one stage and reports them, monotonically.

    Executors add units of the stage; `share` of them make one unit of this meter.
    """

    stage: str
    total: int
    report: Report = silent
    share: int = 1
    done: int = field(default=0)

    def __post_init__(self) -> None:
        self.report(Progress(self.stage, 0, self.total))

    def add(self, units: int) -> None:
        self.done += units // self.share
        self.report(Progress(self.stage, self.done, self.total))

    def again(self, what: str) -> Meter:
        """A meter for a further pass over the same units, named after this one's stage."""
        return Meter(f"{self.stage}_{what}", self.total, self.report)

    def part(self, what: str, total: int, share: int) -> Meter:
        """A meter for `total` chosen variants of the stage, `share` units each."""
        return Meter(f"{self.stage}_{what}", total, self.report, share)
