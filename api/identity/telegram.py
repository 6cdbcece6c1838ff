"""Logins of the Telegram Login Widget: whether Telegram signed what a browser sent.

Source: https://core.telegram.org/widgets/login#checking-authorization
"""

from __future__ import annotations

import hashlib
import hmac
import re
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from api.errors import invalid
from api.identity.refusals import unauthorized

MAX_AGE_S: Final = 86_400
MAX_SKEW_S: Final = 60
LARGEST_ID: Final = 2**63 - 1

_KEY: Final = re.compile(r"[A-Za-z0-9_]{1,64}")
_CONTROL: Final = re.compile(r"[\x00-\x1f\x7f]")
_INTEGER: Final = re.compile(r"-?[0-9]{1,19}")


@dataclass(frozen=True, slots=True)
class TelegramLogin:
    """A login that Telegram signed, at `auth_date` (seconds); `signature` is its own alone."""

    telegram_user_id: int
    auth_date: int
    signature: bytes


def verified(fields: Mapping[str, object], bot_token: str, now_s: int) -> TelegramLogin:
    """The login that the raw fields of a request prove.

    All that was received is signed, but `hash` itself and what is null or empty: nothing is
    trimmed, and a field that Telegram may add does not break it.

    Raises: Unauthorized with the code of the first check that fails; InvalidRequest for fields
    that are no texts or integers, or could be read as more than one field.
    """
    signed = {name: _text(name, value) for name, value in fields.items() if value is not None}
    given = signed.pop("hash", "").strip().lower()
    if not given:
        raise unauthorized("missing_hash")
    auth_date = _integer(signed.get("auth_date", ""), "auth_date", "auth_date")
    if auth_date < now_s - MAX_AGE_S:
        raise unauthorized("stale_auth_date")
    if auth_date > now_s + MAX_SKEW_S:
        raise unauthorized("future_auth_date")
    telegram_user_id = _integer(signed.get("id", ""), "id", "telegram_user_id")
    if not 0 < telegram_user_id <= LARGEST_ID:
        raise unauthorized("invalid_telegram_user_id")
    expected = signature(signed, bot_token)
    if not hmac.compare_digest(expected.hex().encode(), given.encode()):
        raise unauthorized("invalid_hash")
    return TelegramLogin(telegram_user_id, auth_date, expected)


def signature(fields: Mapping[str, str], bot_token: str) -> bytes:
    """The 32 bytes by which Telegram signs fields for the bot of a token."""
    lines = (f"{name}={fields[name]}" for name in sorted(fields) if fields[name] != "")
    key = hashlib.sha256(bot_token.strip().encode()).digest()
    return hmac.digest(key, "\n".join(lines).encode(), "sha256")


def _text(name: str, value: object) -> str:
    """The value as it is signed. A line break in it could pass for the end of its field."""
    if not _KEY.fullmatch(name):
        raise invalid("a field's name is no name", "invalid_telegram_payload", "body")
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise invalid("is no text", "invalid_telegram_payload", f"body.{name}")
    text = value if isinstance(value, str) else str(value)
    if _CONTROL.search(text) or len(text) > 4096:
        raise invalid("is too long or no plain text", "invalid_telegram_payload", f"body.{name}")
    return text


def _integer(text: str, field: str, name: str) -> int:
    if not text.strip():
        raise unauthorized(f"missing_{name}")
    if not _INTEGER.fullmatch(text.strip()):
        raise unauthorized(f"invalid_{name}")
    return int(text)
