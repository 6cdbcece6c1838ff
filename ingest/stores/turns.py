"""Turns at something that serves one caller at a time."""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager


class Turns:
    """A lock of which the next turn goes to whoever is in a hurry, if anyone is.

    So a live candle waits for one statement of a history fill, however many fills there are.
    """

    def __init__(self) -> None:
        self._free = threading.Condition()
        self._taken = False
        self._hurried = 0

    @contextmanager
    def turn(self, urgent: bool = False) -> Iterator[None]:
        """Waits for a turn, and holds it while the block lasts; a thread takes no two."""
        with self._free:
            self._hurried += urgent
            try:
                self._free.wait_for(lambda: not self._taken and (urgent or not self._hurried))
                self._taken = True
            finally:
                self._hurried -= urgent
                if not self._taken:  # the wait was interrupted: others need not wait for it
                    self._free.notify_all()
        try:
            yield
        finally:
            with self._free:
                self._taken = False
                self._free.notify_all()
