"""HTML from templates, with the headers that every page carries."""

from __future__ import annotations

from collections.abc import Mapping
from functools import cache
from pathlib import Path
from typing import Any, Final

from fastapi import Request, Response
from fastapi.responses import HTMLResponse
from jinja2 import Environment, FileSystemLoader, StrictUndefined

from api.identity.users import OPERATOR
from api.pages import words
from api.users import User
from compute.results import ENGINE_VERSION

HERE: Final = Path(__file__).parent
_POLICY: Final = {
    "default-src": "'none'",
    "script-src": "'self'",
    "style-src": "'self'",
    "img-src": "'self' data:",
    "connect-src": "'self'",
    "form-action": "'self'",
    "base-uri": "'none'",
    "frame-ancestors": "'none'",
}
TELEGRAM: Final = {
    "script-src": "'self' https://telegram.org",
    "frame-src": "https://oauth.telegram.org",
}
"""What the login's page may load beside, where it shows the widget of a bot."""


@cache
def templates() -> Environment:
    """The templates; what they are given is escaped, and a name that is missing is an error."""
    found = Environment(
        loader=FileSystemLoader(HERE / "templates"),
        autoescape=True,
        undefined=StrictUndefined,
        trim_blocks=True,
        lstrip_blocks=True,
    )
    found.filters.update(words.FILTERS)
    found.globals["version"] = ENGINE_VERSION
    return found


def page(
    request: Request,
    template: str,
    user: User | None,
    values: Mapping[str, Any] | None = None,
    *,
    status: int = 200,
    policy: Mapping[str, str] | None = None,
) -> Response:
    """A whole page; `policy` is what its content policy has instead."""
    shown = {
        "user": user,
        "is_proved": user is not None and user.session_id is not None,
        "is_operator": user is not None and user.user_id == OPERATOR,
        "path": request.url.path,
        **(values or {}),
    }
    response = HTMLResponse(templates().get_template(template).render(shown), status)
    secure(response, policy)
    response.headers["Vary"] = "Cookie"
    return response


def part(template: str, values: Mapping[str, Any], *, status: int = 200) -> Response:
    """A part of a page, to be put into it."""
    response = HTMLResponse(templates().get_template(template).render(values), status)
    secure(response)
    return response


def secure(response: Response, policy: Mapping[str, str] | None = None) -> None:
    """Sets what keeps a page to itself: its sources, its frames, its address and its copies."""
    allowed = {**_POLICY, **(policy or {})}
    response.headers["Content-Security-Policy"] = "; ".join(
        f"{name} {value}" for name, value in allowed.items()
    )
    response.headers["Cache-Control"] = "no-store"
    response.headers["Cross-Origin-Opener-Policy"] = "same-origin-allow-popups"
    response.headers["Permissions-Policy"] = "camera=(), geolocation=(), microphone=()"
    response.headers["Referrer-Policy"] = "same-origin"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["X-Frame-Options"] = "DENY"
