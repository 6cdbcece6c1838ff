"""The cookie of a login: set and taken back with the same attributes."""

from __future__ import annotations

from datetime import UTC, datetime

from starlette.responses import Response

from api.identity.settings import IdentitySettings


def set_login_cookie(
    response: Response, settings: IdentitySettings, token: str, expires_at: datetime, now_ms: int
) -> None:
    """Gives the browser a token until it expires; no script of a page can read it."""
    left = max(1, int(expires_at.timestamp() - now_ms / 1000))
    _set(response, settings, token, left, datetime.fromtimestamp(now_ms // 1000 + left, UTC))


def clear_login_cookie(response: Response, settings: IdentitySettings) -> None:
    """Takes the token back."""
    _set(response, settings, "", 0, datetime.fromtimestamp(0, UTC))


def _set(
    response: Response, settings: IdentitySettings, value: str, max_age: int, expires: datetime
) -> None:
    response.set_cookie(
        settings.cookie_name,
        value,
        max_age=max_age,
        expires=expires,
        path=settings.cookie_path,
        secure=settings.cookie_secure,
        httponly=True,
        samesite=settings.cookie_samesite,
    )
