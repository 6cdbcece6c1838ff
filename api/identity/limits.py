"""How often something may be tried: free attempts, then waits that double; in PostgreSQL."""

from __future__ import annotations

import math
from collections.abc import Collection
from dataclasses import dataclass

from sqlalchemy import delete, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine

from api.errors import TooManyRequests
from api.identity.tables import LIMITS

# One statement counts and blocks: of attempts at the same time each sees those before it. A row
# that is blocked is not counted again, and gives nothing back.
_TAKE = text(
    """
    INSERT INTO identity_limits AS l (rule, subject, attempts, blocked_until, forget_at)
    VALUES (
        :rule, :subject, 1,
        CASE WHEN :free <= 1 THEN clock_timestamp() + make_interval(secs => :first_s) END,
        clock_timestamp() + make_interval(secs => :window_s)
    )
    ON CONFLICT (rule, subject) DO UPDATE SET
        attempts = CASE WHEN l.forget_at <= clock_timestamp() THEN 1 ELSE l.attempts + 1 END,
        blocked_until = CASE
            WHEN l.forget_at <= clock_timestamp() THEN excluded.blocked_until
            WHEN l.attempts + 1 >= :free THEN clock_timestamp() + make_interval(
                secs => least(:longest_s, :first_s * power(2, least(l.attempts + 1 - :free, 40)))
            )
        END,
        forget_at = clock_timestamp() + make_interval(secs => :window_s)
    WHERE l.blocked_until IS NULL OR l.blocked_until <= clock_timestamp()
    RETURNING attempts
    """
)
_LEFT = text(
    """
    SELECT extract(epoch FROM blocked_until - clock_timestamp()) FROM identity_limits
    WHERE rule = :rule AND subject = :subject
    """
)

_GIVE_BACK = text(
    """
    WITH first AS (
        DELETE FROM identity_limits WHERE rule = :rule AND subject = :subject AND attempts <= 1
    )
    UPDATE identity_limits SET attempts = attempts - 1, blocked_until = NULL
    WHERE rule = :rule AND subject = :subject AND attempts > 1
    """
)


@dataclass(frozen=True, slots=True)
class Rule:
    """`free` attempts, after which each further one has to wait: `first_s`, then twice as long,
    up to `longest_s`. Without an attempt for `window_s` all are forgotten.
    """

    name: str
    free: int
    first_s: float
    longest_s: float
    window_s: float

    def __post_init__(self) -> None:
        assert 0 < self.first_s <= self.longest_s <= self.window_s


class Limiter:
    """Counts attempts by rule and subject, in transactions of its own: a refusal does not undo
    the count of what it refused.
    """

    def __init__(self, engine: AsyncEngine) -> None:
        self._engine = engine

    async def take(self, rule: Rule, subject: str) -> None:
        """Counts an attempt before it is made; `clear` or `give_back` are for good ones.

        Raises: TooManyRequests with `Retry-After`, `details.error = too_many_attempts`; such an
        attempt is not counted and must not be made.
        """
        values = {
            "rule": rule.name,
            "subject": subject,
            "free": rule.free,
            "first_s": rule.first_s,
            "longest_s": rule.longest_s,
            "window_s": rule.window_s,
        }
        async with self._engine.begin() as connection:
            if (await connection.execute(_TAKE, values)).first() is not None:
                return
            left = (await connection.execute(_LEFT, {k: values[k] for k in ("rule", "subject")})
                    ).scalar()  # fmt: skip
        raise too_many(rule, math.ceil(max(1.0, float(left or 0.0))))

    async def clear(self, rule: Rule, subject: str) -> None:
        """Forgets the attempts of a subject."""
        async with self._engine.begin() as connection:
            await connection.execute(
                delete(LIMITS).where(LIMITS.c.rule == rule.name, LIMITS.c.subject == subject)
            )

    async def give_back(self, rule: Rule, subject: str) -> None:
        """Undoes the count of one attempt that was a good one; those of others still count."""
        async with self._engine.begin() as connection:
            await connection.execute(_GIVE_BACK, {"rule": rule.name, "subject": subject})

    async def attempts(self, rule: Rule, subject: str) -> int:
        """Attempts that count at the moment."""
        query = select(LIMITS.c.attempts).where(
            LIMITS.c.rule == rule.name,
            LIMITS.c.subject == subject,
            LIMITS.c.forget_at > text("clock_timestamp()"),
        )
        async with self._engine.connect() as connection:
            return (await connection.execute(query)).scalar() or 0


async def forget_old_limits(connection: AsyncConnection) -> None:
    """Removes what no longer counts."""
    await connection.execute(delete(LIMITS).where(LIMITS.c.forget_at <= text("clock_timestamp()")))


async def forget_limits_of(connection: AsyncConnection, subjects: Collection[str]) -> None:
    """Removes all that is counted of these subjects."""
    await connection.execute(delete(LIMITS).where(LIMITS.c.subject.in_(subjects)))


def too_many(rule: Rule, seconds: int) -> TooManyRequests:
    """The refusal of an attempt before `seconds` have passed."""
    return TooManyRequests(
        f"too many attempts; try again in {seconds} s",
        details={"error": "too_many_attempts", "limit": rule.name, "retry_after_seconds": seconds},
        headers={"Retry-After": str(seconds)},
    )
