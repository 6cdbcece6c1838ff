"""A form as a browser would send it, read from its HTML."""

from __future__ import annotations

from html.parser import HTMLParser
from typing import Any
from urllib.parse import urlencode

import httpx


class _Reader(HTMLParser):
    """Gathers the fields of the form with an id."""

    def __init__(self, form_id: str) -> None:
        super().__init__()
        self.form_id = form_id
        self.pairs: list[tuple[str, str]] = []
        self._inside = False
        self._select: str | None = None
        self._first: str | None = None
        self._chosen: str | None = None

    def handle_starttag(self, tag: str, attrs: list[tuple[str, str | None]]) -> None:
        has = dict(attrs)
        if tag == "form":
            self._inside = has.get("id") == self.form_id
        if not self._inside:
            return
        name, value = has.get("name"), has.get("value") or ""
        if tag == "input" and name:
            if has.get("type") != "checkbox":
                self.pairs.append((name, value))
            elif "checked" in has:
                self.pairs.append((name, value or "on"))
        elif tag == "select":
            self._select, self._first, self._chosen = name, None, None
        elif tag == "option" and self._select:
            shown = has.get("value")
            assert shown is not None
            self._first = shown if self._first is None else self._first
            self._chosen = shown if "selected" in has else self._chosen

    def handle_endtag(self, tag: str) -> None:
        if tag == "select" and self._inside and self._select:
            found = self._first if self._chosen is None else self._chosen
            if found is not None:
                self.pairs.append((self._select, found))
            self._select = None
        if tag == "form":
            self._inside = False


def sent(html: str, form_id: str = "build") -> list[tuple[str, str]]:
    """What a browser would send of a form."""
    reader = _Reader(form_id)
    reader.feed(html)
    assert reader.pairs
    return reader.pairs


def post(client: httpx.Client, path: str, pairs: list[tuple[str, str]], **headers: Any) -> Any:
    """The answer to a form that a page of ours sends."""
    return client.post(
        path,
        content=urlencode(pairs),
        headers={
            "hx-request": "true", "content-type": "application/x-www-form-urlencoded", **headers
        },
    )  # fmt: skip
