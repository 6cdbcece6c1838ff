"""A job on the terminal while it runs: a live bar for each stage, or a line now and then."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator
from contextlib import contextmanager
from typing import Any, Final, TextIO

from api.client import Event
from cluster.progress import STAGES
from compute.quantities import spaced

Record = dict[str, Any]
See = Callable[[Event], None]

_NAMES: Final = {**STAGES, "finalizing": "Reports"}
_LINE_SECONDS: Final = 10.0


def followed(events: Iterable[Event]) -> Record | None:
    """Shows events as they come; the last status that was among them."""
    status: Record | None = None
    with _shown() as see:
        for event in events:
            if event.kind == "state":
                status = event.data
            see(event)
    return status


@contextmanager
def _shown() -> Iterator[See]:
    if sys.stderr.isatty():
        with _bars() as see:
            yield see
    else:
        yield Lines(sys.stderr)


@contextmanager
def _bars() -> Iterator[See]:
    """Rich bars, one for each stage; the time left is what the service says."""
    from rich.console import Console
    from rich.progress import BarColumn, Progress, TextColumn, TimeElapsedColumn

    tasks: dict[str, Any] = {}
    best = ""
    with Progress(
        TextColumn("{task.description:<8}"),
        BarColumn(bar_width=32),
        TextColumn("{task.percentage:>4.0f}%"),
        TextColumn("{task.fields[counts]}"),
        TimeElapsedColumn(),
        TextColumn("{task.fields[left]}"),
        console=Console(stderr=True),
    ) as bars:

        def see(event: Event) -> None:
            nonlocal best
            if event.kind == "best":
                best = best_text(event.data)
            if event.kind == "state":
                bars.console.print(state_text(event.data), style="dim", highlight=False)
            if event.kind != "progress" or not event.data["total_units"]:
                return
            stage, done, total, left = _course(event.data)
            if stage not in tasks:
                tasks[stage] = bars.add_task(
                    _NAMES.get(stage, stage), total=total, counts="", left=""
                )
            told = ", ".join(text for text in (left, best) if text)
            counts = f"{spaced(done)} of {spaced(total)}"
            bars.update(tasks[stage], total=total, completed=done, counts=counts, left=told)

        yield see


class Lines:
    """Events as plain lines: states, the end of each stage, and every ten seconds on the way."""

    def __init__(self, out: TextIO, clock: Callable[[], float] = time.monotonic) -> None:
        self._out, self._clock = out, clock
        self._last = clock()
        self._ended: set[tuple[int, str]] = set()
        self._best = ""

    def __call__(self, event: Event) -> None:
        if event.kind == "state":
            self._say(state_text(event.data))
        elif event.kind == "best":
            self._best = best_text(event.data)
        elif event.data["total_units"]:
            self._progress(event.data)

    def _progress(self, data: Record) -> None:
        stage, done, total, left = _course(data)
        name = _NAMES.get(stage, stage)
        if done >= total:
            place = data.get("attempt", 0), stage
            if place not in self._ended:
                self._ended.add(place)
                self._say(f"{name}: {spaced(total)} done")
        elif self._clock() - self._last >= _LINE_SECONDS:
            told = "".join(f", {text}" for text in (left, self._best) if text)
            share = 100 * done / total
            self._say(f"{name}: {share:.0f} %, {spaced(done)} of {spaced(total)}{told}")

    def _say(self, line: str) -> None:
        self._last = self._clock()
        print(line, file=self._out, flush=True)


def _course(data: Record) -> tuple[str, int, int, str]:
    """(stage, units done, units, time left in words) of a progress event."""
    left = data.get("eta_seconds")
    text = ""
    if left:
        text = f"about {left:.0f} s left" if left < 600 else f"about {left / 60:.0f} min left"
    return data["stage"], data["processed_units"], data["total_units"], text


def best_text(data: Record) -> str:
    """The best return of a best event."""
    items = data.get("items") or ()
    return f"best so far {items[0]['total_return_pct']:,.2f} %" if items else ""


def state_text(status: Record) -> str:
    """A state as a line."""
    state, attempt = status["state"], status.get("attempt", 0)
    if state == "running" and attempt > 1:
        return f"running, attempt {attempt} of {status['max_attempts']}"
    if state == "failed":
        return f"failed in {_NAMES.get(status['stage'], status['stage'])}: {status['last_error']}"
    return state
