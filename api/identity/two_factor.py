"""The second factor: set up, verified, asked for again before what needs it, reset.

A row of `identity_2fa` is locked while a code is checked, so of the same code sent twice at once
one is taken. Codes are counted by the limiter before they are looked at.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any, Final
from uuid import UUID

from sqlalchemy import Row, delete, func, select, update
from sqlalchemy.dialects.postgresql import insert
from sqlalchemy.ext.asyncio import AsyncConnection

from api.errors import Conflict, Forbidden, invalid
from api.identity.envelope import TOTP, Vault, totp_binding
from api.identity.limits import Rule
from api.identity.recovery_codes import (
    code_hash,
    codes_left,
    renewed_codes,
    spent_code,
    wrong_recovery_code,
)
from api.identity.secret_tables import STEP_UPS, TWO_FACTOR
from api.identity.service import Identity
from api.identity.totp import code_of, new_secret, otpauth_uri, step_of, wrong_code
from compute.errors import InvalidRequest

SET_UPS: Final = Rule("two_factor_set_up", free=10, first_s=30, longest_s=3600, window_s=86_400)
OF_USER: Final = Rule("two_factor_user", free=5, first_s=30, longest_s=3600, window_s=86_400)
OF_ADDRESS: Final = Rule("two_factor_address", free=20, first_s=30, longest_s=3600, window_s=86_400)
"""Attempts at codes of either kind: some two dozen a day for whoever keeps guessing."""

NOW: Final = func.statement_timestamp()


@dataclass(frozen=True, slots=True)
class Caller:
    """Who sends a code: a user, the session it comes from, and whose attempts count together."""

    user_id: UUID
    session_id: UUID
    address: str


@dataclass(frozen=True, slots=True)
class TwoFactorStatus:
    """How far a user's second factor is; `stepped_up_until` is of one session."""

    state: str
    enabled_at: datetime | None = None
    recovery_codes_left: int = 0
    stepped_up_until: datetime | None = None


class TwoFactor:
    """The second factors of all users."""

    def __init__(self, identity: Identity) -> None:
        self._identity = identity
        self._audit = identity.audit
        self._vault = Vault(TOTP, identity.settings.two_factor)
        self._fresh = timedelta(minutes=identity.settings.step_up_minutes)

    async def status(self, user_id: UUID, session_id: UUID | None) -> TwoFactorStatus:
        """How far the user is; without a session nothing of step-ups."""
        async with self._identity.transaction() as connection:
            row = await _row(connection, user_id)
            if row is None:
                return TwoFactorStatus("absent")
            if not row.enabled:
                return TwoFactorStatus("pending")
            return TwoFactorStatus(
                "enabled",
                row.enabled_at,
                await codes_left(connection, user_id),
                await self._stepped_up_until(connection, user_id, session_id),
            )

    async def is_enabled(self, user_id: UUID) -> bool:
        """Whether the user has finished a set-up."""
        async with self._identity.transaction() as connection:
            row = await _row(connection, user_id)
            return row is not None and row.enabled

    async def is_stepped_up(self, user_id: UUID, session_id: UUID) -> bool:
        """Whether a code came from this session within the last minutes."""
        async with self._identity.transaction() as connection:
            return await self._stepped_up_until(connection, user_id, session_id) is not None

    async def setup(self, user_id: UUID) -> str:
        """The URI of a new secret, in place of one that was never verified.

        Raises: Conflict when the second factor is enabled already, TooManyRequests.
        """
        await self._identity.limit(SET_UPS, str(user_id))
        secret = new_secret()
        values = {
            "totp_secret_enc": self._vault.seal(secret, totp_binding(user_id)),
            "enabled": False,
            "last_used_step": None,
            "updated_at": NOW,
        }
        made = insert(TWO_FACTOR).values(user_id=user_id, **values)
        query = made.on_conflict_do_update(
            index_elements=[TWO_FACTOR.c.user_id],
            set_=values,
            where=TWO_FACTOR.c.enabled.is_(False),
        ).returning(TWO_FACTOR.c.user_id)
        async with self._identity.transaction() as connection:
            if (await connection.execute(query)).first() is None:
                raise _already_enabled()
            await self._audit.record(connection, user_id, "two_factor.set_up")
        return otpauth_uri(secret, user_id)

    async def verify(self, caller: Caller, text: str) -> list[str]:
        """The recovery codes of a factor that is enabled by its first code.

        That code counts as a step-up of the session, too.
        Raises: InvalidRequest (no code, a wrong one, no set-up), Conflict, TooManyRequests.
        """
        code = code_of(text)
        async with self._identity.transaction() as connection:
            _check_pending(await _row(connection, caller.user_id))
        await self._take(caller)
        async with self._identity.transaction() as connection:
            row = _check_pending(await _row(connection, caller.user_id, lock=True))
            codes = None
            if await self._used(connection, caller, row, code, enabled=True, enabled_at=NOW):
                codes = await renewed_codes(connection, caller.user_id)
                await self._audit.record(connection, caller.user_id, "two_factor.enabled")
        if codes is None:
            raise wrong_code("the code is wrong; take a new one, and see that the clock is right")
        await self._clear(caller)
        return codes

    async def step_up(self, caller: Caller, text: str) -> datetime:
        """Until when the session may do what needs a fresh code. Raises: as `verify`; Forbidden."""
        code = code_of(text)
        if not await self.is_enabled(caller.user_id):
            raise required()
        await self._take(caller)
        until = None
        async with self._identity.transaction() as connection:
            row = await _row(connection, caller.user_id, lock=True)
            if row is None or not row.enabled:
                raise required()
            if await self._used(connection, caller, row, code):
                user_id, session_id = caller.user_id, caller.session_id
                until = await self._stepped_up_until(connection, user_id, session_id)
                await self._audit.record(connection, user_id, "two_factor.stepped_up")
        if until is None:
            raise wrong_code("the code is wrong or was used; wait for the next one")
        await self._clear(caller)
        return until

    async def reset(self, caller: Caller, text: str) -> None:
        """Removes the second factor, all recovery codes and all step-ups, for a recovery code.

        Raises: InvalidRequest, TooManyRequests, Forbidden (there is no second factor).
        """
        hashed = code_hash(caller.user_id, text)
        if not await self.is_enabled(caller.user_id):
            raise required()
        await self._take(caller)
        async with self._identity.transaction() as connection:
            await _row(connection, caller.user_id, lock=True)
            good = await spent_code(connection, caller.user_id, hashed)
            if good:
                await connection.execute(
                    delete(TWO_FACTOR).where(TWO_FACTOR.c.user_id == caller.user_id)
                )
            event = "two_factor.reset" if good else "two_factor.recovery_code_refused"
            await self._audit.record(connection, caller.user_id, event)
        if not good:
            raise wrong_recovery_code("the recovery code is wrong or was used")
        await self._clear(caller)

    async def disable(self, user_id: UUID) -> None:
        """Removes the second factor with its recovery codes and step-ups. Raises: Forbidden."""
        async with self._identity.transaction() as connection:
            row = await _row(connection, user_id, lock=True)
            if row is None or not row.enabled:
                raise required()
            await connection.execute(delete(TWO_FACTOR).where(TWO_FACTOR.c.user_id == user_id))
            await self._audit.record(connection, user_id, "two_factor.disabled")

    async def renew_recovery_codes(self, user_id: UUID) -> list[str]:
        """Ten new recovery codes; those before are worth nothing. Raises: Forbidden."""
        async with self._identity.transaction() as connection:
            row = await _row(connection, user_id, lock=True)
            if row is None or not row.enabled:
                raise required()
            codes = await renewed_codes(connection, user_id)
            await self._audit.record(connection, user_id, "two_factor.recovery_codes_renewed")
        return codes

    async def _used(
        self, connection: AsyncConnection, caller: Caller, row: Row, code: str, **values: Any
    ) -> bool:
        """Whether the code is good and was not used: then it is now, and the session stepped up."""
        secret = self._vault.open(row.totp_secret_enc, totp_binding(caller.user_id))
        step = step_of(secret, code, self._identity.now_ms() / 1000)
        if step is None or step <= (row.last_used_step or -1):
            await self._audit.record(connection, caller.user_id, "two_factor.code_refused")
            return False
        await connection.execute(
            update(TWO_FACTOR)
            .where(TWO_FACTOR.c.user_id == caller.user_id)
            .values(last_used_step=step, updated_at=NOW, **values)
        )
        mark = insert(STEP_UPS).values(session_id=caller.session_id, user_id=caller.user_id, at=NOW)
        await connection.execute(
            mark.on_conflict_do_update(index_elements=[STEP_UPS.c.session_id], set_={"at": NOW})
        )
        return True

    async def _stepped_up_until(
        self, connection: AsyncConnection, user_id: UUID, session_id: UUID | None
    ) -> datetime | None:
        query = select(STEP_UPS.c.at + self._fresh).where(
            STEP_UPS.c.session_id == session_id,
            STEP_UPS.c.user_id == user_id,
            STEP_UPS.c.at > NOW - self._fresh,
        )
        return (await connection.execute(query)).scalar()

    async def _take(self, caller: Caller) -> None:
        await self._identity.limit(OF_USER, str(caller.user_id))
        await self._identity.limit(OF_ADDRESS, caller.address)

    async def _clear(self, caller: Caller) -> None:
        await self._identity.limiter.clear(OF_USER, str(caller.user_id))
        # Not cleared: good codes of one user say nothing of guesses at those of another.
        await self._identity.limiter.give_back(OF_ADDRESS, caller.address)


async def exported_factor(connection: AsyncConnection, user_id: UUID) -> dict[str, Any] | None:
    """All that is stored of a user's second factor but its secrets."""
    row = await _row(connection, user_id)
    if row is None:
        return None
    return {
        "enabled": row.enabled,
        "enabled_at": row.enabled_at,
        "updated_at": row.updated_at,
        "recovery_codes_left": await codes_left(connection, user_id),
    }


async def _row(connection: AsyncConnection, user_id: UUID, *, lock: bool = False) -> Row | None:
    query = select(TWO_FACTOR).where(TWO_FACTOR.c.user_id == user_id)
    return (await connection.execute(query.with_for_update() if lock else query)).first()


def _check_pending(row: Row | None) -> Row:
    if row is None:
        raise _setup_required()
    if row.enabled:
        raise _already_enabled()
    return row


def _already_enabled() -> Conflict:
    return Conflict(
        "two-factor authentication is enabled already",
        details={"error": "two_factor_already_enabled"},
    )


def _setup_required() -> InvalidRequest:
    error = invalid("start with POST /2fa/setup", "two_factor_setup_required", "body.code")
    error.details["error"] = "two_factor_setup_required"
    return error


def required() -> Forbidden:
    """The refusal of the gate."""
    return Forbidden(
        "Two-factor authentication must be enabled.", details={"error": "two_factor_required"}
    )


def step_up_required() -> Forbidden:
    """The refusal of what needs a fresh code."""
    return Forbidden(
        "A fresh code is needed: POST /2fa/step-up.", details={"error": "step_up_required"}
    )
