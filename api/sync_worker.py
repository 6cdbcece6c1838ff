"""The process that computes synchronous runs, one at a time; `python -m api.sync_worker FD`.

It ends with its parent: the other end of its socket closes then, whatever the parent died of.
"""

from __future__ import annotations

import os
import pickle
import queue
import signal
import sys
import threading
from multiprocessing.connection import Connection
from typing import TYPE_CHECKING, Any, Final

from compute.control import Control, Progress
from compute.errors import RoehubError

if TYPE_CHECKING:
    from api.sync_tasks import Task
    from compute.executor import LocalExecutor
    from compute.market.candles import Candles

NICENESS: Final = 5
"""The service must answer while this computes on all cores."""

Job = tuple["Task", "Candles", Control]


def send_task(
    connection: Connection, task: Task, columns: tuple[Any, ...], deadline: float
) -> None:
    """Sends a task with the columns of its candles, each as it lies in memory."""
    connection.send_bytes(pickle.dumps(("task", task, deadline), protocol=5))
    for column in columns:
        connection.send_bytes(memoryview(column).cast("B") if len(column) else b"")


def send_cancel(connection: Connection, reason: str) -> None:
    """Asks the running task to stop."""
    connection.send_bytes(pickle.dumps(("cancel", reason, None), protocol=5))


class _Inbox:
    """Reads what the parent sends: tasks for the main thread, cancellations at once."""

    def __init__(self, connection: Connection) -> None:
        self._connection = connection
        self._control: Control | None = None
        self.jobs: queue.SimpleQueue[Job] = queue.SimpleQueue()

    def read(self) -> None:
        try:
            while True:
                kind, content, deadline = pickle.loads(self._connection.recv_bytes())  # nosec B301
                if kind == "cancel":
                    if self._control is not None:
                        self._control.cancel(content)
                    continue
                self._control = Control(deadline)
                self.jobs.put((content, self._candles(), self._control))
        except (EOFError, OSError):
            os._exit(0)

    def _candles(self) -> Candles:
        import numpy as np

        from compute.market.candles import Candles

        raw = [self._connection.recv_bytes() for _ in range(6)]
        times = np.frombuffer(raw[0], np.int64)
        return Candles(times, *(np.frombuffer(column, np.float32) for column in raw[1:]))


def serve(connection: Connection, threads: int) -> None:
    """Computes what arrives, until the parent is gone."""
    inbox = _Inbox(connection)
    threading.Thread(target=inbox.read, daemon=True).start()
    from compute.executor import LocalExecutor

    with LocalExecutor(threads) as executor:
        import compute.pipeline  # noqa: F401  what nearly every task needs

        connection.send_bytes(pickle.dumps(("ready", None)))
        while True:
            task, candles, control = inbox.jobs.get()
            answer = _answer(connection, task, candles, control, executor)
            connection.send_bytes(pickle.dumps(answer, protocol=5))
            del task, candles, answer  # a year of minutes is not to be kept for the next request


def _answer(
    connection: Connection,
    task: Task,
    candles: Candles,
    control: Control,
    executor: LocalExecutor,
) -> tuple[str, Any]:
    from api.sync_tasks import encoded

    stage = ""

    def report(now: Progress) -> None:
        nonlocal stage
        if now.stage != stage:
            stage = now.stage
            connection.send_bytes(pickle.dumps(("stage", stage)))

    try:
        return "done", encoded(task.result(candles, executor, control, report))
    except RoehubError as error:
        return "refused", error.with_traceback(None)
    except BaseException:
        import traceback

        return "failed", traceback.format_exc()


def main() -> None:
    """Serves the socket whose descriptor is the first argument, on as many threads as the next."""
    signal.signal(signal.SIGINT, signal.SIG_IGN)
    os.nice(NICENESS)
    serve(Connection(int(sys.argv[1])), int(sys.argv[2]))


if __name__ == "__main__":
    main()
