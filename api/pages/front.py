"""One address for people and programs: pages for browsers, the API for everything else.

`/api/…` is the API, as behind a gateway that strips the prefix. A path without it that has a page
is the page for whoever says that they read HTML, which only a browser that is led there does, and
the API otherwise: `/strategies` in the address bar is a page, `/strategies` for a program is JSON.
What the API refuses such a reader is told on a page, too, with the headers of the refusal; under
`/api/` it is JSON for everybody.
"""

from __future__ import annotations

import json
from collections.abc import Awaitable, Callable, Iterable
from typing import Final

from starlette.datastructures import MutableHeaders
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import ASGIApp, Message, Receive, Scope, Send

PREFIX: Final = "/api"
OWN: Final = ("/assets/", "/_partial/")
"""Beginnings of paths that are of pages alone."""
REFERENCE: Final = "/docs"
"""A page for everybody: the API has none of its own."""

Told = Callable[[Request, int, dict[str, object]], Awaitable[Response]]
"""The page of a status and an error of the API."""


class Front:
    """Hands each request to `pages` or to `app`; `has_page` knows the paths of pages."""

    def __init__(
        self, app: ASGIApp, pages: ASGIApp, has_page: Callable[[str], bool], told: Told
    ) -> None:
        self.app, self._pages, self._has_page, self._told = app, pages, has_page, told

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        if path.startswith(f"{PREFIX}/"):
            # In place: what is entered before reads the route from it when the answer is done.
            scope["path"] = path.removeprefix(PREFIX)
            scope["raw_path"] = scope.get("raw_path", path.encode()).removeprefix(PREFIX.encode())
        elif path == REFERENCE or path.startswith(OWN):
            await self._pages(scope, receive, send)
            return
        else:
            send = _varying(send)
            if _reads_html(scope):
                shown = self._pages if self._has_page(path) else self._told_in_words
                await shown(scope, receive, send)
                return
        await self.app(scope, receive, send)

    async def _told_in_words(self, scope: Scope, receive: Receive, send: Send) -> None:
        """The answer of the API; where it is an error, the page of it instead."""
        held: list[Message] = []

        async def looked_at(message: Message) -> None:
            if held or message.get("status", 0) >= 400:
                held.append(message)
            else:
                await send(message)

        await self.app(scope, receive, looked_at)
        if error := _error_in(held):
            answer = await self._told(Request(scope), held[0]["status"], error)
            _carry(held[0]["headers"], answer)
            await answer(scope, receive, send)
            return
        for message in held:
            await send(message)


def _varying(send: Send) -> Send:
    """`send` that says of an answer that others get another one at its address."""

    async def varied(message: Message) -> None:
        if message["type"] == "http.response.start":
            MutableHeaders(scope=message).add_vary_header("Accept")
        await send(message)

    return varied


def _carry(headers: Iterable[tuple[bytes, bytes]], answer: Response) -> None:
    """Gives `answer` the headers of another one, but for those that it has and of the body."""
    own = {name for name, _ in answer.raw_headers} - {b"set-cookie"}
    answer.raw_headers += [
        (name, value)
        for name, value in headers
        if name not in own and not name.startswith(b"content-")
    ]


def _error_in(messages: list[Message]) -> dict[str, object] | None:
    """The error of an answer that has failed; None where it is none in our form."""
    try:
        found = json.loads(b"".join(message.get("body", b"") for message in messages))
    except ValueError:
        return None
    return found.get("error") if isinstance(found, dict) else None


def _reads_html(scope: Scope) -> bool:
    if scope["method"] not in ("GET", "HEAD"):
        return False
    accepted = (value for name, value in scope["headers"] if name == b"accept")
    return any(b"text/html" in value.lower() for value in accepted)
