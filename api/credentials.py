"""Which service a client talks to, and which access token it sends."""

from __future__ import annotations

from collections.abc import Generator, Mapping
from pathlib import Path
from typing import Final
from urllib.parse import urlsplit

import httpx

from api.identity.operator_file import (
    in_production,
    operator_path,
    operator_token,
    read_operator_file,
)
from compute.errors import InvalidInput

DEFAULT_URL: Final = "http://127.0.0.1:8000"
URL_NAME: Final = "ROEHUB_API_URL"
TOKEN_NAME: Final = "ROEHUB_TOKEN"
TOKEN_FILE_NAME: Final = "ROEHUB_TOKEN_FILE"


class OperatorLogin(httpx.Auth):
    """Sends the local operator's token for the service at `url` as its file has it at that moment.

    Each start of the service makes another token and forgets the one before.
    """

    def __init__(self, url: str, environ: Mapping[str, str]) -> None:
        self._url, self._environ = url, environ
        self.known = False  # whether there has been a token

    def auth_flow(self, request: httpx.Request) -> Generator[httpx.Request, httpx.Response]:
        """A request with the token; once more if it was refused and the file has another now."""
        token = self._bear(request)
        answer = yield request
        if answer.status_code == httpx.codes.UNAUTHORIZED and self._bear(request) != token:
            yield request

    def advice(self) -> str:
        """Why there may be no token."""
        if in_production(self._environ):
            return "there is no local operator in production"
        path, found = operator_path(self._environ), read_operator_file(self._environ)
        if found is not None:
            return f"{path} is of the service at {found.url}"
        return f"no {path.name} in {path.parent} (is ROEHUB_DATA_DIR that of `roehub up`?)"

    def _bear(self, request: httpx.Request) -> str | None:
        token = operator_token(self._environ, self._url)
        if token is None:
            request.headers.pop("Authorization", None)
        else:
            self.known = True
            request.headers["Authorization"] = f"Bearer {token}"
        return token


def url_for(given: str | None, environ: Mapping[str, str]) -> str:
    """The URL of the service: the given one, else ROEHUB_API_URL, else where `roehub up` serves.

    Raises: InvalidInput.
    """
    named = (given or "").strip() or environ.get(URL_NAME, "").strip()
    if not named:
        found = read_operator_file(environ)
        named = found.url if found else DEFAULT_URL
    try:
        parts = urlsplit(named)
        good = parts.scheme in ("http", "https") and parts.hostname and parts.port != 0
    except ValueError:
        good = False
    if not good:
        raise InvalidInput(f"{named!r} is no URL of a service, such as {DEFAULT_URL}")
    return named.rstrip("/")


def token_for(url: str, given: str | None, environ: Mapping[str, str]) -> str | None:
    """The token for the service at `url`; None when there is none to send.

    It is `given_token`, else what `roehub up` left for its own service. Raises: InvalidInput.
    """
    return given_token(given, environ) or operator_token(environ, url)


def given_token(given: str | None, environ: Mapping[str, str]) -> str | None:
    """The token that a user names; None when he names none.

    `given` is a token, or `@FILE` to read one from; without it ROEHUB_TOKEN, then the file that
    ROEHUB_TOKEN_FILE names. Raises: InvalidInput.
    """
    known = {name: value.strip() for name, value in environ.items() if value.strip()}
    given = (given or "").strip() or known.get(TOKEN_NAME)
    if given is None and TOKEN_FILE_NAME in known:
        given = f"@{known[TOKEN_FILE_NAME]}"
    if given is None:
        return None
    token = _read(given[1:]) if given.startswith("@") else given
    if not (token.isascii() and token.isprintable() and " " not in token):
        raise InvalidInput("the access token is none: it holds a blank, or what is no ASCII")
    return token


def _read(name: str) -> str:
    try:
        token = Path(name).expanduser().read_text(encoding="utf-8").strip()
    except (OSError, UnicodeDecodeError) as error:
        raise InvalidInput(f"cannot read an access token from {name}: {error}") from None
    if not token:
        raise InvalidInput(f"{name} holds no access token")
    return token
