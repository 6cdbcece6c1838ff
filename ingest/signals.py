"""SIGTERM and SIGINT as an event or a question, for processes that have something to finish."""

from __future__ import annotations

import asyncio
import os
import signal
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType

Check = Callable[[], None]


def unchecked() -> None:
    """A check that lets everything go on."""


@contextmanager
def stoppable(notice: str = "stopping at the next batch") -> Iterator[Check]:
    """A check that raises KeyboardInterrupt once a signal has come; a second signal raises at once.

    An exception in the middle of anything is lost where libraries import or call back, and breaks
    what they were doing. `notice` is written to stderr when the signal comes. Main thread only.
    """
    asked = False

    def stop(number: int, frame: FrameType | None) -> None:
        nonlocal asked
        if asked:
            raise KeyboardInterrupt
        asked = True
        os.write(2, f"\n{notice}; once more to stop at once\n".encode())

    def check() -> None:
        if asked:
            raise KeyboardInterrupt

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield check
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)


def stop_event() -> asyncio.Event:
    """The event that SIGTERM or SIGINT sets; a second one of them ends the process as ever."""
    loop = asyncio.get_running_loop()
    event = asyncio.Event()

    def stop(number: signal.Signals) -> None:
        event.set()
        loop.remove_signal_handler(number)

    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop, number)
    return event
