"""Computed spans on their way to the disk and the ledger, in groups, on a thread of its own."""

from __future__ import annotations

import threading
import time
from collections.abc import Sequence
from queue import Empty, Full, Queue
from typing import Final, Protocol

from cluster.jobs.part_files import Fresh, PartFiles
from cluster.jobs.spans import SpanRow

GROUP_SECONDS: Final = 0.25
_GROUP_SPANS: Final = 64
_WAITING_SPANS: Final = 64
_POLL_SECONDS: Final = 0.1


class Ledger(Protocol):
    """Where it is written which spans of a plan are done."""

    def committed(self, plan_key: str, fold: int) -> Sequence[SpanRow]:
        """The spans of a fold that are done."""
        ...

    def commit(self, rows: Sequence[SpanRow]) -> None:
        """Writes that spans are done, all of them or none; a second time changes nothing."""
        ...


class Committer:
    """Takes computed spans from one thread; writes and commits what came within a quarter second.

    What fails on its thread is raised by the next call.
    """

    def __init__(self, files: PartFiles, ledger: Ledger) -> None:
        self._files, self._ledger = files, ledger
        self._queue: Queue[Fresh | threading.Event | None] = Queue(_WAITING_SPANS)
        self._error: BaseException | None = None
        self._thread = threading.Thread(target=self._work, name="committer", daemon=True)
        self._thread.start()

    def put(self, span: Fresh) -> None:
        """Hands a span over; waits while too many are on their way."""
        self._hand_over(span)

    def flush(self) -> None:
        """Waits until everything that was handed over is committed."""
        done = threading.Event()
        self._hand_over(done)
        done.wait()
        self._raise()

    def close(self) -> None:
        """Ends the thread after what it was given."""
        self._queue.put(None)
        self._thread.join()

    def _hand_over(self, item: Fresh | threading.Event) -> None:
        while True:
            self._raise()
            try:
                return self._queue.put(item, timeout=_POLL_SECONDS)
            except Full:
                continue

    def _raise(self) -> None:
        if self._error is not None:
            raise self._error

    def _work(self) -> None:
        while True:
            group, waiting, ended = self._group()
            if group and self._error is None:
                try:
                    self._ledger.commit(self._files.write(group))
                except BaseException as error:
                    self._error = error
            for done in waiting:
                done.set()
            if ended:
                return

    def _group(self) -> tuple[list[Fresh], list[threading.Event], bool]:
        """(spans to commit at once, who waits for that, whether it was the last)."""
        group: list[Fresh] = []
        until: float | None = None
        while len(group) < _GROUP_SPANS:
            try:
                item = self._queue.get(
                    timeout=None if until is None else max(0.0, until - time.monotonic())
                )
            except Empty:
                break
            if item is None:
                return group, [], True
            if isinstance(item, threading.Event):
                return group, [item], False
            group.append(item)
            until = until or time.monotonic() + GROUP_SECONDS
        return group, [], False
