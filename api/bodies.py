"""Request bodies: JSON within limits, or a refusal before anything is made of it."""

from __future__ import annotations

import asyncio
import json
from collections.abc import Iterator, Mapping
from typing import Annotated, Any, Final

from fastapi import Depends, Request
from starlette.requests import ClientDisconnect
from starlette.types import ASGIApp, Message, Receive, Scope, Send

from api.context import Context
from api.envelope import error_response
from api.errors import PayloadTooLarge, UnsupportedMediaType, invalid
from api.running import threaded
from api.settings import ApiSettings
from compute.axes import Explicit, Range
from compute.errors import GuardExceeded, InvalidRequest
from compute.quantities import spaced
from compute.request import Model

BODY_SECONDS: Final = 60.0
_AT_ONCE_BYTES: Final = 16_384
"""Largest body that is decoded in the event loop, within about a millisecond."""


class BodyLimit:
    """Answers 413 to a request whose body is above the limit, declared or not."""

    def __init__(self, app: ASGIApp, max_body_bytes: int) -> None:
        self.app = app
        self.limit = max_body_bytes

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        refusal = PayloadTooLarge(self.limit)
        if _declared(scope) > self.limit:
            await error_response(refusal)(scope, receive, send)
            return
        seen, started = 0, False

        async def counted() -> Message:
            nonlocal seen
            message = await receive()
            seen += len(message.get("body", b""))
            if seen > self.limit:
                raise refusal
            return message

        async def passed(message: Message) -> None:
            nonlocal started
            if seen > self.limit and not started:
                return  # whatever it says of the refusal, this says it
            started = True
            await send(message)

        try:
            await self.app(scope, counted, passed)
        except PayloadTooLarge:
            if started:
                raise
        except ClientDisconnect:
            return  # in the middle of its body: there is nobody to answer
        if seen > self.limit and not started:
            await error_response(refusal)(scope, receive, send)


def _declared(scope: Scope) -> int:
    for name, value in scope["headers"]:
        if name == b"content-length" and value.isdigit():
            return int(value)
    return 0


async def json_body(request: Request, context: Context) -> Any:
    """The decoded JSON of a request's body.

    Raises: UnsupportedMediaType; InvalidRequest for what is no JSON, repeats a key, holds NaN or
    half a character, is nested deeper than the limit, has more members than it, or does not come.
    """
    media = request.headers.get("content-type", "").partition(";")[0].strip().lower()
    if media != "application/json":
        raise UnsupportedMediaType(
            "send the body as application/json"
            + (f", not as {media[:60]}" if media else "; it has no content-type"),
            details={"error": "unsupported_media_type", "supported": ["application/json"]},
        )
    try:
        async with asyncio.timeout(BODY_SECONDS):
            raw = await request.body()
    except TimeoutError:
        message = f"the body did not arrive within {BODY_SECONDS:g} seconds"
        raise invalid(message, "timeout", "body") from None
    if len(raw) <= _AT_ONCE_BYTES:
        return decoded(raw, context.api)
    return await threaded(decoded, raw, context.api)


JsonBody = Annotated[Any, Depends(json_body)]


def decoded(raw: bytes, settings: ApiSettings) -> Any:
    """The value that `raw` is the JSON of; errors as with `json_body`."""
    try:
        value = json.loads(raw.decode(), object_pairs_hook=_unique, parse_constant=_no_constant)
    except json.JSONDecodeError as error:
        place = f"line {error.lineno} column {error.colno}"
        raise _not_json(f"the body is not JSON: {error.msg} at {place}") from None
    except RecursionError:
        raise _too_deep(settings) from None
    except ValueError as error:  # no UTF-8, a repeated key, NaN, a number of thousands of digits
        raise _not_json(f"the body is not JSON: {error}") from None
    _check(value, settings)
    return value


def _not_json(message: str) -> InvalidRequest:
    return invalid(message, "json_invalid", "body")


def _too_deep(settings: ApiSettings) -> InvalidRequest:
    message = f"the body is nested deeper than {settings.max_depth} levels; no request needs that"
    return invalid(message, "max_depth", "body")


def _too_many(settings: ApiSettings) -> InvalidRequest:
    message = f"the body has more than {settings.max_members} members; no request needs that"
    return invalid(message, "max_members", "body")


def _unique(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    found = dict(pairs)
    if len(found) < len(pairs):
        seen: set[str] = set()
        for name, _ in pairs:
            if name in seen:
                raise ValueError(f"the key {name[:60]!r} comes twice in one object")
            seen.add(name)
    return found


def _no_constant(text: str) -> Any:
    raise ValueError(f"{text} is no JSON number")


def _check(value: Any, settings: ApiSettings) -> None:
    """Raises InvalidRequest for a nesting that is too deep, for too many members of objects, or a
    text that no UTF-8 can hold.

    Each member may be a fault of its own, with a message: a body of few bytes has many of them.
    """
    level, depth, members = [value], 0, 0
    while level:
        below: list[Any] = []
        for entry in level:
            if isinstance(entry, dict | list):
                if depth == settings.max_depth:
                    raise _too_deep(settings)
                below.extend(entry)
                if isinstance(entry, dict):
                    below.extend(entry.values())
                    members += len(entry)
                    if members > settings.max_members:
                        raise _too_many(settings)
            elif isinstance(entry, str) and not entry.isascii():
                try:
                    entry.encode()
                except UnicodeEncodeError:
                    raise _not_json("the body is not JSON: a text holds half a character") from None
        level, depth = below, depth + 1


def check_axes(request: Model, settings: ApiSettings) -> None:
    """Raises GuardExceeded when a request has too many axes, or too many values on all of them.

    Ranges are counted, not made: this is what a request may cost before its grid is known.
    """
    axes = list(_axes(request))
    if len(axes) > settings.max_axes:
        raise GuardExceeded(
            f"the request has {len(axes)} axes, the limit is {settings.max_axes}; drop indicators,"
            " or raise backtest.api.max_axes",
            details={
                "error": "max_axes_exceeded",
                "axes": len(axes),
                "max_axes": settings.max_axes,
            },
        )
    count = sum(len(axis.values) if isinstance(axis, Explicit) else axis.count() for axis in axes)
    if count > settings.max_axis_values:
        raise GuardExceeded(
            f"the axes have {spaced(count)} values together, the limit is"
            f" {spaced(settings.max_axis_values)}; widen the steps, or raise"
            " backtest.api.max_axis_values",
            details={
                "error": "max_axis_values_exceeded",
                "axis_values": count,
                "max_axis_values": settings.max_axis_values,
            },
        )


def _axes(value: Any) -> Iterator[Explicit | Range]:
    if isinstance(value, Explicit | Range):
        yield value
    elif isinstance(value, Model):
        for name in type(value).model_fields:
            yield from _axes(getattr(value, name))
    elif isinstance(value, Mapping):
        for entry in value.values():
            yield from _axes(entry)
    elif isinstance(value, list | tuple):
        for entry in value:
            yield from _axes(entry)
