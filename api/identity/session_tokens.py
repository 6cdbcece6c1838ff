"""Session tokens: what the login cookie holds, a signed name of a session of the server's."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime
from typing import Any, Final
from uuid import UUID

import jwt
from jwt.types import Options

from api.identity.refusals import unauthorized
from api.identity.settings import KeyRing
from api.identity.users import PAID_LEVELS

ALGORITHM: Final = "HS256"
TYPE: Final = "JWT"
CLAIMS: Final = ("sub", "paid_level", "iat", "exp", "jti")
# `iat` is a time of the database, whose clock may be ahead of this machine's.
_OPTIONS: Final[Options] = {"require": list(CLAIMS), "verify_iat": False}


@dataclass(frozen=True, slots=True)
class SessionClaims:
    """Which session of which user a token names."""

    user_id: UUID
    session_id: UUID


def encoded(
    keys: KeyRing,
    *,
    user_id: UUID,
    session_id: UUID,
    paid_level: str,
    issued_at: datetime,
    expires_at: datetime,
) -> str:
    """The token of a session, signed with the current key."""
    claims = {
        "sub": str(user_id),
        "paid_level": paid_level,
        "iat": int(issued_at.timestamp()),
        "exp": int(expires_at.timestamp()),
        "jti": str(session_id),
    }
    headers = {"kid": keys.current.key_id, "typ": TYPE}
    return jwt.encode(claims, keys.current.value, algorithm=ALGORITHM, headers=headers)


def decoded(keys: KeyRing, token: str) -> SessionClaims:
    """What a token says, when a key of ours signed it and it has not expired.

    Raises: Unauthorized.
    """
    token = token.strip()
    if not token.isascii() or token.count(".") != 2:
        raise unauthorized("invalid_token_format")
    try:
        header = jwt.get_unverified_header(token)
        jwt.decode(token, options={"verify_signature": False})  # is the payload an object at all
    except jwt.PyJWTError:
        raise unauthorized("invalid_token_format") from None
    if header.get("alg") != ALGORITHM or header.get("typ") != TYPE:
        raise unauthorized("invalid_header")
    key = keys.find(header.get("kid"))
    if key is None:
        raise unauthorized("invalid_signature")
    try:
        claims = jwt.decode(token, key.value, algorithms=[ALGORITHM], options=_OPTIONS)
    except jwt.InvalidSignatureError:
        raise unauthorized("invalid_signature") from None
    except jwt.ExpiredSignatureError:
        raise unauthorized("expired_token") from None
    except jwt.PyJWTError:
        raise unauthorized("invalid_claims") from None
    return _claims(claims)


def _claims(claims: dict[str, Any]) -> SessionClaims:
    times = (claims["iat"], claims["exp"])
    if claims["paid_level"] not in PAID_LEVELS or not all(type(time) is int for time in times):
        raise unauthorized("invalid_claims")
    try:
        return SessionClaims(UUID(claims["sub"]), UUID(claims["jti"]))
    except ValueError:
        raise unauthorized("invalid_claims") from None
