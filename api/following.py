"""A job on the terminal while it runs: a live bar for each stage, or a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, TextIO

from api.client import Event
from cluster.pace import starting_text
from cluster.progress import LINE_SECONDS, Bars, left_text, stage_name, under_way
from compute.quantities import spaced

Record = dict[str, Any]
See = Callable[[Event], None]
Say = Callable[[str], None]


def followed(follow: Callable[[Say], Iterable[Event]]) -> Record | None:
    """Shows events as they come; the last status that was among them.

    `follow` makes them of what prints a line about the connection.
    """
    status: Record | None = None
    with _shown() as (see, say):
        for event in follow(say):
            if event.kind == "state":
                status = event.data
            see(event)
    return status


@contextmanager
def _shown() -> Iterator[tuple[See, Say]]:
    if sys.stderr.isatty():
        with Bars() as bars:
            yield _on(bars), bars.say
    else:
        lines = Lines(sys.stderr)
        yield lines, lines.say


def _on(bars: Bars) -> See:
    """What moves the bars; the time left is what the service says."""
    best = ""

    def see(event: Event) -> None:
        nonlocal best
        if event.kind == "best":
            best = best_text(event.data)
        elif event.kind == "state":
            bars.say(state_text(event.data))
            if event.data["state"] == "succeeded":
                bars.fill()
        elif event.data["total_units"]:
            bars.show(*_course(event.data), best)

    return see


class Lines:
    """Events as plain lines: states, the end of each stage, and every ten seconds on the way."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._last = clock()
        self._ended: set[tuple[int, str]] = set()
        self._best = ""

    def __call__(self, event: Event) -> None:
        if event.kind == "state":
            self.say(state_text(event.data))
        elif event.kind == "best":
            self._best = best_text(event.data)
        elif event.data["total_units"]:
            self._progress(event.data)

    def _progress(self, data: Record) -> None:
        stage, done, total, left = _course(data)
        if done >= total:
            place = data.get("attempt", 0), stage
            if place not in self._ended:
                self._ended.add(place)
                self.say(f"{stage_name(stage)}: {spaced(total)} done")
        elif self._clock() - self._last >= LINE_SECONDS:
            self.say(under_way(stage, done, total, left, self._best))

    def say(self, line: str) -> None:
        """Prints a line."""
        self._last = self._clock()
        print(line, file=self._out, flush=True)


def _course(data: Record) -> tuple[str, int, int, str]:
    """(stage, units done, units, time left in words) of a progress event."""
    stage, done = data["stage"], data["processed_units"]
    left = starting_text(stage, done) or left_text(data.get("eta_seconds"))
    return stage, done, data["total_units"], left


def best_text(data: Record) -> str:
    """The best return of a best event."""
    items = data.get("items") or ()
    return f"best so far {items[0]['total_return_pct']:,.2f} %" if items else ""


def state_text(status: Record) -> str:
    """A state as a line."""
    state, attempt = status["state"], status.get("attempt", 0)
    if state == "running" and attempt > 1:
        return f"running, attempt {attempt}"
    if state == "failed":
        return f"failed in {stage_name(status['stage'])}: {status['last_error']}"
    return state
