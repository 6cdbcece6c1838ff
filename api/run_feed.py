"""What happens to a run of a strategy, as a stream of server-sent events."""

from __future__ import annotations

import asyncio
import json
import logging
from collections.abc import AsyncIterator, Awaitable, Callable, Coroutine
from typing import Any, Final, Self
from uuid import UUID

from sqlalchemy.ext.asyncio import AsyncEngine

from api.events import HEARTBEAT_SECONDS
from api.streams import Permit, always
from cluster.jobs.events import EventHub
from cluster.postgres.engine import typed
from cluster.postgres.errors import DatabaseFailed
from cluster.postgres.keyset import Place
from live.strategies.events import Event, events_page
from live.strategies.rows import moment

CHANNEL: Final = "strategy_events"
ENDINGS: Final = ("run_stopped", "run_failed")
KINDS: Final = (
    "run_started", "run_state_changed", "run_stop_requested", *ENDINGS,
    "signal", "trade_open", "trade_close", "gap", "repair",
)  # fmt: skip
_ROWS: Final = 100

log = logging.getLogger(__name__)


class RunFeed:
    """Streams of runs, woken by one connection; a context manager of the service's lifetime."""

    def __init__(self, engine: AsyncEngine, dsn: str) -> None:
        self._engine, self._hub = engine, EventHub(dsn, CHANNEL)
        self._closing = asyncio.Event()

    async def __aenter__(self) -> Self:
        self._closing.clear()
        await self._hub.__aenter__()
        return self

    async def __aexit__(self, *error: object) -> None:
        self.close()
        await self._hub.__aexit__(*error)

    def close(self) -> None:
        """Ends all streams; their readers may come back with the id that they saw last."""
        self._closing.set()

    async def stream(
        self,
        strategy_id: UUID,
        run_id: UUID,
        after: Place | None,
        heartbeat_seconds: float = HEARTBEAT_SECONDS,
        allowed: Callable[[], Awaitable[bool]] = always,
    ) -> AsyncIterator[bytes]:
        """The events of a run after `after`, as they come, until it has ended.

        Each `heartbeat_seconds` it asks whether its reader is still `allowed`, and ends if not.
        """
        permit = Permit(allowed, heartbeat_seconds)
        with self._hub.bell(run_id) as bell:
            yield b"retry: 2000\n\n"
            while not self._closing.is_set() and await permit.holds():
                found = await self._read(strategy_id, run_id, after)
                if found:
                    after = found[-1].ts, found[-1].event_id
                    yield b"".join(map(event_bytes, found))
                    if any(one.event_type in ENDINGS for one in found):
                        return
                elif not await self._woken(bell.wait(heartbeat_seconds)):
                    yield b": still there\n\n"

    async def ended(self, strategy_id: UUID, run_id: UUID, after: Place) -> bool:
        """Whether the run has no event after `after`; ask for one that has ended."""
        with typed():
            return not await events_page(self._engine, strategy_id, 1, after, run_id)

    async def _read(self, strategy_id: UUID, run_id: UUID, after: Place | None) -> list[Event]:
        try:
            with typed():
                return (await events_page(self._engine, strategy_id, _ROWS, after, run_id))[:_ROWS]
        except DatabaseFailed as error:
            log.warning("events of run %s: %s", run_id, error.message)
            return []  # the hub rings when it has found the database again

    async def _woken(self, waiting: Coroutine[Any, Any, bool]) -> bool:
        """Whether there may be something to read before the next heartbeat."""
        ring = asyncio.create_task(waiting)
        closing = asyncio.create_task(self._closing.wait())
        try:
            await asyncio.wait((ring, closing), return_when=asyncio.FIRST_COMPLETED)
            return closing.done() or ring.result()
        finally:
            ring.cancel()
            closing.cancel()


def event_bytes(event: Event) -> bytes:
    """One event as it goes over the wire."""
    data = json.dumps({"at": moment(event.ts), **event.payload_json}, separators=(",", ":"))
    return f"id: {event.cursor()}\nevent: {event.event_type}\ndata: {data}\n\n".encode()
