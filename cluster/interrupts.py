"""Ctrl-C and SIGTERM as a polite request: a run stops at its next check."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Iterator
from contextlib import contextmanager
from types import FrameType

from compute.control import Control

INTERRUPTED = "interrupted"
_NOTICE = b"\nstopping at the next block; once more to stop at once\n"


@contextmanager
def interruptible(control: Control) -> Iterator[None]:
    """While inside, the first signal cancels `control`; a second one ends the process at once."""
    if threading.current_thread() is not threading.main_thread():
        yield
        return

    def stop(number: int, frame: FrameType | None) -> None:
        if control.reason is not None:
            raise KeyboardInterrupt
        control.cancel(INTERRUPTED)
        # Not print: the signal may have come in the middle of one.
        os.write(2, _NOTICE)

    before = {number: signal.signal(number, stop) for number in (signal.SIGINT, signal.SIGTERM)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
