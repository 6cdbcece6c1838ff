"""Progress of a run on stderr: a live bar on a terminal, a line now and then elsewhere."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Any

from compute.control import Progress, Report
from compute.quantities import spaced

STAGES = {
    "stage_a": "Stage A",
    "stage_a_exact": "A exact",
    "stage_a_ties": "A ties",
    "stage_a_census": "A equals",
    "stage_b": "Stage B",
    "stage_b_exact": "B exact",
    "stage_b_ties": "B ties",
    "stage_b_census": "B equals",
    "report": "Reports",
}
_LINE_SECONDS = 10.0
_TELLING_SECONDS = 5.0
"""A rate of less than this says more about start-up than about the stage."""
_BRIEF_SECONDS = 0.5
"""A further pass over a stage is worth showing from here on; the stage itself always is."""


@contextmanager
def progress() -> Iterator[Report]:
    """A report that shows stage, share, rate and time left."""
    if sys.stderr.isatty():
        with _bars() as report:
            yield report
    else:
        yield Lines(lambda text: print(text, file=sys.stderr, flush=True))


@contextmanager
def _bars() -> Iterator[Report]:
    """Rich bars, one for each stage, left standing when they are full."""
    from rich.console import Console
    from rich.progress import BarColumn, TextColumn, TimeElapsedColumn
    from rich.progress import Progress as Bars

    tasks: dict[str, Any] = {}
    with Bars(
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>4.0f}%"),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
    ) as bars:
        started: dict[str, float] = {}

        def report(now: Progress) -> None:
            if now.total == 0:
                return
            began = started.setdefault(now.stage, time.monotonic())
            if now.stage not in tasks:
                if _brief(now, time.monotonic() - began):
                    return
                name = STAGES.get(now.stage, now.stage)
                tasks[now.stage] = bars.add_task(name, total=now.total, counts="", left="")
            seconds = time.monotonic() - began
            counts = f"{spaced(now.done)} of {spaced(now.total)}{_rate(now.done, seconds)}"
            bars.update(
                tasks[now.stage], completed=now.done, counts=counts, left=_left(now, seconds)
            )

        yield report


class Lines:
    """A report as plain lines: each stage's end, and every ten seconds on the way."""

    def __init__(self, write: Callable[[str], None]) -> None:
        self._write = write
        self._stage = ""
        self._started = self._last = 0.0

    def __call__(self, now: Progress) -> None:
        clock = time.monotonic()
        if now.total == 0:
            return
        if now.stage != self._stage:
            self._stage, self._started, self._last = now.stage, clock, clock
        seconds = clock - self._started
        name = STAGES.get(now.stage, now.stage)
        if now.done >= now.total and _brief(now, seconds):
            self._stage = ""
        elif now.done >= now.total:
            rate = _rate(now.done, seconds)
            self._write(f"{name}: {spaced(now.total)} done in {seconds:.1f} s{rate}")
            self._stage = ""
        elif clock - self._last >= _LINE_SECONDS and now.done:
            self._last = clock
            self._write(
                f"{name}: {100 * now.done / now.total:.0f} %, {spaced(now.done)} of "
                f"{spaced(now.total)}{_rate(now.done, seconds)}, {_left(now, seconds)}"
            )


def _brief(now: Progress, seconds: float) -> bool:
    """Whether this is a further pass over a stage that has taken no time to speak of."""
    return now.stage.count("_") > 1 and seconds < _BRIEF_SECONDS


def _left(now: Progress, seconds: float) -> str:
    """Time left at the rate so far, once a stage has run long enough to have one."""
    if seconds < _TELLING_SECONDS or not 0 < now.done < now.total:
        return ""
    left = seconds * (now.total - now.done) / now.done
    return f"about {left:.0f} s left" if left < 600 else f"about {left / 60:.0f} min left"


def _rate(done: int, seconds: float) -> str:
    rate = round(done / seconds) if seconds > 0.05 else 0
    return f", {spaced(rate)}/s" if rate else ""
