"""Telegram chats as they are answered."""

from __future__ import annotations

from datetime import datetime

from pydantic import Field

from api.schemas.errors import Answer


class ChatLink(Answer):
    """What binds a chat, once and for a quarter of an hour."""

    token: str = Field(description="The token; it is shown this once and kept nowhere.")
    url: str | None = Field(
        description="Open it and press Start; null while no live runner has served a bot."
    )
    expires_at: datetime = Field(description="When it stops to work.")


class Chat(Answer):
    """A chat of the user."""

    chat_id: int = Field(description="The chat's id at Telegram.")
    is_confirmed: bool = Field(description="Whether it was bound from within the chat.")
    confirmed_at: datetime | None = Field(description="When that was.")


class ChatList(Answer):
    """The chats of a user; the first confirmed one gets the messages."""

    items: list[Chat] = Field(description="The chats, the newest first.")
