"""One address for people and programs: pages for browsers, the API for everything else.

`/api/…` is the API, as behind a gateway that strips the prefix. A path without it that has a page
is the page for whoever says that they read HTML, which only a browser that is led there does, and
the API otherwise: `/strategies` in the address bar is a page, `/strategies` for a program is JSON.
"""

from __future__ import annotations

from collections.abc import Callable
from typing import Final

from starlette.types import ASGIApp, Receive, Scope, Send

PREFIX: Final = "/api"
OWN: Final = ("/assets/", "/_partial/")
"""Beginnings of paths that are of pages alone."""


class Front:
    """Hands each request to `pages` or to `api`; `has_page` knows the paths of pages."""

    def __init__(self, app: ASGIApp, pages: ASGIApp, has_page: Callable[[str], bool]) -> None:
        self.app, self._pages, self._has_page = app, pages, has_page

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        if scope["type"] != "http":
            await self.app(scope, receive, send)
            return
        path: str = scope["path"]
        if path.startswith(f"{PREFIX}/"):
            # In place: what is entered before reads the route from it when the answer is done.
            scope["path"] = path.removeprefix(PREFIX)
            scope["raw_path"] = scope.get("raw_path", path.encode()).removeprefix(PREFIX.encode())
        elif path.startswith(OWN) or (_reads_html(scope) and self._has_page(path)):
            await self._pages(scope, receive, send)
            return
        await self.app(scope, receive, send)


def _reads_html(scope: Scope) -> bool:
    if scope["method"] not in ("GET", "HEAD"):
        return False
    accepted = (value for name, value in scope["headers"] if name == b"accept")
    return any(b"text/html" in value.lower() for value in accepted)
