"""Telegram chats of the user, which get the messages of strategies: bound, listed, removed."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Final

from fastapi import APIRouter, Path, Response

from api.envelope import errors, json_response
from api.errors import NotFound
from api.identity.account import plain
from api.identity.limits import Rule
from api.routes.auth import Users
from api.schemas.chats import ChatLink, ChatList
from api.users import AccountUser
from live.telegram.chats import chats_of, make_link, unbind

LINKS_BY_USER: Final = Rule("telegram_link", 10, first_s=30, longest_s=900, window_s=900)

router = APIRouter(prefix="/account/telegram/chats", tags=["users"])


@router.post(
    "",
    status_code=201,
    response_model=ChatLink,
    responses=errors("unauthorized", "forbidden", "too_many_requests"),
    summary="Ask for a link that binds a chat",
)
async def ask(user: AccountUser, users: Users) -> Response:
    """Who opens it in Telegram and presses Start gets the messages of the user's strategies there.

    It works once, for a quarter of an hour, and ends the one that was asked for before. A user who
    logs in with Telegram binds the chat of that account alone. `/stop` in the chat ends it.
    """
    await users.limit(LINKS_BY_USER, str(user.user_id))
    async with users.transaction() as connection:
        link = await make_link(connection, user.user_id)
    found = {"token": link.token, "url": link.url, "expires_at": link.expires_at}
    return json_response(plain(found), 201, {"Cache-Control": "no-store"})


@router.get(
    "",
    response_model=ChatList,
    responses=errors("unauthorized", "forbidden"),
    summary="List the chats of the user",
)
async def listed(user: AccountUser, users: Users) -> Response:
    """The newest first; the first confirmed one gets the messages."""
    async with users.transaction() as connection:
        found = await chats_of(connection, user.user_id)
    return json_response({"items": [plain(asdict(chat)) for chat in found]})


@router.delete(
    "/{chat_id}",
    status_code=204,
    response_class=Response,
    responses=errors("unauthorized", "forbidden", "not_found", "validation_error"),
    summary="Remove a chat",
)
async def remove(
    chat_id: Annotated[int, Path(description="The chat's id.", ge=-(2**63), lt=2**63)],
    user: AccountUser,
    users: Users,
) -> Response:
    """It gets no more messages at once. A chat that is not the user's is not found."""
    async with users.transaction() as connection:
        removed = await unbind(connection, user.user_id, chat_id)
    if not removed:
        raise NotFound(
            f"there is no chat {chat_id}",
            details={"error": "telegram_chat_not_found", "chat_id": chat_id},
        )
    return Response(status_code=204)
