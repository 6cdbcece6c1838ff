"""Progress on stderr: a live bar for each stage on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any, Final, Self

from cluster.pace import Pace, starting_text
from compute.control import Progress, Report
from compute.quantities import spaced

STAGES: Final = {
    "stage_a": "Stage A",
    "stage_a_exact": "A exact",
    "stage_a_ties": "A ties",
    "stage_a_census": "A equals",
    "stage_b": "Stage B",
    "stage_b_exact": "B exact",
    "stage_b_ties": "B ties",
    "stage_b_census": "B equals",
    "report": "Reports",
    "finalizing": "Reports",
}
LINE_SECONDS: Final = 10.0
"""How often a stage that is under way gets a line where there is no terminal."""
_TELLING_SECONDS = 5.0
"""A rate of less than this says more about start-up than about the stage."""
_BRIEF_SECONDS = 0.5
"""A further pass over a stage is worth showing from here on; the stage itself always is."""


class Bars:
    """Rich bars, one for each stage, left standing when they are full; a context manager."""

    def __init__(self) -> None:
        from rich.console import Console
        from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
        from rich.progress import Progress as RichBars

        self._tasks: dict[str, Any] = {}
        self._bars = RichBars(
            TextColumn("{task.description:<8}"),
            BarColumn(bar_width=32),
            TextColumn("{task.percentage:>4.0f}%"),
            TextColumn("{task.fields[counts]}"),
            TimeElapsedColumn(),
            TextColumn("{task.fields[left]}"),
            console=Console(stderr=True),
        )

    def __enter__(self) -> Self:
        self._bars.start()
        return self

    def __exit__(self, *error: object) -> None:
        self._bars.stop()

    def __contains__(self, stage: str) -> bool:
        return stage in self._tasks

    def show(self, stage: str, done: int, total: int, *told: str, rate: str = "") -> None:
        """Moves the bar of a stage; what is `told` stands behind it, where it is not empty."""
        if stage not in self._tasks:
            self._tasks[stage] = self._bars.add_task(
                stage_name(stage), total=total, counts="", left=""
            )
        self._bars.update(
            self._tasks[stage], total=total, completed=done,
            counts=f"{spaced(done)} of {spaced(total)}{rate}", left=", ".join(filter(None, told)),
        )  # fmt: skip

    def fill(self) -> None:
        """All that was shown is done."""
        for task in self._bars.tasks:
            whole = int(task.total or 0)
            self._bars.update(
                task.id, completed=whole, counts=f"{spaced(whole)} of {spaced(whole)}", left=""
            )

    def say(self, line: str) -> None:
        """Prints a line above the bars."""
        self._bars.console.print(line, style="dim", highlight=False)


@contextmanager
def progress() -> Iterator[Report]:
    """A report that shows stage, share, rate and time left."""
    if sys.stderr.isatty():
        with Bars() as bars:
            yield _shown(bars)
    else:
        yield Lines(lambda text: print(text, file=sys.stderr, flush=True))


def _shown(bars: Bars) -> Report:
    started: dict[str, float] = {}
    paces: dict[str, Pace] = {}

    def report(now: Progress) -> None:
        if now.total == 0:
            return
        began = started.setdefault(now.stage, time.monotonic())
        seconds = time.monotonic() - began
        left = _left(now, paces.setdefault(now.stage, Pace(_TELLING_SECONDS)), began + seconds)
        if now.stage in bars or not _brief(now, seconds):
            rate = _rate(now.done, seconds)
            bars.show(now.stage, now.done, now.total, left, rate=rate)

    return report


class Lines:
    """A report as plain lines: each stage's end, and every ten seconds on the way."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._stage = ""
        self._started = self._last = 0.0
        self._pace = Pace(_TELLING_SECONDS)

    def __call__(self, now: Progress) -> None:
        clock = time.monotonic()
        if now.total == 0:
            return
        if now.stage != self._stage:
            self._stage, self._started, self._last = now.stage, clock, clock
            self._pace = Pace(_TELLING_SECONDS)
        seconds = clock - self._started
        left = _left(now, self._pace, clock)
        rate = _rate(now.done, seconds)
        if now.done >= now.total and _brief(now, seconds):
            self._stage = ""
        elif now.done >= now.total:
            name = stage_name(now.stage)
            self._write(f"{name}: {spaced(now.total)} done in {seconds:.1f} s{rate}")
            self._stage = ""
        elif clock - self._last >= LINE_SECONDS and now.done:
            self._last = clock
            self._write(under_way(now.stage, now.done, now.total, left, rate=rate))


def stage_name(stage: str) -> str:
    """A stage as people read it."""
    return STAGES.get(stage, stage)


def under_way(stage: str, done: int, total: int, *told: str, rate: str = "") -> str:
    """A line about a stage that is under way; what is `told` follows, where it is not empty."""
    rest = "".join(f", {text}" for text in told if text)
    counts = f"{spaced(done)} of {spaced(total)}{rate}"
    return f"{stage_name(stage)}: {100 * done / total:.0f} %, {counts}{rest}"


def left_text(seconds: float | None) -> str:
    """Seconds left in words; nothing where nobody can say, or none are."""
    if not seconds:
        return ""
    return f"about {seconds:.0f} s left" if seconds < 600 else f"about {seconds / 60:.0f} min left"


def _brief(now: Progress, seconds: float) -> bool:
    """Whether this is a further pass over a stage that has taken no time to speak of."""
    return now.stage.count("_") > 1 and seconds < _BRIEF_SECONDS


def _left(now: Progress, pace: Pace, clock: float) -> str:
    """Time left, once units come long enough to tell it; before the first one, what is done."""
    return starting_text(now.stage, now.done) or left_text(pace.left(now.done, now.total, clock))


def _rate(done: int, seconds: float) -> str:
    rate = round(done / seconds) if seconds > 0.05 else 0
    return f", {spaced(rate)}/s" if rate else ""
