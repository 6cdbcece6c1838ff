"""The one form of every error: `{"error": {"code", "message", "details"}}`."""

from __future__ import annotations

import json
import logging
import math
from collections.abc import Mapping, Sequence
from typing import Any, Final

from fastapi import FastAPI, Request
from fastapi.exceptions import RequestValidationError
from starlette.exceptions import HTTPException
from starlette.responses import Response

from api.errors import STATUS, UNEXPECTED, merged_details, status_of
from api.schemas.errors import ErrorEnvelope
from compute.errors import Cancelled, RoehubError
from compute.faults import shown

JSON: Final = "application/json"
UNEXPECTED_MESSAGE: Final = "Unexpected backtest operation error"

_CLASSES: Final = {status: code for code, status in STATUS.items()}
_MESSAGES: Final = {
    404: "there is nothing at this path; GET /openapi.json lists what there is",
    405: "the path does not take this method",
}

log = logging.getLogger(__name__)


def json_response(
    content: object, status: int = 200, headers: Mapping[str, str] | None = None
) -> Response:
    """`content` as a JSON response; a number that JSON does not have is null."""
    try:
        text = json.dumps(content, separators=(",", ":"), allow_nan=False)
    except ValueError:
        text = json.dumps(_finite(content), separators=(",", ":"), allow_nan=False)
    return Response(text, status, dict(headers or {}), JSON)


def _finite(value: Any) -> Any:
    if isinstance(value, float):
        return value if math.isfinite(value) else None
    if isinstance(value, Mapping):
        return {key: _finite(entry) for key, entry in value.items()}
    if isinstance(value, list | tuple):
        return [_finite(entry) for entry in value]
    return value


def envelope(
    code: str,
    message: str,
    details: Mapping[str, Any],
    status: int,
    headers: Mapping[str, str] | None = None,
) -> Response:
    """The response of one error."""
    content = {"error": {"code": code, "message": message, "details": details}}
    return json_response(content, status, headers)


def error_response(error: RoehubError) -> Response:
    """The response of an error of ours; what is no class on the wire is an unexpected one."""
    status = status_of(error)
    if status == 500:
        log.error("%s: %s", type(error).__name__, error.message)
    message = error.message
    if isinstance(error, Cancelled):
        error.details.update(error=error.reason, stage=error.stage)
        message += "; narrow the request"
        if error.stage != "compute":  # of a tensor, which no job makes
            message += ", or send it as a job (POST /backtests/jobs)"
    code = error.code if error.code in STATUS else UNEXPECTED
    return envelope(code, message, merged_details(error), status, getattr(error, "headers", None))


def install(app: FastAPI) -> None:
    """Makes every error that leaves `app` an envelope."""

    @app.exception_handler(RoehubError)
    async def ours(_: Request, error: RoehubError) -> Response:
        return error_response(error)

    @app.exception_handler(RequestValidationError)
    async def schema(_: Request, error: RequestValidationError) -> Response:
        items = sorted(
            (_fault(fault) for fault in error.errors()),
            key=lambda item: (item["path"], item["code"], item["message"]),
        )
        return envelope("validation_error", "Validation failed", {"errors": items}, 422)

    @app.exception_handler(HTTPException)
    async def http(request: Request, error: HTTPException) -> Response:
        status = error.status_code
        if status == 400:  # a body that the framework could not read
            item = {"path": "body", "code": "body_invalid", "message": str(error.detail)}
            return envelope("validation_error", "Validation failed", {"errors": [item]}, 422)
        code = _CLASSES.get(status, UNEXPECTED)
        message = _MESSAGES.get(status, str(error.detail))
        details = {"method": request.method, "path": shown(request.url.path)[1:-1]}
        return envelope(code, message, details, status, error.headers)

    @app.exception_handler(Exception)
    async def unexpected(_: Request, error: Exception) -> Response:
        return envelope(UNEXPECTED, UNEXPECTED_MESSAGE, {}, 500)  # the server logs the traceback


def _fault(fault: Mapping[str, Any]) -> dict[str, str]:
    place: Sequence[object] = fault.get("loc", ())
    kind = str(fault.get("type", "validation_error")).lower()
    missing = kind == "missing" or kind.endswith(".missing")
    return {
        "path": ".".join(str(step) for step in place) or "unknown",
        "code": "required" if missing else kind,
        "message": "is required" if missing else str(fault.get("msg", "")),
    }


def errors(*codes: str) -> dict[int | str, dict[str, Any]]:
    """The `responses` of a route that may answer with errors of these classes."""
    return {
        STATUS[code]: {"model": ErrorEnvelope, "description": _DESCRIPTIONS[code]}
        for code in sorted({*codes, UNEXPECTED}, key=lambda code: STATUS[code])
    }


_DESCRIPTIONS: Final = {
    "unauthorized": "Nobody is logged in.",
    "forbidden": "It belongs to somebody else, or the login is not enough for it.",
    "not_found": "There is no such thing.",
    "method_not_allowed": "The path takes other methods.",
    "conflict": "It cannot be done in the state things are in.",
    "payload_too_large": "The request body is above the limit.",
    "unsupported_media_type": "The body is not declared as application/json.",
    "validation_error": "The request cannot be meant: schema, grid, guard, range or deadline.",
    "too_many_requests": "More at a time than is served; try again later.",
    UNEXPECTED: "A failure of the service or of its stores.",
    "unavailable": "A part of the service is not there now.",
}
