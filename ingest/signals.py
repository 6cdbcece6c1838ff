"""SIGTERM and SIGINT as an event, for processes that have something to finish."""

from __future__ import annotations

import asyncio
import signal


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
