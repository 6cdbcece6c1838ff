"""A client of its own process: keep-alive connections that ask again as soon as they are answered.

    python -m tests.benchmarks.http_load < PLAN.json

The plan has `host`, `port`, `requests` (whole requests as text, asked in turn), `connections` and
`seconds`; it goes on until there is an answer for each connection. With `rate` so many requests a
second are sent at their time, whatever comes back: a delay counts from the time a request was due,
so that nothing is left out while the service stands still. The report has the number of answers,
the seconds, quantiles of the delays in seconds, what was answered other than 200, and the CPU
seconds of this process.
"""

from __future__ import annotations

import asyncio
import itertools
import json
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from typing import Any, Final

from tests.benchmarks.observed import ROOT

_END: Final = b"\r\n\r\n"
_LENGTH: Final = b"content-length:"
_PATIENCE_S: Final = 60.0


class Load:
    """What is asked, and what came of it."""

    def __init__(self, requests: Sequence[str]) -> None:
        self.requests: Iterator[bytes] = itertools.cycle([one.encode() for one in requests])
        self.delays: list[float] = []
        self.late: list[float] = []
        self.refused: Counter[int] = Counter()
        self.until = float("inf")
        self.idle: list[Connection] = []
        self.due: list[float] = []
        self.paced = False

    def answered(self, connection: Connection, status: int, now: float) -> None:
        """Notes an answer and gives the connection its next request, if there is one."""
        if now < self.until:
            self.delays.append(now - connection.asked)
            if status != 200:
                self.refused[status] += 1
        if self.paced:
            self.idle.append(connection)
            self.send_due()
        elif now < self.until:
            connection.ask(next(self.requests), now)

    def send_due(self) -> None:
        """Sends what is due, as far as connections are free."""
        while self.due and self.idle:
            # In turn: the service closes a connection that is silent for seconds.
            self.idle.pop(0).ask(next(self.requests), self.due.pop(0))


class Connection(asyncio.Protocol):
    """One connection; it has at most one request under way."""

    def __init__(self, load: Load) -> None:
        self.load = load
        self.asked = 0.0
        self._received = b""

    def connection_made(self, transport: Any) -> None:
        self.transport = transport

    def connection_lost(self, exc: Exception | None) -> None:
        if time.monotonic() < self.load.until:
            raise SystemExit("the service closed a connection")

    def ask(self, request: bytes, at: float) -> None:
        """Sends a request that is due at `at`."""
        self.asked = at
        self.transport.write(request)

    def data_received(self, data: bytes) -> None:
        received = self._received = self._received + data
        end = received.find(_END)
        if end < 0:
            return
        head = received[:end].lower()
        at = head.index(_LENGTH) + len(_LENGTH)
        size = int(head[at:].split(b"\r\n", 1)[0])
        if len(received) < end + len(_END) + size:
            return
        self._received = b""
        self.load.answered(self, int(received[9:12]), time.monotonic())


async def loaded(plan: dict[str, Any]) -> dict[str, Any]:
    """The report of a plan."""
    load, loop = Load(plan["requests"]), asyncio.get_running_loop()
    connections = [
        (await loop.create_connection(lambda: Connection(load), plan["host"], plan["port"]))[1]
        for _ in range(plan["connections"])
    ]
    spent, began = time.process_time(), time.monotonic()
    if plan.get("rate"):
        await _paced(load, connections, plan["rate"], began + plan["seconds"])
    else:
        for connection in connections:
            connection.ask(next(load.requests), time.monotonic())
        await asyncio.sleep(plan["seconds"])
        await _until(lambda: len(load.delays) >= len(connections))
    load.until = time.monotonic()
    seconds = load.until - began
    return {
        "answers": len(load.delays),
        "seconds": seconds,
        "delays": quantiles(load.delays),
        "late": quantiles(load.late) if load.late else None,
        "refused": dict(load.refused),
        "unanswered": len(load.due) + (len(connections) - len(load.idle) if load.paced else 0),
        "cpu_seconds": time.process_time() - spent,
    }


async def _paced(load: Load, connections: list[Connection], rate: float, end: float) -> None:
    load.paced, load.idle = True, list(connections)
    due = time.monotonic()
    while due < end:
        await asyncio.sleep(due - time.monotonic())
        load.late.append(time.monotonic() - due)
        load.due.append(due)
        load.send_due()
        due += 1 / rate
    await _until(lambda: len(load.idle) == len(connections))  # what is on its way still counts


async def _until(true: Callable[[], bool]) -> None:
    """Returns when something is so, or the patience is over."""
    limit = time.monotonic() + _PATIENCE_S
    while not true() and time.monotonic() < limit:
        await asyncio.sleep(0.01)


def quantiles(values: Sequence[float]) -> dict[str, float]:
    """The median, the 99th percentile and the largest."""
    ordered = sorted(values)
    last = len(ordered) - 1
    return {
        "p50": ordered[round(0.5 * last)],
        "p99": ordered[round(0.99 * last)],
        "most": ordered[last],
    }


def get(path: str, user_id: object) -> str:
    """A GET of a user, as it goes over a connection that stays."""
    return f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Roehub-User: {user_id}\r\n\r\n"


def post(path: str, user_id: object, body: Any) -> str:
    """A POST of a user."""
    text = json.dumps(body)
    return (
        f"POST {path} HTTP/1.1\r\nHost: localhost\r\nX-Roehub-User: {user_id}\r\n"
        f"Content-Type: application/json\r\nContent-Length: {len(text.encode())}\r\n\r\n{text}"
    )


def client(url: str, requests: Sequence[str], **plan: Any) -> subprocess.Popen[str]:
    """A client at work; `report` waits for it."""
    host, _, port = url.removeprefix("http://").partition(":")
    process = subprocess.Popen(
        [sys.executable, "-m", "tests.benchmarks.http_load"],
        cwd=ROOT, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True,
    )  # fmt: skip
    assert process.stdin is not None
    json.dump({"host": host, "port": int(port), "requests": list(requests), **plan}, process.stdin)
    process.stdin.close()
    return process


def report(process: subprocess.Popen[str]) -> dict[str, Any]:
    """What a client found. Raises: RuntimeError when it ended badly."""
    assert process.stdout is not None
    said = process.stdout.read()
    if process.wait():
        raise RuntimeError(f"the client ended with {process.returncode}")
    return json.loads(said)


if __name__ == "__main__":
    print(json.dumps(asyncio.run(loaded(json.load(sys.stdin)))))
