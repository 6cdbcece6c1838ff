"""Messages of runs to the chats of their owners: best effort, at most one try, never in the way."""

from __future__ import annotations

import asyncio
import logging
import time
from collections import OrderedDict
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from typing import Any, Final, Protocol
from uuid import UUID

import httpx
from prometheus_client import CollectorRegistry, Counter

from compute.errors import InvalidInput
from live.output import Told

MODES: Final = ("log_only", "telegram")
ROUTED: Final = ("signal", "trade_open", "trade_close", "run_failed")
_BODY_CHARACTERS: Final = 300
_REMEMBERED: Final = 10_000
_QUEUED: Final = 1_000

log = logging.getLogger(__name__)

Chat = Callable[[UUID], Awaitable[int | None]]
"""The chat of a user: the newest confirmed one, None without any."""


@dataclass(frozen=True, slots=True)
class TelegramSettings:
    """How messages are sent; `bot_token` comes from the environment alone. Raises: InvalidInput."""

    enabled: bool = False
    mode: str = "log_only"
    api_base_url: str = "https://api.telegram.org"
    send_timeout_s: float = 3.0
    debounce_failed_seconds: float = 600.0
    bot_token: str = field(default="", repr=False)

    def __post_init__(self) -> None:
        if self.mode not in MODES:
            raise InvalidInput(f"telegram.mode must be {' or '.join(MODES)}, got {self.mode!r}")
        if not self.api_base_url.startswith(("http://", "https://")):
            raise InvalidInput("telegram.api_base_url must begin with http:// or https://")
        object.__setattr__(self, "api_base_url", self.api_base_url.rstrip("/"))
        if not self.send_timeout_s > 0:
            raise InvalidInput("telegram.send_timeout_s must be > 0")
        if not self.debounce_failed_seconds >= 0:
            raise InvalidInput("telegram.debounce_failed_seconds must be >= 0")
        if self.enabled and self.mode == "telegram" and not self.bot_token.strip():
            raise InvalidInput("telegram.mode is telegram, but its bot token is not set")


class Sender(Protocol):
    """Delivers a text to a chat."""

    async def send(self, chat_id: int, text: str) -> None:
        """Raises NotSent."""
        ...


class NotSent(Exception):
    """A message that was not delivered; the reason has no secret in it."""


class LogSender:
    """Writes what would be sent into the log."""

    async def send(self, chat_id: int, text: str) -> None:
        log.info("telegram (log only) to chat %s: %s", chat_id, text)


class BotSender:
    """Sends through the Bot API; the token is in the path and must not leave this class."""

    def __init__(self, settings: TelegramSettings) -> None:
        self._url = f"{settings.api_base_url}/bot{settings.bot_token.strip()}/sendMessage"
        self._client = httpx.AsyncClient(timeout=settings.send_timeout_s, trust_env=False)
        self._silence = _Without(settings.bot_token.strip())
        logging.getLogger("httpx").addFilter(self._silence)

    async def send(self, chat_id: int, text: str) -> None:
        try:
            answer = await self._client.post(
                self._url, json={"chat_id": str(chat_id), "text": text}
            )
        except httpx.HTTPError as error:
            raise NotSent(type(error).__name__) from None  # its text has the URL
        if answer.status_code != httpx.codes.OK or not _agreed(answer):
            raise NotSent(f"HTTP {answer.status_code}: {answer.text[:_BODY_CHARACTERS]}")

    async def close(self) -> None:
        """Gives its connections back."""
        await self._client.aclose()
        logging.getLogger("httpx").removeFilter(self._silence)


class _Without(logging.Filter):
    """Keeps lines with a secret out of a log: the client tells the URL of each request."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._secret = secret

    def filter(self, record: logging.LogRecord) -> bool:
        return self._secret not in record.getMessage()


class Notifier:
    """Turns events into messages and sends them one after the other, behind a bounded queue."""

    def __init__(
        self,
        sender: Sender,
        chat: Chat,
        registry: CollectorRegistry,
        debounce_s: float = 600.0,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._sender, self._chat, self._clock = sender, chat, clock
        self._debounce_s = debounce_s
        self._failed_at: OrderedDict[tuple[UUID, UUID, str], float] = OrderedDict()
        self._queue: asyncio.Queue[Told] = asyncio.Queue(_QUEUED)
        self._sent, self._errors, self._skipped = (
            Counter(f"strategy_telegram_notify{name}", text, registry=registry)
            for name, text in (
                ("", "Messages that were delivered."),
                ("_errors", "Messages that were not."),
                ("_skipped", "Messages to users without a confirmed chat."),
            )
        )

    def tell(self, record: Told) -> None:
        """Takes an event; never waits. What is no routed event is left out."""
        if record.kind not in ROUTED or record.payload is None or self._repeats(record):
            return
        try:
            self._queue.put_nowait(record)
        except asyncio.QueueFull:
            self._errors.inc()

    async def run(self) -> None:
        """Sends what comes until it is cancelled."""
        while True:
            record = await self._queue.get()
            try:
                await self._deliver(record)
            except Exception as error:
                self._errors.inc()
                log.warning("a message of run %s was not sent: %s", record.source.run_id, error)
            finally:
                self._queue.task_done()

    async def drained(self) -> None:
        """Returns when everything that was told so far has been tried."""
        await self._queue.join()

    async def _deliver(self, record: Told) -> None:
        chat_id = await self._chat(record.source.user_id)
        if chat_id is None:
            self._skipped.inc()
            log.warning("user %s has no confirmed chat", record.source.user_id)
            return
        await self._sender.send(chat_id, message(record))
        self._sent.inc()

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
    """The plain text of a routed event."""
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


def _agreed(answer: httpx.Response) -> bool:
    try:
        found = answer.json()
    except ValueError:
        return False
    return isinstance(found, dict) and found.get("ok") is True
