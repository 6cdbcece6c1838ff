"""One-time codes of an authenticator: RFC 6238 with SHA-1, six digits, half a minute each."""

from __future__ import annotations

import re
from typing import Final
from uuid import UUID

from pyotp import random_base32
from pyotp.exceptions import OTPVerificationError
from pyotp.totp import TOTP

from api.errors import invalid
from compute.errors import InvalidRequest

ISSUER: Final = "Roehub"
WINDOW: Final = 1
"""Steps before and after the present one whose codes are taken, too."""
_CODE: Final = re.compile(r"[0-9]{6}")


def new_secret() -> str:
    """160 random bits in base32."""
    return random_base32(32)


def otpauth_uri(secret: str, user_id: UUID) -> str:
    """What an authenticator scans. It holds the secret: never log or trace it."""
    return TOTP(secret).provisioning_uri(name=str(user_id), issuer_name=ISSUER)


def code_of(text: str) -> str:
    """A code without outer white space: six ASCII digits. Raises: InvalidRequest."""
    code = text.strip()
    if not _CODE.fullmatch(code):
        raise wrong_code("a code is six digits")
    return code


def step_of(secret: str, code: str, now_s: float) -> int | None:
    """The step of half a minute whose code this is, of those taken now; None when of none."""
    try:
        return TOTP(secret).verify_and_get_timecode(code, for_time=now_s, valid_window=WINDOW)
    except OTPVerificationError:
        return None


def wrong_code(message: str) -> InvalidRequest:
    """The refusal of a code."""
    error = invalid(message, "invalid_two_factor_code", "body.code")
    error.details["error"] = "invalid_two_factor_code"
    return error
