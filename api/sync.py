"""Runs within a request: slots, worker processes, deadline, disconnect.

No kernel runs in the process of the service. A worker that does not stop when it was asked to is
killed; the next run gets a new one.
"""

from __future__ import annotations

import asyncio
import logging
import os
import pickle
import socket
import subprocess
import sys
import threading
import time
from collections.abc import Awaitable, Callable
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from multiprocessing.connection import Connection
from pathlib import Path
from typing import TYPE_CHECKING, Final, Self

from api.errors import ServiceError, TooManyRequests
from api.settings import SyncSettings
from api.sync_metrics import SyncMetrics
from api.sync_worker import send_cancel, send_task
from compute.errors import Cancelled, RoehubError

if TYPE_CHECKING:
    from api.sync_tasks import Task
    from compute.market.candles import Candles

POLL_S: Final = 0.2
_ROOM_POLL_S: Final = 0.05
ROOT: Final = Path(__file__).resolve().parents[1]
TENSOR: Final = "tensor"
RECONCILE: Final = "reconcile"
PREVIEW: Final = "preview"
ESTIMATE: Final = "estimate"
VARIANT: Final = "variant"
NO_JOBS: Final = (TENSOR, RECONCILE, PREVIEW, ESTIMATE, VARIANT)
"""Kinds of runs that cannot be sent as jobs."""
AS_A_JOB: Final = "send it as a job (POST /backtests/jobs)"

Disconnected = Callable[[], Awaitable[bool]]

log = logging.getLogger(__name__)


class RunLost(ServiceError):
    """The process of a run ended by itself."""


class RunFailed(ServiceError):
    """A defect of ours inside a run; its traceback is in the log."""

    def __init__(self) -> None:
        super().__init__("Unexpected backtest operation error")


@dataclass(slots=True)
class Worker:
    """A worker process and the socket to it."""

    process: subprocess.Popen[bytes]
    connection: Connection
    stage: str = "start"
    sending: threading.Lock = field(default_factory=threading.Lock)

    @classmethod
    def started(cls, threads: int) -> Worker:
        """A new process; it takes tasks at once and works on them when it has loaded."""
        ours, theirs = socket.socketpair()
        path = os.pathsep.join(filter(None, (str(ROOT), os.environ.get("PYTHONPATH"))))
        with theirs:
            process = subprocess.Popen(
                [sys.executable, "-m", "api.sync_worker", str(theirs.fileno()), str(threads)],
                pass_fds=(theirs.fileno(),),
                env={**os.environ, "PYTHONPATH": path},
                stdin=subprocess.DEVNULL,
                start_new_session=True,
            )
        return cls(process, Connection(ours.detach()))

    def computed(self, task: Task, candles: Candles, deadline: float) -> bytes:
        """The JSON that comes back; blocks. Raises: what the task raised, RunLost, RunFailed."""
        columns = (candles.ts_open_ms, *candles.series())
        self.stage = "start"
        try:
            with self.sending:
                send_task(self.connection, task, columns, deadline)
            while True:
                kind, content = pickle.loads(self.connection.recv_bytes())  # nosec B301
                if kind == "stage":
                    self.stage = content
                elif kind == "done":
                    return content
                elif kind == "refused":
                    raise content
                elif kind == "failed":
                    log.error("a run failed\n%s", content)
                    raise RunFailed
        except (EOFError, OSError):
            status = self.process.wait()
            raise RunLost(
                f"the process of the run ended with status {status}; if it was out of memory,"
                f" narrow the request or {AS_A_JOB}",
                details={"error": "run_lost", "exit_status": status, "stage": self.stage},
            ) from None

    def cancel(self, reason: str) -> bool:
        """Asks the run to stop; False while its candles are still on their way."""
        if not self.sending.acquire(blocking=False):
            return False
        try:
            send_cancel(self.connection, reason)
        except OSError:
            return True  # it has ended; whoever waits for it is told
        finally:
            self.sending.release()
        return True

    def kill(self) -> None:
        """Ends the process now."""
        self.process.kill()

    def close(self) -> None:
        """Ends the process and forgets it."""
        self.process.kill()
        self.process.wait()
        self.connection.close()


@dataclass(slots=True)
class SyncPool:
    """At most so many runs at a time, each in a process of its own; an async context manager."""

    settings: SyncSettings
    threads: int
    metrics: SyncMetrics = field(default_factory=SyncMetrics)
    active: int = 0
    _idle: list[Worker] = field(default_factory=list)
    _all: list[Worker] = field(default_factory=list)
    _waiters: ThreadPoolExecutor | None = None

    async def __aenter__(self) -> Self:
        self._waiters = ThreadPoolExecutor(self.settings.max_concurrent_runs, "sync-run")
        return self

    async def __aexit__(self, *_: object) -> None:
        for worker in self._all:
            worker.kill()
        if self._waiters is not None:
            self._waiters.shutdown()
        for worker in self._all:
            worker.close()
        self._all.clear()
        self._idle.clear()

    def warm(self) -> None:
        """Starts a worker, so that the first request need not wait for it."""
        if not self._all:
            self._idle.append(self._started())

    async def room(self, seconds: float) -> None:
        """Returns when a run has a place, after so many seconds in any case."""
        until = time.monotonic() + seconds
        while self.active >= self.settings.max_concurrent_runs and time.monotonic() < until:
            await asyncio.sleep(_ROOM_POLL_S)

    def slot(self, kind: str) -> Slot:
        """A place for one run, to be entered; it is free again when the block is left.

        Raises: TooManyRequests when all are taken.
        """
        most = self.settings.max_concurrent_runs
        if self.active >= most:
            self.metrics.runs.labels(kind, "refused").inc()
            raise TooManyRequests(
                f"{most} runs are being computed, no more are at a time; try again in a moment"
                + ("" if kind in NO_JOBS else f", or {AS_A_JOB}"),
                details={"error": "max_concurrent_runs_exceeded", "max_concurrent_runs": most},
                headers={"Retry-After": "1"},
            )
        return Slot(self, kind)

    def _started(self) -> Worker:
        worker = Worker.started(self.threads)
        self._all.append(worker)
        return worker

    def taken(self) -> Worker:
        """An idle worker that lives, or a new one."""
        while self._idle:
            worker = self._idle.pop()
            if worker.process.poll() is None:
                return worker
            self.dropped(worker)
        return self._started()

    def returned(self, worker: Worker) -> None:
        """Keeps a worker for the next run."""
        self._idle.append(worker)

    def dropped(self, worker: Worker) -> None:
        """Ends a worker for good; one that the end of the pool has ended is gone already."""
        if worker not in self._all:
            return
        self.metrics.replaced.inc()
        self._all.remove(worker)
        worker.close()

    def computing(
        self, worker: Worker, task: Task, candles: Candles, deadline: float
    ) -> asyncio.Future[bytes]:
        """The answer that `worker` will give."""
        assert self._waiters is not None, "the pool is not running"
        loop = asyncio.get_running_loop()
        future = loop.run_in_executor(self._waiters, worker.computed, task, candles, deadline)
        # A request that is being cancelled leaves without the answer, which may be an error.
        future.add_done_callback(asyncio.Future.exception)
        return future


@dataclass(slots=True)
class Slot:
    """A place for one run."""

    pool: SyncPool
    kind: str
    outcome: str = "failed"
    began: float = 0.0

    def __enter__(self) -> Self:
        self.pool.active += 1
        self.pool.metrics.active.set(self.pool.active)
        self.began = time.monotonic()
        return self

    def __exit__(self, kind: type[BaseException] | None, error: object, _: object) -> None:
        self.pool.active -= 1
        metrics = self.pool.metrics
        metrics.active.set(self.pool.active)
        if isinstance(error, Cancelled):
            self.outcome = error.reason
        elif isinstance(error, RoehubError) and error.code == "validation_error":
            self.outcome = "refused"
        elif error is None:
            self.outcome = "done"
        metrics.runs.labels(self.kind, self.outcome).inc()
        metrics.seconds.labels(self.kind).observe(time.monotonic() - self.began)

    async def result(
        self, task: Task, candles: Candles, *, deadline: float, disconnected: Disconnected
    ) -> bytes:
        """The JSON of `task`.

        `deadline` is on the monotonic clock. Raises: what the task raises; Cancelled when the
        deadline has passed or the client has gone; RunLost, RunFailed.
        """
        worker = self.pool.taken()
        future = self.pool.computing(worker, task, candles, deadline)
        reason: str | None = None
        told = killed = False
        kill_at = deadline + self.pool.settings.grace_seconds
        try:
            while not (await asyncio.wait((future,), timeout=POLL_S))[0]:
                now = time.monotonic()
                if reason is None and await disconnected():
                    reason = "client_disconnected"
                    kill_at = min(kill_at, now + self.pool.settings.grace_seconds)
                if reason is not None and not told:
                    told = worker.cancel(reason)
                if now >= kill_at and not killed:
                    killed = True
                    worker.kill()
            try:
                return future.result()
            except RunLost:
                if not killed:
                    raise
                raise Cancelled(reason or "deadline_exceeded", worker.stage) from None
        finally:
            if not future.done():  # the request itself is being cancelled
                worker.kill()
                await asyncio.wait((future,))
            if worker.process.poll() is None and not killed:
                self.pool.returned(worker)
            else:
                self.pool.dropped(worker)
