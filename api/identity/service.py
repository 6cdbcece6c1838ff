"""Users as the service handles them: log in, who is it, log out."""

from __future__ import annotations

import logging
from collections.abc import Callable, Mapping
from contextlib import asynccontextmanager
from dataclasses import dataclass, field
from datetime import timedelta
from typing import TYPE_CHECKING, Final
from uuid import UUID

from sqlalchemy import delete, func
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.exc import IntegrityError

from api.errors import StorageFailed, TooManyRequests, Unauthorized
from api.identity import session_tokens
from api.identity.audit import AuditLog
from api.identity.authentication import Authentication
from api.identity.limits import Limiter, Rule, forget_old_limits
from api.identity.links import Links
from api.identity.refusals import unauthorized
from api.identity.sessions import (
    Session,
    end_session,
    end_sessions,
    forget_old_sessions,
    open_session,
)
from api.identity.settings import IdentitySettings
from api.identity.tables import USED_LOGINS
from api.identity.telegram import MAX_AGE_S, MAX_SKEW_S, TelegramLogin, verified
from api.identity.users import StoredUser, get_user, logged_in
from api.users import Login, nobody
from cluster.postgres.engine import typed
from cluster.postgres.errors import DatabaseFailed

if TYPE_CHECKING:
    from collections.abc import AsyncIterator

    from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

LOGINS_BY_ADDRESS: Final = Rule("login_address", 30, first_s=1, longest_s=900, window_s=900)
LOGINS_BY_USER: Final = Rule("login_user", 10, first_s=30, longest_s=900, window_s=900)
STORAGE_FAILED: Final = "User storage operation failed"
FOREIGN_KEY: Final = "23503"
"""The SQLSTATE of a row that refers to one that is not there: all of them refer to users."""

log = logging.getLogger(__name__)


@dataclass(frozen=True, slots=True)
class LoggedIn:
    """A login that succeeded, and the token for its cookie."""

    user: StoredUser
    session: Session
    token: str = field(repr=False)


@dataclass(slots=True, eq=False)
class Identity:
    """Users over one database, by one set of settings; `now_ms` is the wall clock.

    `fallback` says who a request comes from that proves nothing.
    """

    engine: AsyncEngine
    settings: IdentitySettings
    now_ms: Callable[[], int]
    audit: AuditLog = field(default_factory=AuditLog)
    fallback: Login = nobody
    limiter: Limiter = field(init=False)
    authentication: Authentication = field(init=False)
    links: Links = field(init=False)

    def __post_init__(self) -> None:
        self.limiter = Limiter(self.engine)
        self.authentication = Authentication(self, self.fallback)
        self.links = Links(self.now_ms)

    @property
    def idle(self) -> timedelta:
        """How long a session may go unused."""
        return timedelta(hours=self.settings.idle_hours)

    @asynccontextmanager
    async def transaction(self) -> AsyncIterator[AsyncConnection]:
        """A transaction; failures of the database are the API's own.

        Raises: StorageFailed; Unauthorized where the account of a row was erased meanwhile.
        """
        try:
            with typed():
                async with self.engine.begin() as connection:
                    yield connection
        except DatabaseFailed as error:
            raise StorageFailed(error.message, STORAGE_FAILED) from error
        except IntegrityError as error:  # it quotes the row, which no log is to have
            if getattr(error.orig, "sqlstate", None) == FOREIGN_KEY:
                raise unauthorized("unknown_user") from None
            refused = "the database refused a row that breaks its rules"
            raise StorageFailed(refused, STORAGE_FAILED) from None

    async def limit(self, rule: Rule, subject: str) -> None:
        """Counts an attempt. Raises: TooManyRequests, StorageFailed."""
        try:
            with typed():
                await self.limiter.take(rule, subject)
        except DatabaseFailed as error:
            raise StorageFailed(error.message, STORAGE_FAILED) from error
        except TooManyRequests:
            log.warning("limit %s: an attempt is refused", rule.name)
            raise

    async def log_in(
        self,
        fields: Mapping[str, object],
        *,
        address: str,
        network: str,
        user_agent: str,
        replaces: UUID | None = None,
    ) -> LoggedIn:
        """A new session for whoever Telegram says it is; a login works once.

        `address` is whose attempts count together; the session `replaces`, if it is this user's
        own, ends.

        Raises: Unauthorized, TooManyRequests, InvalidRequest, StorageFailed.
        """
        await self.limit(LOGINS_BY_ADDRESS, address)
        now_s = self.now_ms() // 1000
        try:
            login = verified(fields, self.settings.bot_token, now_s)
            async with self.transaction() as connection:
                await _use_once(connection, login, now_s)
        except Unauthorized as error:
            await self._failed(error, network)
            raise
        # Counted after the replay check: whoever has a copy of a login cannot lock its user out.
        await self.limit(LOGINS_BY_USER, str(login.telegram_user_id))
        async with self.transaction() as connection:
            user = await logged_in(connection, login.telegram_user_id)
            if replaces is not None:
                await self._end(connection, user.user_id, replaces)
            found = await self.open_session(connection, user, network, user_agent)
            await forget_old_sessions(connection)
            await forget_old_limits(connection)
        return found

    async def log_in_by_link(self, code: str, *, network: str, user_agent: str) -> LoggedIn:
        """A new session for whom a link was made; a link works once. Raises: Unauthorized."""
        user_id = self.links.use(code)
        async with self.transaction() as connection:
            user = await get_user(connection, user_id)
            if user is None or user.is_deleted:
                raise unauthorized("unknown_user")
            return await self.open_session(connection, user, network, user_agent)

    async def open_session(
        self, connection: AsyncConnection, user: StoredUser, network: str, user_agent: str
    ) -> LoggedIn:
        """A new session of a user who has proved who he is."""
        life = timedelta(days=self.settings.jwt_ttl_days)
        session = await open_session(connection, user.user_id, life, user_agent, network)
        await self.audit.record(
            connection, user.user_id, "login.succeeded", {"session_id": str(session.session_id)}
        )
        return LoggedIn(user, session, self._token(user, session))

    def _token(self, user: StoredUser, session: Session) -> str:
        return session_tokens.encoded(
            self.settings.jwt,
            user_id=user.user_id,
            session_id=session.session_id,
            paid_level=user.paid_level,
            issued_at=session.created_at,
            expires_at=session.expires_at,
        )

    async def _failed(self, error: Unauthorized, network: str) -> None:
        code = error.details["error"]
        log.warning("login failed: %s, from %s", code, network)
        async with self.transaction() as connection:
            await self.audit.record(connection, None, "login.failed", {"error": code})

    async def log_out(self, user_id: UUID, session_id: UUID) -> bool:
        """Whether the session of this user was open, and is ended now."""
        async with self.transaction() as connection:
            return await self._end(connection, user_id, session_id)

    async def _end(self, connection: AsyncConnection, user_id: UUID, session_id: UUID) -> bool:
        ended = await end_session(connection, user_id, session_id)
        if ended:
            details = {"session_id": str(session_id)}
            await self.audit.record(connection, user_id, "session.ended", details)
        return ended

    async def log_out_everywhere(self, user_id: UUID) -> int:
        """How many sessions of a user were open, and are ended now."""
        async with self.transaction() as connection:
            count = await end_sessions(connection, user_id)
            await self.audit.record(connection, user_id, "session.all_ended", {"count": count})
        return count


async def _use_once(connection: AsyncConnection, login: TelegramLogin, now_s: int) -> None:
    """Remembers a login for as long as it would be accepted. Raises: Unauthorized."""
    await connection.execute(delete(USED_LOGINS).where(USED_LOGINS.c.expires_at <= func.now()))
    left = timedelta(seconds=login.auth_date + MAX_AGE_S + MAX_SKEW_S - now_s)
    used = insert(USED_LOGINS).values(
        login_hash=login.signature, expires_at=func.clock_timestamp() + left
    )
    new = used.on_conflict_do_nothing().returning(USED_LOGINS.c.login_hash)
    if (await connection.execute(new)).first() is None:
        raise unauthorized("used_login")
