"""Access tokens of the user: made, listed, revoked."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Path, Response

from api.bodies import JsonBody
from api.envelope import errors, json_response
from api.errors import NotFound
from api.identity.access_tokens import AccessToken, make_token, revoke_token, tokens_of
from api.identity.account import plain
from api.identity.bodies import parsed
from api.openapi import body_of
from api.routes.auth import Users
from api.schemas.access_tokens import (
    EXAMPLES,
    AccessTokenList,
    AccessTokenRequest,
    NewAccessToken,
)
from api.users import AccountUser

router = APIRouter(prefix="/access-tokens", tags=["users"])


@router.post(
    "",
    status_code=201,
    response_model=NewAccessToken,
    responses=errors(
        "unauthorized", "forbidden", "conflict", "payload_too_large", "unsupported_media_type",
        "validation_error",
    ),
    openapi_extra=body_of(AccessTokenRequest, examples=EXAMPLES),
    summary="Make an access token",
)  # fmt: skip
async def make(user: AccountUser, users: Users, body: JsonBody) -> Response:
    """For programs: `Authorization: Bearer` and the token, instead of a cookie.

    The token is in this answer and nowhere else.
    """
    wanted = parsed(AccessTokenRequest, body)
    async with users.transaction() as connection:
        found, token = await make_token(
            connection, user.user_id, wanted.name, wanted.scopes, wanted.expires_in_days
        )
    return json_response({**_shown(found), "token": token}, 201, {"Cache-Control": "no-store"})


@router.get(
    "",
    response_model=AccessTokenList,
    responses=errors("unauthorized", "forbidden"),
    summary="List the access tokens of the user",
)
async def listed(user: AccountUser, users: Users) -> Response:
    """Oldest first; of those that were revoked or have expired the last hundred."""
    async with users.transaction() as connection:
        found = await tokens_of(connection, user.user_id)
    return json_response({"items": [_shown(token) for token in found]})


@router.delete(
    "/{token_id}",
    status_code=204,
    response_class=Response,
    responses=errors("unauthorized", "forbidden", "not_found", "validation_error"),
    summary="Revoke an access token",
)
async def revoke(
    token_id: Annotated[UUID, Path(description="The token's id.")], user: AccountUser, users: Users
) -> Response:
    """It stops to work at once. A token that is not the user's, or was revoked, is not found."""
    async with users.transaction() as connection:
        revoked = await revoke_token(connection, user.user_id, token_id)
    if not revoked:
        raise NotFound(
            f"there is no access token {token_id}",
            details={"error": "access_token_not_found", "token_id": str(token_id)},
        )
    return Response(status_code=204)


def _shown(token: AccessToken) -> dict[str, Any]:
    record = plain(asdict(token))
    del record["user_id"]
    return record
