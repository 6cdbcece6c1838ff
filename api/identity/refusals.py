"""Refusals of logins: 401 with the specific code in `details.error`."""

from __future__ import annotations

from typing import Final

from api.errors import Forbidden, Unauthorized

MESSAGES: Final = {
    "missing_hash": "the login has no hash",
    "missing_auth_date": "the login has no auth_date",
    "invalid_auth_date": "auth_date is not a time in seconds",
    "stale_auth_date": "the login is older than a day; log in again",
    "future_auth_date": "the login is from the future; is the clock right?",
    "missing_telegram_user_id": "the login has no id",
    "invalid_telegram_user_id": "id is not a Telegram user",
    "invalid_hash": "the login is not signed by Telegram for this service",
    "used_login": "this login was used before; log in again",
    "used_link": "this link was used, or is older than a minute; `roehub login` makes a new one",
    "missing_jwt_cookie": "log in, or send an access token as `Authorization: Bearer`",
    "invalid_token_format": "the login cookie is no token; log in again",
    "invalid_header": "the login cookie is of another kind; log in again",
    "invalid_signature": "the login cookie is not signed by this service; log in again",
    "invalid_claims": "the login cookie lacks what is needed; log in again",
    "expired_token": "the login has expired; log in again",
    "idle_session": "the login was not used for a day; log in again",
    "revoked_session": "the login was ended; log in again",
    "unknown_user": "the user is not known",
    "deleted_user": "the user is deleted; log in to be active again",
    "invalid_authorization": "Authorization must be `Bearer` and an access token",
    "invalid_access_token": "the access token is not known",
    "expired_access_token": "the access token has expired; make a new one",
    "revoked_access_token": "the access token was revoked; make a new one",
}


def unauthorized(code: str) -> Unauthorized:
    """The refusal of a request that proves nobody."""
    return Unauthorized(
        MESSAGES[code], details={"error": code}, headers={"WWW-Authenticate": "Bearer"}
    )


def insufficient_scope(scope: str) -> Forbidden:
    """The refusal of a token that was not made for this."""
    return Forbidden(
        f"the access token lacks the scope {scope}; use one that has it, or log in",
        details={"error": "insufficient_scope", "scope": scope},
    )
