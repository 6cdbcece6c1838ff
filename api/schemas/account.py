"""What is stored of a user, as it is exported."""

from __future__ import annotations

from typing import Any

from pydantic import BaseModel, ConfigDict, Field


class AccountExport(BaseModel):
    """All that is stored of a user, by the part of the service that stores it."""

    model_config = ConfigDict(extra="allow")

    user: dict[str, Any] = Field(description="The user's row.")
    sessions: list[dict[str, Any]] = Field(description="Logins of the last weeks.")
    access_tokens: list[dict[str, Any]] = Field(description="Tokens, without the tokens.")
    telegram_channels: list[dict[str, Any]] = Field(description="Chats that are bound.")
    telegram_link: dict[str, Any] | None = Field(description="One that binds a chat, not used yet.")
    two_factor: dict[str, Any] | None = Field(description="The second factor, without secrets.")
    exchange_keys: list[dict[str, Any]] = Field(description="Exchange keys, masked.")
    audit: list[dict[str, Any]] = Field(description="What happened: `at`, `event`, `details`.")
