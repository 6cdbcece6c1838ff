"""The account of the user: all that is stored of it, and its end."""

from __future__ import annotations

from fastapi import APIRouter, Response

from api.context import Context
from api.envelope import errors, json_response
from api.identity.account import erase, exported
from api.identity.cookies import clear_login_cookie
from api.identity.gate import Confirmed
from api.routes.auth import Users
from api.running import threaded
from api.schemas.account import AccountExport
from api.users import AccountUser

router = APIRouter(prefix="/account", tags=["users"])


@router.get(
    "/export",
    response_model=AccountExport,
    responses=errors("unauthorized", "forbidden"),
    summary="All that is stored of the user",
)
async def export(user: AccountUser, users: Users, context: Context) -> Response:
    """A JSON document; of secrets it has no more than their masked ends."""
    found = await exported(users, context.account_parts, user.user_id)
    headers = {
        "Cache-Control": "no-store",
        "Content-Disposition": 'attachment; filename="roehub-account.json"',
    }
    return await threaded(json_response, found, 200, headers)


@router.delete(
    "",
    status_code=204,
    response_class=Response,
    responses=errors("unauthorized", "forbidden"),
    summary="Erase the account",
)
async def delete(user: Confirmed, users: Users, context: Context) -> Response:
    """Erases the user and all that is stored of him, at once and for good.

    With a second factor it needs a fresh code: 403 `step_up_required`.

    The audit log keeps what happened, by an id that nothing refers to any more. Whoever wants a
    copy takes the export first.
    """
    await erase(users, context.account_parts, user.user_id)
    response = Response(status_code=204)
    clear_login_cookie(response, users.settings)
    return response
