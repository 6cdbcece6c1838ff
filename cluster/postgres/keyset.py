"""Where a page of a list goes on: an opaque text of the time and the id of its last row."""

from __future__ import annotations

import base64
import binascii
import json
from datetime import UTC, datetime
from typing import Final
from uuid import UUID

from cluster.postgres.errors import RejectedRequest
from compute.errors import InvalidInput
from compute.keys import canonical_json

Place = tuple[datetime, UUID]

PAGE_DEFAULT: Final = 50
PAGE_MAX: Final = 250
_LONGEST: Final = 512


class InvalidCursor(RejectedRequest):
    """A cursor that no page of a list of `what` gave out."""

    def __init__(self, what: str, reason: str) -> None:
        super().__init__(f"Invalid {what} cursor: {reason}", "query.cursor", "invalid_cursor")


def cursor_of(place: Place, names: tuple[str, str]) -> str:
    """The text that `place_of` takes: base64url of canonical JSON, without padding.

    `names` are what time and id are called in it.
    """
    at, row_id = place
    document = {names[0]: at.astimezone(UTC).isoformat(), names[1]: str(row_id)}
    return base64.urlsafe_b64encode(canonical_json(document)).rstrip(b"=").decode()


def place_of(token: str, names: tuple[str, str], what: str) -> Place:
    """The place that a cursor says. Raises: InvalidCursor."""
    token = token.strip()
    if len(token) > _LONGEST or not token.isascii():
        raise InvalidCursor(what, "not a cursor of this list")
    try:
        padded = token.encode() + b"=" * (-len(token) % 4)
        raw = json.loads(base64.b64decode(padded, altchars=b"-_", validate=True))
    except (binascii.Error, ValueError, RecursionError):
        raise InvalidCursor(what, "not base64url of JSON") from None
    if not isinstance(raw, dict) or set(raw) != {*names}:
        raise InvalidCursor(what, f"it must hold {names[0]} and {names[1]}")
    at, row_id = _time(raw[names[0]]), _uuid(raw[names[1]])
    if at is None:
        raise InvalidCursor(what, f"{names[0]} must be a time with a zone")
    if row_id is None:
        raise InvalidCursor(what, f"{names[1]} must be a UUID")
    return at, row_id


def _time(raw: object) -> datetime | None:
    try:
        at = datetime.fromisoformat(raw)  # type: ignore[arg-type]
        return None if at.utcoffset() is None else at.astimezone(UTC)
    except (TypeError, ValueError, OverflowError):
        return None


def _uuid(raw: object) -> UUID | None:
    try:
        return UUID(raw) if isinstance(raw, str) else None
    except ValueError:
        return None


def page_limit(raw: int | None) -> int:
    """Rows of a page. Raises: InvalidInput outside 1..250."""
    limit = PAGE_DEFAULT if raw is None else raw
    if not 1 <= limit <= PAGE_MAX:
        raise InvalidInput(f"limit must be in 1..{PAGE_MAX}, got {limit}")
    return limit
