"""Messages of runs to the chats of their owners: best effort, at most one try, never in the way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from datetime import datetime
from math import inf
from typing import Any, Final, Protocol
from uuid import UUID

from compute.market.period import epoch_ms
from live.metrics import TelegramMetrics
from live.output import Told
from live.telegram.bot import BotFailed
from live.telegram.waiting import Line

ROUTED: Final = ("signal", "trade_open", "trade_close", "run_failed")
_REMEMBERED: Final = 10_000
_LONGEST_REST_S: Final = 60.0
_STALE_S: Final = 600.0
"""So long after its bar nobody is told of a signal or a trade any more."""
_KNOWN_S: Final = 5.0
"""A chat is looked up once for what a minute brings."""
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
    """Turns events into messages and sends them one after the other, users in turns."""

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
        self._line, self._some, self._none = Line(), asyncio.Event(), asyncio.Event()
        self._none.set()
        self._chats: dict[UUID, int | None] = {}
        self._chats_until = 0.0
        self._chatless: set[UUID] = set()

    def tell(self, record: Told) -> None:
        """Takes an event; never waits. What is no routed event is left out."""
        if record.kind not in ROUTED or record.payload is None:
            return
        failure = _failure(record) if record.kind == "run_failed" else None
        now = self._clock() if failure is not None else 0.0
        if failure is not None and now < self._failed_at.get(failure, -inf) + self._debounce_s:
            return
        pushed_out = self._line.put(record, time.monotonic())
        if pushed_out is not None:
            self._metrics.notify_errors.inc()
        if failure is not None and pushed_out is not record:
            self._failed_at[failure] = now
            self._failed_at.move_to_end(failure)
            if len(self._failed_at) > _REMEMBERED:
                self._failed_at.popitem(last=False)
        if self._line:
            self._some.set()
            self._none.clear()

    async def run(self) -> None:
        """Sends what comes until it is cancelled."""
        while True:
            await self._some.wait()
            (since, record), rest_s = self._line.take(), 0.0
            try:
                await self._deliver(record, time.monotonic() - since)
            except Exception as error:
                self._metrics.notify_errors.inc()
                log.warning("a message of run %s was not sent: %s", record.source.run_id, error)
                if isinstance(error, BotFailed):
                    rest_s = min(error.retry_after_s or 0.0, _LONGEST_REST_S)
            finally:
                if not self._line:
                    self._some.clear()
                    self._none.set()
            if rest_s:
                await asyncio.sleep(rest_s)

    async def drained(self) -> None:
        """Returns when everything that was told so far has been tried."""
        await self._none.wait()

    async def _deliver(self, record: Told, waited_s: float) -> None:
        if record.kind != "run_failed" and waited_s + _behind_s(record) > _STALE_S:
            self._metrics.notify_skipped.inc()
            return
        chat_id = await self._known_chat(record.source.user_id)
        if chat_id is None:
            self._metrics.notify_skipped.inc()
            return
        await self._sender.send(chat_id, message(record))
        self._metrics.notified.inc()

    async def _known_chat(self, user_id: UUID) -> int | None:
        """The chat of a user as it was some seconds ago at most."""
        now = time.monotonic()
        if now >= self._chats_until:
            self._chats.clear()
            self._chats_until = now + _KNOWN_S
        if user_id not in self._chats:
            self._chats[user_id] = await self._chat(user_id)
        chat_id = self._chats[user_id]
        if chat_id is not None:
            self._chatless.discard(user_id)
        elif user_id not in self._chatless:
            self._chatless.add(user_id)
            log.info("user %s has no confirmed chat, messages are left out", user_id)
        return chat_id


def _failure(record: Told) -> tuple[UUID, UUID, str]:
    """What a failure is the same by."""
    error = " ".join(str((record.payload or {}).get("error") or "").split())
    return record.source.user_id, record.source.strategy_id, error


def _behind_s(record: Told) -> float:
    """From the close of its bar to when it was written down."""
    closed = (record.payload or {}).get("close_ts")
    if not isinstance(closed, str):
        return 0.0
    return (record.ts_ms - epoch_ms(datetime.fromisoformat(closed))) / 1000


def message(record: Told) -> str:
    """The plain text of a routed event, cut where no chat would take all of it."""
    text = _text(record)
    return text if len(text) <= _CHARACTERS else f"{text[:_CHARACTERS]}…"


def _text(record: Told) -> str:
    about, payload = record.source, record.payload or {}
    ids = [f"strategy_id={about.strategy_id}", f"run_id={about.run_id}"]
    if record.kind == "run_failed":
        return " | ".join(["FAILED", *ids, f"error={payload.get('error') or 'unknown_error'}"])
    at = [f"at={payload['close_ts']}"] if payload.get("close_ts") else []
    where = [f"instrument={about.instrument_key}", f"timeframe={about.timeframe}"]
    if record.kind == "signal":
        what = [f"signal={_shown(payload, 'signal')}", *at]
        return " | ".join(["SIGNAL", *ids, *where, *what])
    what = [f"side={_shown(payload, 'side')}", f"price={_shown(payload, 'price')}", *at]
    return " | ".join([record.kind.replace("_", " ").upper(), *ids, *where, *what])


def _shown(payload: Mapping[str, Any], name: str) -> str:
    value = payload.get(name)
    return "n/a" if value is None or value == "" else str(value)
