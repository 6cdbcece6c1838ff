"""Which access token a client sends: the one it is given, or the local operator's."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Final

from api.identity.operator_file import operator_token
from compute.errors import InvalidInput

TOKEN_NAME: Final = "ROEHUB_TOKEN"
TOKEN_FILE_NAME: Final = "ROEHUB_TOKEN_FILE"


def token_for(url: str, given: str | None, environ: Mapping[str, str]) -> str | None:
    """The token for the service at `url`; None when there is none to send.

    `given` is a token, or `@FILE` to read one from; without it ROEHUB_TOKEN, then the file that
    ROEHUB_TOKEN_FILE names, then what `roehub up` left for its own service. Raises: InvalidInput.
    """
    known = {name: value.strip() for name, value in environ.items() if value.strip()}
    given = (given or "").strip() or known.get(TOKEN_NAME)
    if given is None and TOKEN_FILE_NAME in known:
        given = f"@{known[TOKEN_FILE_NAME]}"
    if given is None:
        return operator_token(environ, url)
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
