"""Exchange keys: stored encrypted, listed masked, deleted for good."""

from __future__ import annotations

from typing import Annotated, Any
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response

from api.bodies import JsonBody
from api.envelope import errors, json_response
from api.identity.bodies import parsed
from api.identity.exchange_keys import ExchangeKey, ExchangeKeys, new_key
from api.identity.gate import SteppedUp, TwoFactorUser
from api.openapi import body_of
from api.schemas import secret_examples
from api.schemas.exchange_keys import ExchangeKeyBody, ExchangeKeyRequest, ExchangeKeysBody
from cluster.jobs.job import moment

router = APIRouter(prefix="/exchange-keys", tags=["exchange-keys"])


def exchange_keys_of(request: Request) -> ExchangeKeys:
    """The exchange keys of the service."""
    return ExchangeKeys(request.app.state.context.identity)


TheKeys = Annotated[ExchangeKeys, Depends(exchange_keys_of)]


@router.post(
    "",
    status_code=201,
    response_model=ExchangeKeyBody,
    responses=errors(
        "unauthorized", "forbidden", "conflict", "payload_too_large", "unsupported_media_type",
        "validation_error",
    ),
    openapi_extra=body_of(ExchangeKeyRequest, examples=secret_examples.EXCHANGE_KEYS),
    summary="Store a key",
)  # fmt: skip
async def add(user: SteppedUp, keys: TheKeys, body: JsonBody) -> Response:
    """Nothing is sent to the exchange. The key cannot be read back, only deleted.

    Refusals in `details.error`, before the body is looked at: `two_factor_required`,
    `step_up_required`; after it: `invalid_exchange_key_payload`, `exchange_key_already_exists`,
    `too_many_exchange_keys` (a user has at most a hundred).
    """
    request = parsed(ExchangeKeyRequest, body)
    return json_response(_item(await keys.add(user.user_id, new_key(request))), 201)


@router.get(
    "",
    response_model=ExchangeKeysBody,
    responses=errors("unauthorized", "forbidden"),
    summary="List the keys, oldest first",
)
async def listed(user: TwoFactorUser, keys: TheKeys) -> Response:
    """Only keys that are not deleted; of each only what tells it from others."""
    return json_response([_item(key) for key in await keys.listed(user.user_id)])


@router.delete(
    "/{key_id}",
    status_code=204,
    response_class=Response,
    responses=errors("unauthorized", "forbidden", "not_found", "validation_error"),
    summary="Delete a key",
)
async def delete(
    user: SteppedUp, keys: TheKeys, key_id: Annotated[UUID, Path(description="The key.")]
) -> Response:
    """Its secrets are erased at once. A key of somebody else is as one that never was: 404.

    Refusals in `details.error`: `two_factor_required`, `step_up_required`,
    `exchange_key_not_found`.
    """
    await keys.delete(user.user_id, key_id)
    return Response(status_code=204)


def _item(key: ExchangeKey) -> dict[str, Any]:
    return {
        "key_id": str(key.key_id),
        "exchange_name": key.exchange_name,
        "market_type": key.market_type,
        "label": key.label,
        "permissions": key.permissions,
        "api_key": key.masked,
        "created_at": moment(key.created_at),
        "updated_at": moment(key.updated_at),
    }
