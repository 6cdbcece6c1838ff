"""Access tokens as they are sent and answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.identity.access_tokens import DEFAULT_DAYS, MAX_DAYS
from api.schemas.errors import Answer

Scope = Literal["read", "run"]


class AccessTokenRequest(BaseModel):
    """A token to be made."""

    model_config = ConfigDict(extra="forbid", str_strip_whitespace=True)

    name: str = Field(
        min_length=1,
        max_length=100,
        pattern=r"^[^\x00-\x1f\x7f]+$",
        description="What it is for; without control characters.",
    )
    scopes: list[Scope] = Field(
        min_length=1,
        max_length=2,
        description="What it may: `read` is every GET, `run` whatever makes, changes or runs "
        "back-tests, jobs and strategies. Nothing of the account.",
    )
    expires_in_days: int = Field(
        DEFAULT_DAYS, ge=1, le=MAX_DAYS, strict=True, description="How long it works."
    )


class AccessTokenBody(Answer):
    """A token, without the token itself."""

    token_id: UUID = Field(description="The token's id.")
    name: str = Field(description="What it is for.")
    scopes: list[Literal["read", "run", "account"]] = Field(description="What it may.")
    created_at: datetime = Field(description="When it was made.")
    expires_at: datetime = Field(description="When it stops to work.")
    last_used_at: datetime | None = Field(description="Its last request, to the minute.")
    revoked_at: datetime | None = Field(description="When it was revoked.")


class NewAccessToken(AccessTokenBody):
    """A token that was just made."""

    token: str = Field(description="The token; it is shown this once and kept nowhere.")


class AccessTokenList(Answer):
    """The tokens of a user, oldest first."""

    items: list[AccessTokenBody] = Field(description="The tokens.")


EXAMPLES: Final[dict[str, Any]] = {
    "of a notebook": {"name": "notebook", "scopes": ["read", "run"], "expires_in_days": 30}
}
