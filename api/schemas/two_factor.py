"""The second factor as the service is asked for it and shows it."""

from __future__ import annotations

from typing import Literal

from pydantic import Field, SecretStr

from api.schemas.errors import Answer
from compute.request import Model

_TIME = "2026-02-22T18:00:00Z"
_CODE = "A code that the authenticator shows: six ASCII digits. Each works once."


class CodeRequest(Model):
    """A code of the authenticator."""

    code: SecretStr = Field(max_length=100, description=_CODE)


class RecoveryRequest(Model):
    """A recovery code."""

    recovery_code: SecretStr = Field(
        max_length=100,
        description="One of the codes shown when the second factor was enabled; hyphens, blanks "
        "and lower case are as good.",
    )


class SetupBody(Answer):
    """A new secret."""

    otpauth_uri: str = Field(
        description="What an authenticator scans, drawn as a QR code. It holds the secret: show it,"
        " store it nowhere.",
        examples=["otpauth://totp/Roehub:<user_id>?secret=<BASE32>&issuer=Roehub"],
    )


class RecoveryCodesBody(Answer):
    """New recovery codes, shown this once."""

    recovery_codes: list[str] = Field(
        min_length=10,
        max_length=10,
        description="Ten codes; with one of them a lost authenticator is replaced.",
        examples=[["<CODE>"] * 10],
    )


class EnabledBody(RecoveryCodesBody):
    """A second factor that was just enabled."""

    enabled: Literal[True] = Field(description="It is enabled.")


class StepUpBody(Answer):
    """A session that may do what needs a fresh code."""

    stepped_up_until: str = Field(description="UTC; until when.", examples=[_TIME])


class TwoFactorBody(Answer):
    """How far a second factor is."""

    state: Literal["absent", "pending", "enabled"] = Field(
        description="`pending`: set up, and no code was verified yet."
    )
    enabled_at: str | None = Field(description="UTC; when it was enabled.", examples=[_TIME])
    recovery_codes_left: int = Field(ge=0, le=10, description="Recovery codes that are good.")
    stepped_up_until: str | None = Field(
        description="UTC; until when this session may do what needs a fresh code.",
        examples=[_TIME],
    )
