"""Calls of the API as commands that one pastes into a terminal."""

from __future__ import annotations

import json

_TOKEN = '-H "authorization: Bearer $ROEHUB_TOKEN"'


def curl(method: str, url: str, body: object = None) -> str:
    """The command that sends `body`, if any, as JSON."""
    word = "curl" if method == "get" else f"curl -X {method.upper()}"
    parts = [f"{word} {quoted(url)}", _TOKEN]
    if body is not None:
        text = json.dumps(body, indent=2, ensure_ascii=False)
        parts += ["-H 'content-type: application/json'", f"-d {quoted(text)}"]
    return " \\\n  ".join(parts)


def quoted(text: str) -> str:
    """`text` as one word of a shell, always between quotes."""
    return "'" + text.replace("'", "'\\''") + "'"
