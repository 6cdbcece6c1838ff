"""A job's events as a stream of server-sent events, for any number of readers.

Readers that wait at the same place of the same job share one query and one copy of its bytes. A
reader holds nothing but what it is about to send; one that takes nothing for a while is dropped.
"""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import aclosing, suppress
from dataclasses import dataclass
from typing import Final, Self
from uuid import UUID

from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from api.streams import Permit, always
from cluster.jobs.events import Bell, EventHub, EventLog, JobEvent
from cluster.jobs.job import TERMINAL, moment
from cluster.jobs.store import JobStore
from cluster.postgres.engine import typed
from cluster.postgres.errors import DatabaseFailed
from compute.errors import InvalidRequest

log = logging.getLogger(__name__)

MEDIA_TYPE: Final = "text/event-stream"
HEARTBEAT_SECONDS: Final = 15.0
WRITE_SECONDS: Final = 30.0
_ROWS: Final = 100
_HEARTBEAT: Final = b": still there\n\n"
_OPENING: Final = b"retry: 2000\n\n"
_LARGEST_ID: Final = 2**63 - 1


@dataclass(frozen=True, slots=True)
class Piece:
    """Some events as bytes: the id of the last one, whether it is the end of the job, whether
    there may be more."""

    last_id: int
    ended: bool
    data: bytes
    more: bool = False


class EventFeed:
    """What happened to jobs, read for many at once; a context manager of the service's lifetime."""

    def __init__(self, events: EventLog, hub: EventHub, jobs: JobStore) -> None:
        self._events = events
        self._hub = hub
        self._jobs = jobs
        self._asked: dict[tuple[UUID, int], asyncio.Task[Piece | None]] = {}
        self._closing = asyncio.Event()
        self.queries = 0

    async def __aenter__(self) -> Self:
        self._closing.clear()
        await self._hub.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()
        await self._hub.__aexit__(*error)

    @property
    def connected(self) -> bool:
        """Whether new events are heard at this moment."""
        return self._hub.connected

    @property
    def waiting(self) -> int:
        """Streams that are open."""
        return self._hub.waiting

    def close(self) -> None:
        """Ends all streams; their readers may come back with the id that they saw last."""
        self._closing.set()

    async def stream(
        self,
        job_id: UUID,
        after: int = 0,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        allowed: Callable[[], Awaitable[bool]] = always,
    ) -> AsyncIterator[bytes]:
        """The events after `after`, as they come, until the job has ended or is gone.

        Each `heartbeat_seconds` it asks whether its reader is still `allowed`, and ends if not.
        """
        closing = asyncio.create_task(self._closing.wait())
        permit = Permit(allowed, heartbeat_seconds)
        try:
            with self._hub.bell(job_id) as bell:
                yield _OPENING
                look = True
                while not closing.done():
                    if not await permit.holds():
                        return
                    piece = await self._next(job_id, after) if look else None
                    if piece is not None:
                        after = piece.last_id
                        yield piece.data
                        if piece.ended:
                            return
                        look = piece.more  # whatever came since the query rings
                        continue
                    look = await _rung(bell, closing, heartbeat_seconds)
                    if not look:
                        yield _HEARTBEAT
                        look = not self._hub.connected
        finally:
            closing.cancel()

    async def after(self, job_id: UUID, event_id: int) -> Piece | None:
        """The events after `event_id`; None when there is none.

        A query that somebody asked for and that has not begun yet answers this one, too: it cannot
        have missed what this reader was woken for.
        """
        key = job_id, event_id
        task = self._asked.get(key)
        if task is None:
            task = self._asked[key] = asyncio.create_task(self._read(job_id, event_id))
        return await asyncio.shield(task)

    async def _read(self, job_id: UUID, event_id: int) -> Piece | None:
        del self._asked[job_id, event_id]
        self.queries += 1
        found = await self._events.after(job_id, event_id, _ROWS)
        if not found:
            return None
        ended = any(one.kind == "state" and one.data["state"] in TERMINAL for one in found)
        data = b"".join(map(event_bytes, found))
        return Piece(found[-1].event_id, ended, data, more=len(found) == _ROWS)

    async def _next(self, job_id: UUID, event_id: int) -> Piece | None:
        """The events after `event_id`, an empty end where none can come any more."""
        try:
            with typed():
                if piece := await self.after(job_id, event_id):
                    return piece
                status = await self._jobs.status(job_id)
                if status is not None and status.state not in TERMINAL:
                    return None
                # It was deleted, or ended: before the reader's last id, or just now.
                return await self.after(job_id, event_id) or Piece(event_id, True, b"")
        except DatabaseFailed as error:
            log.warning("events of job %s: %s", job_id, error.message)
            return None  # the hub rings when it has found the database again


async def _rung(bell: Bell, closing: asyncio.Task[object], seconds: float) -> bool:
    """Whether there is something to look at before so many seconds have passed."""
    ring = asyncio.create_task(bell.wait(seconds))
    try:
        await asyncio.wait((ring, closing), return_when=asyncio.FIRST_COMPLETED)
        return closing.done() or ring.result()
    finally:
        ring.cancel()


def event_bytes(event: JobEvent) -> bytes:
    """One event as it goes over the wire; `at` is among its data."""
    data = json.dumps({"at": moment(event.at), **event.data}, separators=(",", ":"))
    return f"id: {event.event_id}\nevent: {event.kind}\ndata: {data}\n\n".encode()


def last_event_id(header: str | None, cursor: str | None = None) -> int:
    """The id that a reader saw last, 0 without one; the header is newer than the query.

    Raises: InvalidRequest.
    """
    at, name = ("header.", "Last-Event-ID") if header else ("query.", "cursor")
    text = (header or cursor or "").strip()
    if not text:
        return 0
    if not (text.isascii() and text.isdigit() and len(text) < 20 and int(text) <= _LARGEST_ID):
        message = f"{name} is the id of an event, got {text[:60]!r}"
        error = {"path": at + name, "code": "invalid_value", "message": message}
        raise InvalidRequest(message, [error])
    return int(text)


class BoundedStream(Response):
    """A body of pieces, each of which must be taken within `write_seconds`; else it is cut off.

    However it ends, `ended` is called then.
    """

    def __init__(
        self,
        pieces: AsyncIterator[bytes],
        media_type: str,
        headers: dict[str, str] | None = None,
        write_seconds: float = WRITE_SECONDS,
        ended: Callable[[], None] = lambda: None,
    ) -> None:
        self.pieces = pieces
        self.ended = ended
        self.write_seconds = write_seconds
        self.status_code = 200
        self.media_type = media_type
        self.background = None
        self.init_headers(
            {"cache-control": "no-store", "x-accel-buffering": "no"} | (headers or {})
        )

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        sending = asyncio.create_task(self._send(send))
        left = asyncio.create_task(_left(receive))
        try:
            await asyncio.wait((sending, left), return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
        except TimeoutError:
            # Returning without an end makes the server cut the connection off.
            log.info("%s: the client reads nothing; dropped", scope.get("path"))
        finally:
            self.ended()
            for task in (sending, left):
                task.cancel()
                with suppress(asyncio.CancelledError, TimeoutError):
                    await task

    async def _send(self, send: Send) -> None:
        async with aclosing(self.pieces) as pieces:  # type: ignore[type-var]  # a generator
            await self._put(
                send,
                {"type": "http.response.start", "status": 200, "headers": self.raw_headers},
            )
            async for piece in pieces:
                await self._put(
                    send, {"type": "http.response.body", "body": piece, "more_body": True}
                )
            await self._put(send, {"type": "http.response.body", "body": b"", "more_body": False})

    async def _put(self, send: Send, message: dict[str, object]) -> None:
        async with asyncio.timeout(self.write_seconds):
            await send(message)


async def _left(receive: Receive) -> None:
    """Returns when the client is gone."""
    while (await receive())["type"] != "http.disconnect":
        pass
