"""A bot over Telegram's Bot API, whose token stays in here.

Source: https://core.telegram.org/bots/api
"""

from __future__ import annotations

import logging
import re
from dataclasses import dataclass
from typing import Any, Final, TypeGuard

import httpx

from live.telegram.settings import TelegramSettings

_BODY_CHARACTERS: Final = 300
_LONGEST_WAIT_S: Final = 3600.0
_USERNAME: Final = re.compile(r"\w{1,64}", re.ASCII)


class BotFailed(Exception):
    """A call that the Bot API did not take; the reason has no secret in it.

    `status` is that of HTTP, None without an answer; `retry_after_s` is how long it wants no other.
    """

    def __init__(
        self, reason: str, status: int | None = None, retry_after_s: float | None = None
    ) -> None:
        super().__init__(reason)
        self.status, self.retry_after_s = status, retry_after_s


@dataclass(frozen=True, slots=True)
class Me:
    """Who a bot is."""

    bot_id: int
    username: str


class Bot:
    """Calls of the Bot API. Its token is in every URL, so errors and logs have neither."""

    def __init__(self, settings: TelegramSettings) -> None:
        self._root = f"{settings.api_base_url}/bot{settings.bot_token}"
        self._secret = settings.bot_token.partition(":")[2] or settings.bot_token
        self._timeout_s = settings.send_timeout_s
        self._client = httpx.AsyncClient(trust_env=False)
        self._silence = _Without(self._secret)
        logging.getLogger("httpx").addFilter(self._silence)

    async def send(self, chat_id: int, text: str) -> None:
        """Sends a text to a chat, in one try. Raises: BotFailed."""
        await self._call("sendMessage", {"chat_id": str(chat_id), "text": text})

    async def me(self) -> Me:
        """Who the bot is. Raises: BotFailed."""
        found = await self._call("getMe", {})
        bot_id, username = (found.get("id"), found.get("username")) if _is_map(found) else (0, "")
        if not _is_id(bot_id) or not isinstance(username, str) or not _USERNAME.fullmatch(username):
            raise BotFailed("getMe did not say who the bot is")
        return Me(bot_id, username)

    async def updates(self, offset: int, wait_s: float) -> list[Any]:
        """Updates from `offset` on, waiting for the first; Telegram forgets those before.

        Raises: BotFailed.
        """
        found = await self._call(
            "getUpdates",
            {"timeout": int(wait_s), "allowed_updates": ["message"]}
            | ({"offset": offset} if offset else {}),
            wait_s + self._timeout_s,
        )
        if not isinstance(found, list):
            raise BotFailed("getUpdates did not answer with a list")
        return found

    async def close(self) -> None:
        """Gives its connections back."""
        await self._client.aclose()
        logging.getLogger("httpx").removeFilter(self._silence)

    async def _call(self, method: str, body: dict[str, Any], timeout_s: float | None = None) -> Any:
        """The result of a call."""
        try:
            answer = await self._client.post(
                f"{self._root}/{method}", json=body, timeout=timeout_s or self._timeout_s
            )
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise BotFailed(type(error).__name__) from None  # its text may have the URL
        found = _json(answer)
        if answer.status_code != httpx.codes.OK or found.get("ok") is not True:
            said = answer.text.replace(self._secret, "…")[:_BODY_CHARACTERS]
            raise BotFailed(
                f"HTTP {answer.status_code}: {said}", answer.status_code, _wait_s(answer, found)
            )
        return found.get("result")


class _Without(logging.Filter):
    """Keeps lines with a secret out of a log: the client tells the URL of each request."""

    def __init__(self, secret: str) -> None:
        super().__init__()
        self._secret = secret

    def filter(self, record: logging.LogRecord) -> bool:
        return self._secret not in record.getMessage()


def _json(answer: httpx.Response) -> dict[str, Any]:
    try:
        found = answer.json()
    except (ValueError, RecursionError):
        return {}
    return found if isinstance(found, dict) else {}


def _wait_s(answer: httpx.Response, found: dict[str, Any]) -> float | None:
    """How long the server wants no other call: by its body, else by its header."""
    parameters = found.get("parameters")
    said = parameters.get("retry_after") if _is_map(parameters) else None
    try:
        seconds = float(answer.headers.get("Retry-After", "") if said is None else said)
    except (TypeError, ValueError):
        return None
    return min(seconds, _LONGEST_WAIT_S) if seconds > 0 else None


def _is_map(value: object) -> TypeGuard[dict[str, Any]]:
    return isinstance(value, dict)


def _is_id(value: object) -> TypeGuard[int]:
    return isinstance(value, int) and not isinstance(value, bool) and 0 < value < 2**63
