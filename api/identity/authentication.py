"""From a request to its user: the cookie of a session, or an access token."""

from __future__ import annotations

import logging
from dataclasses import dataclass
from typing import TYPE_CHECKING, Final

from fastapi import Request

from api.errors import Forbidden, Unauthorized
from api.identity.access_tokens import user_of_token
from api.identity.callers import network
from api.identity.refusals import unauthorized
from api.identity.same_origin import check_same_origin
from api.identity.scopes import ALL_SCOPES
from api.identity.session_tokens import SessionClaims, decoded
from api.identity.sessions import seen, user_of_session
from api.users import Login, User, nobody

if TYPE_CHECKING:
    from api.identity.service import Identity

_SCHEME: Final = "bearer "

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class Authentication:
    """A `Login`: who proves nothing is whoever `fallback` says, if anybody."""

    identity: Identity
    fallback: Login = nobody

    async def __call__(self, request: Request) -> User:
        user = await self.proved(request)
        if user is not None:
            return user
        user = await self.fallback(request)
        if user is None:
            raise unauthorized("missing_jwt_cookie")
        # Like a cookie, a login without a proof is there whoever made the browser send it.
        check_same_origin(request, self.identity.settings.trusted_origins)
        return user

    async def proved(self, request: Request) -> User | None:
        """The user that a request proves; None when it does not try to.

        A token goes before a cookie. Only what a browser sends by itself, the cookie, needs the
        request to come from a page of ours. Raises: Unauthorized, Forbidden, StorageFailed.
        """
        try:
            return await self._user(request)
        except (Unauthorized, Forbidden) as error:
            log.warning(
                "refused %s: %s, from %s", request.method, error.details["error"], network(request)
            )
            raise

    async def _user(self, request: Request) -> User | None:
        header = request.headers.get("authorization", "")
        if header.lower().startswith(_SCHEME):
            return await self._by_token(header[len(_SCHEME) :].strip())
        cookie = self.cookie(request)
        if not cookie:
            return None
        check_same_origin(request, self.identity.settings.trusted_origins)
        return await self._by_session(decoded(self.identity.settings.jwt, cookie))

    def cookie(self, request: Request) -> str:
        """The token of the login cookie, blank without one."""
        return request.cookies.get(self.identity.settings.cookie_name, "").strip()

    async def _by_token(self, token: str) -> User:
        async with self.identity.transaction() as connection:
            user, found = await user_of_token(connection, token)
        return User(user.user_id, user.paid_level, frozenset(found.scopes))

    async def _by_session(self, claims: SessionClaims) -> User:
        idle = self.identity.idle
        async with self.identity.transaction() as connection:
            user, due = await user_of_session(connection, claims.user_id, claims.session_id, idle)
            if due:
                await seen(connection, claims.session_id)
        return User(user.user_id, user.paid_level, ALL_SCOPES, claims.session_id)
