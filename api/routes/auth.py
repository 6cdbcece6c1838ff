"""Log in, who is it, log out; the sessions in which a user is logged in."""

from __future__ import annotations

from dataclasses import asdict
from typing import Annotated, Any, Final
from uuid import UUID

from fastapi import APIRouter, Depends, Path, Request, Response

from api.bodies import JsonBody
from api.envelope import errors, json_response
from api.errors import Forbidden, NotFound, Unauthorized
from api.identity import callers
from api.identity.bodies import parsed
from api.identity.cookies import clear_login_cookie, set_login_cookie
from api.identity.links import LIFE_SECONDS
from api.identity.same_origin import check_same_origin
from api.identity.service import Identity, LoggedIn
from api.identity.session_tokens import SessionClaims, decoded
from api.identity.sessions import Session, open_sessions
from api.openapi import body_of
from api.pages.visitor import forget_place, kept_place
from api.schemas.auth import LOGINS, Link, Principal, SessionList, TelegramLoginRequest
from api.users import AccountUser, KnownUser

NEVER_KEPT: Final = {"Cache-Control": "no-store"}

router = APIRouter(prefix="/auth", tags=["users"])


def identity_of(request: Request) -> Identity:
    """The users of the service."""
    return request.app.state.context.identity


Users = Annotated[Identity, Depends(identity_of)]


@router.post(
    "/telegram/login",
    response_model=Principal,
    responses=errors(
        "unauthorized", "forbidden", "payload_too_large", "unsupported_media_type",
        "validation_error", "too_many_requests",
    ),
    openapi_extra=body_of(TelegramLoginRequest, examples=LOGINS),
    summary="Log in with Telegram",
)  # fmt: skip
async def log_in(request: Request, body: JsonBody, users: Users) -> Response:
    """Checks that Telegram signed it within the last day, and sets the cookie of a new session.

    A first login makes the user. A login works once; too many attempts have to wait.
    """
    check_same_origin(request, users.settings.trusted_origins)
    parsed(TelegramLoginRequest, body)
    before = _claims(request, users)
    found = await users.log_in(
        body,
        address=callers.address(request),
        network=callers.network(request),
        user_agent=callers.user_agent(request),
        replaces=None if before is None else before.session_id,
    )
    return welcomed(users, found)


def welcomed(users: Identity, found: LoggedIn) -> Response:
    """The answer to a login, with its cookie."""
    user = found.user
    record = {"user_id": str(user.user_id), "paid_level": user.paid_level}
    response = json_response(record, headers=NEVER_KEPT)
    set_login_cookie(
        response, users.settings, found.token, found.session.expires_at, users.now_ms()
    )
    return response


@router.post(
    "/links",
    status_code=201,
    response_model=Link,
    responses=errors("unauthorized", "forbidden"),
    summary="Make a link that logs a browser in",
)
async def make_link(user: AccountUser, users: Users) -> Response:
    """For the local operator, who has a token and no Telegram; of a session it is refused."""
    if user.session_id is not None:
        raise Forbidden(
            "a session is logged in already", details={"error": "access_token_required"}
        )
    record = {"path": f"/auth/links/{users.links.make(user.user_id)}"}
    return json_response(record | {"expires_in_seconds": LIFE_SECONDS}, 201, NEVER_KEPT)


@router.get(
    "/links/{code}",
    status_code=303,
    response_class=Response,
    responses={
        **errors("unauthorized"),
        303: {"description": "Logged in; on to the page that was wanted."},
    },
    summary="Log in by a link",
)
async def follow_link(
    request: Request, code: Annotated[str, Path(description="The link's code.")], users: Users
) -> Response:
    """Sets the cookie of a new session. A link works once, within a minute."""
    found = await users.log_in_by_link(
        code, network=callers.network(request), user_agent=callers.user_agent(request)
    )
    response = Response(
        status_code=303,
        headers={**NEVER_KEPT, "Location": kept_place(request), "Referrer-Policy": "no-referrer"},
    )
    forget_place(response, users.settings)
    expires_at = found.session.expires_at
    set_login_cookie(response, users.settings, found.token, expires_at, users.now_ms())
    return response


@router.post(
    "/logout",
    status_code=204,
    response_class=Response,
    responses=errors("forbidden"),
    summary="Log out",
)
async def log_out(request: Request, users: Users) -> Response:
    """Ends the session of the cookie and takes the cookie back; harmless without one."""
    check_same_origin(request, users.settings.trusted_origins)
    claims = _claims(request, users)
    if claims is not None:
        await users.log_out(claims.user_id, claims.session_id)
    response = Response(status_code=204)
    clear_login_cookie(response, users.settings)
    return response


@router.post(
    "/logout-everywhere",
    status_code=204,
    response_class=Response,
    responses=errors("unauthorized", "forbidden"),
    summary="Log out everywhere",
)
async def log_out_everywhere(user: AccountUser, users: Users) -> Response:
    """Ends all sessions of the user, this one too. Access tokens are revoked one by one."""
    await users.log_out_everywhere(user.user_id)
    response = Response(status_code=204)
    clear_login_cookie(response, users.settings)
    return response


@router.get(
    "/current-user",
    response_model=Principal,
    responses=errors("unauthorized", "forbidden"),
    summary="Who is logged in",
)
async def current(user: KnownUser) -> Response:
    """The user of the session or of the access token, as stored now."""
    return json_response({"user_id": str(user.user_id), "paid_level": user.paid_level})


@router.get(
    "/sessions",
    response_model=SessionList,
    responses=errors("unauthorized", "forbidden"),
    summary="List the sessions of the user",
)
async def sessions(user: AccountUser, users: Users) -> Response:
    """Where the user is logged in at the moment."""
    async with users.transaction() as connection:
        found = await open_sessions(connection, user.user_id, users.idle)
    items = [_shown(session, user.session_id) for session in found]
    return json_response({"items": items})


@router.delete(
    "/sessions/{session_id}",
    status_code=204,
    response_class=Response,
    responses=errors("unauthorized", "forbidden", "not_found", "validation_error"),
    summary="End a session",
)
async def end(
    session_id: Annotated[UUID, Path(description="The session.")], user: AccountUser, users: Users
) -> Response:
    """Logs the user out there. A session that is not his, or has ended, is not found."""
    if not await users.log_out(user.user_id, session_id):
        raise NotFound(
            f"there is no open session {session_id}",
            details={"error": "session_not_found", "session_id": str(session_id)},
        )
    return Response(status_code=204)


def _claims(request: Request, users: Identity) -> SessionClaims | None:
    """Which session the cookie is of; None without a good one."""
    try:
        return decoded(users.settings.jwt, users.authentication.cookie(request))
    except Unauthorized:
        return None


def _shown(session: Session, current: UUID | None) -> dict[str, Any]:
    record = asdict(session)
    del record["user_id"]
    for name in ("created_at", "last_seen_at", "expires_at"):
        record[name] = record[name].isoformat().replace("+00:00", "Z")
    return record | {
        "session_id": str(session.session_id),
        "current": session.session_id == current,
    }
