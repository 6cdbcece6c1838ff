"""Logins and sessions as they are sent and answered."""

from __future__ import annotations

from datetime import datetime
from typing import Any, Final, Literal
from uuid import UUID

from pydantic import BaseModel, ConfigDict, Field

from api.schemas.errors import Answer

PaidLevel = Literal["free", "base", "pro", "ultra"]


class TelegramLoginRequest(BaseModel):
    """What the Telegram Login Widget hands to a page, as it is: all of it is signed."""

    model_config = ConfigDict(extra="allow")

    id: int = Field(description="The Telegram user.")
    auth_date: int = Field(description="When Telegram signed it, in seconds since 1970, UTC.")
    hash: str = Field(description="Telegram's signature of all other fields.")
    first_name: str | None = Field(None, description="Not kept.")
    last_name: str | None = Field(None, description="Not kept.")
    username: str | None = Field(None, description="Not kept.")
    photo_url: str | None = Field(None, description="Not kept.")


class Principal(Answer):
    """Who is logged in."""

    user_id: UUID = Field(description="The user, the same in every part of the service.")
    paid_level: PaidLevel = Field(description="What the user pays for.")


class Link(Answer):
    """A link that logs a browser in."""

    path: str = Field(description="What comes after the service's address.")
    expires_in_seconds: int = Field(description="How long it may be used, once.")


class SessionBody(Answer):
    """A login that is open."""

    session_id: UUID = Field(description="The session.")
    created_at: datetime = Field(description="When the user logged in.")
    last_seen_at: datetime = Field(description="Its last request, to the minute.")
    expires_at: datetime = Field(description="When it ends in any case.")
    user_agent: str = Field(description="What the browser calls itself.")
    network: str = Field(description="The network that the login came from.")
    current: bool = Field(description="Whether this request is part of it.")


class SessionList(Answer):
    """The logins of a user that are open, oldest first."""

    items: list[SessionBody] = Field(description="The sessions.")


LOGINS: Final[dict[str, Any]] = {
    "of the widget": {
        "id": 411001,
        "auth_date": 1700000000,
        "first_name": "Roe",
        "username": "roehub_test",
        "hash": "0" * 64,
    }
}
