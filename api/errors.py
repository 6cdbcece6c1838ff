"""Errors of the service, and the one table from an error's class to its HTTP status."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from types import MappingProxyType
from typing import Any, Final

from compute.errors import InvalidRequest, RoehubError

UNEXPECTED: Final = "unexpected_error"

STATUS: Final[Mapping[str, int]] = MappingProxyType(
    {
        "unauthorized": 401,
        "forbidden": 403,
        "not_found": 404,
        "method_not_allowed": 405,
        "conflict": 409,
        "payload_too_large": 413,
        "unsupported_media_type": 415,
        "validation_error": 422,
        "too_many_requests": 429,
        UNEXPECTED: 500,
        "unavailable": 503,
    }
)
"""Status by class; a class that is not here is a failure of the service, 500."""


class ServiceError(RoehubError):
    """An error of the service; `headers` go with its answer."""

    def __init__(
        self,
        message: str,
        *,
        details: Mapping[str, Any] | None = None,
        headers: Mapping[str, str] | None = None,
    ) -> None:
        super().__init__(message, details=details)
        self.headers = dict(headers or {})


class Unauthorized(ServiceError):
    """Nobody is logged in."""

    code = "unauthorized"


class Forbidden(ServiceError):
    """It is there, and belongs to somebody else."""

    code = "forbidden"


class NotFound(ServiceError):
    """There is no such thing, or it was deleted."""

    code = "not_found"


class MethodNotAllowed(ServiceError):
    """The path exists, with other methods."""

    code = "method_not_allowed"


class Conflict(ServiceError):
    """It cannot be done in the state things are in."""

    code = "conflict"


class PayloadTooLarge(ServiceError):
    """A request body above the limit."""

    code = "payload_too_large"

    def __init__(self, limit_bytes: int) -> None:
        super().__init__(
            f"the request body is larger than {limit_bytes} bytes; send ranges instead of lists of"
            " values, or raise backtest.api.max_body_bytes",
            details={"error": "max_body_bytes_exceeded", "max_body_bytes": limit_bytes},
            headers={"Connection": "close"},  # the rest of the body is not read
        )


class UnsupportedMediaType(ServiceError):
    """A body that is not declared to be JSON."""

    code = "unsupported_media_type"


class TooManyRequests(ServiceError):
    """More at a time than is served; a later attempt may succeed."""

    code = "too_many_requests"


class Unavailable(ServiceError):
    """A part of the service is not there now."""

    code = "unavailable"


class StorageFailed(ServiceError):
    """The candle store or the database could not do its part; `details.reason` says why."""

    def __init__(self, reason: str, message: str = "Backtest storage operation failed") -> None:
        super().__init__(message, details={"reason": reason})


def status_of(error: RoehubError) -> int:
    """The HTTP status of an error."""
    return STATUS.get(error.code, 500)


def invalid(message: str, code: str, *paths: str) -> InvalidRequest:
    """A refusal with one item for each of `paths`."""
    return InvalidRequest(
        message, [{"path": path, "code": code, "message": message} for path in paths]
    )


def merged_details(error: RoehubError) -> dict[str, Any]:
    """The details as JSON: keys sorted, error items sorted, everything else as text."""
    details = _plain(error.details)
    items = details.get("errors")
    if isinstance(items, list):
        details["errors"] = sorted((_item(item) for item in items), key=_place)
    return details


def _item(item: object) -> dict[str, str]:
    if not isinstance(item, Mapping):
        return {"path": "unknown", "code": "validation_error", "message": str(item)}
    return {
        "path": str(item.get("path", "unknown")),
        "code": str(item.get("code", "validation_error")),
        "message": str(item.get("message", "")),
    }


def _place(item: Mapping[str, str]) -> tuple[str, str, str]:
    return item["path"], item["code"], item["message"]


def _plain(value: Any) -> Any:
    if isinstance(value, Mapping):
        named = {str(key): _plain(entry) for key, entry in value.items()}
        return {key: named[key] for key in sorted(named)}
    if isinstance(value, Sequence) and not isinstance(value, str | bytes):
        return [_plain(entry) for entry in value]
    if value is None or isinstance(value, bool | int | float | str):
        return value
    return str(value)
