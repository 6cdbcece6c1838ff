"""Readers of event streams in a process of their own.

    python -m tests.benchmarks.event_readers HOST PORT PATH USER READERS

It says `open` when all have had their first event, and from then on a line for each progress that
has come to all of them: the monotonic times at which the first, the middle and the last reader had
it.
"""

from __future__ import annotations

import asyncio
import json
import sys
import time
from typing import Any, Final

_OPENING: Final = 50


class Readers:
    """What the readers have heard, by event id."""

    def __init__(self, count: int) -> None:
        self.count = count
        self.heard: dict[int, list[float]] = {}
        self.opened = 0

    def open(self) -> None:
        """One more has had its first event."""
        self.opened += 1
        if self.opened == self.count:
            print("open", flush=True)

    def hear(self, event_id: int) -> None:
        """One more has had an event."""
        at = self.heard.setdefault(event_id, [])
        at.append(time.monotonic())
        if len(at) == self.count:
            print(json.dumps([at[0], at[len(at) // 2], at[-1]]), flush=True)


class Reader(asyncio.Protocol):
    """One connection; an event is there when the blank line after it is."""

    def __init__(self, readers: Readers, request: bytes) -> None:
        self._readers, self._request = readers, request
        self._received = b""
        self._open = False

    def connection_made(self, transport: Any) -> None:
        transport.write(self._request)

    def connection_lost(self, exc: Exception | None) -> None:
        raise SystemExit("the service closed a stream")

    def data_received(self, data: bytes) -> None:
        *whole, self._received = (self._received + data).split(b"\n\n")
        for text in whole:
            at = text.find(b"id: ")
            if at < 0:
                continue
            if b"event: progress" in text:
                self._readers.hear(int(text[at + 4 :].split(b"\n", 1)[0]))
            elif not self._open:
                self._open = True
                self._readers.open()


async def _connect(host: str, port: int, path: str, user: str, count: int) -> None:
    readers = Readers(count)
    request = f"GET {path} HTTP/1.1\r\nHost: localhost\r\nX-Roehub-User: {user}\r\n\r\n".encode()
    loop = asyncio.get_running_loop()
    for number in range(1, count + 1):
        await loop.create_connection(lambda: Reader(readers, request), host, port)
        while number - readers.opened >= _OPENING:  # what waits for them is not what is measured
            await asyncio.sleep(0.005)
    await asyncio.Event().wait()


if __name__ == "__main__":
    host, port, path, user, count = sys.argv[1:]
    asyncio.run(_connect(host, int(port), path, user, int(count)))
