"""Messages of runs to the chats of their owners: best effort, at most one try, never in the way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from typing import Any, Final, Protocol
from uuid import UUID

from live.metrics import TelegramMetrics
from live.output import Told
from live.telegram.bot import BotFailed

ROUTED: Final = ("signal", "trade_open", "trade_close", "run_failed")
_REMEMBERED: Final = 10_000
_QUEUED: Final = 1_000
_LONGEST_REST_S: Final = 60.0
_CHARACTERS: Final = 2_000
"""Of a message; Telegram takes 4096 UTF-16 units."""

log = logging.getLogger(__name__)

Chat = Callable[[UUID], Awaitable[int | None]]
"""The chat of a user: the newest confirmed one, None without any."""


class Sender(Protocol):
    """Delivers a text to a chat."""

    async def send(self, chat_id: int, text: str) -> None:
        """Raises: BotFailed."""
        ...


class LogSender:
    """Writes what would be sent into the log."""

    async def send(self, chat_id: int, text: str) -> None:
        log.info("telegram (log only) to chat %s: %s", chat_id, text)


class Notifier:
    """Turns events into messages and sends them one after the other, behind a bounded queue."""

    def __init__(
        self,
        sender: Sender,
        chat: Chat,
        metrics: TelegramMetrics,
        debounce_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender, self._chat, self._clock = sender, chat, clock
        self._metrics = metrics
        self._debounce_s = debounce_s
        self._failed_at: OrderedDict[tuple[UUID, UUID, str], float] = OrderedDict()
        self._queue: asyncio.Queue[Told] = asyncio.Queue(_QUEUED)

    def tell(self, record: Told) -> None:
        """Takes an event; never waits. What is no routed event is left out."""
        if record.kind not in ROUTED or record.payload is None or self._repeats(record):
            return
        try:
            self._queue.put_nowait(record)
        except asyncio.QueueFull:
            self._metrics.notify_errors.inc()

    async def run(self) -> None:
        """Sends what comes until it is cancelled."""
        while True:
            record, rest_s = await self._queue.get(), 0.0
            try:
                await self._deliver(record)
            except Exception as error:
                self._metrics.notify_errors.inc()
                log.warning("a message of run %s was not sent: %s", record.source.run_id, error)
                if isinstance(error, BotFailed):
                    rest_s = min(error.retry_after_s or 0.0, _LONGEST_REST_S)
            finally:
                self._queue.task_done()
            if rest_s:
                await asyncio.sleep(rest_s)

    async def drained(self) -> None:
        """Returns when everything that was told so far has been tried."""
        await self._queue.join()

    async def _deliver(self, record: Told) -> None:
        chat_id = await self._chat(record.source.user_id)
        if chat_id is None:
            self._metrics.notify_skipped.inc()
            log.warning("user %s has no confirmed chat", record.source.user_id)
            return
        await self._sender.send(chat_id, message(record))
        self._metrics.notified.inc()

    def _repeats(self, record: Told) -> bool:
        """Whether the same failure was told within the window; the mark is set before delivery."""
        if record.kind != "run_failed":
            return False
        error = " ".join(str((record.payload or {}).get("error") or "").split())
        key = (record.source.user_id, record.source.strategy_id, error)
        now, last = self._clock(), self._failed_at.get(key)
        if last is not None and now < last + self._debounce_s:
            return True
        self._failed_at[key] = now
        self._failed_at.move_to_end(key)
        if len(self._failed_at) > _REMEMBERED:
            self._failed_at.popitem(last=False)
        return False


def message(record: Told) -> str:
    """The plain text of a routed event, cut where no chat would take all of it."""
    text = _text(record)
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…"


def _text(record: Told) -> str:
    about, payload = record.source, record.payload or {}
    ids = [f"strategy_id={about.strategy_id}", f"run_id={about.run_id}"]
    if record.kind == "run_failed":
        return " | ".join(["FAILED", *ids, f"error={payload.get('error') or 'unknown_error'}"])
    where = [f"instrument={about.instrument_key}", f"timeframe={about.timeframe}"]
    if record.kind == "signal":
        return " | ".join(["SIGNAL", *ids, *where, f"signal={_shown(payload, 'signal')}"])
    what = [f"side={_shown(payload, 'side')}", f"price={_shown(payload, 'price')}"]
    return " | ".join([record.kind.replace("_", " ").upper(), *ids, *where, *what])


def _shown(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    return "n/a" if value is None or value == "" else str(value)
