"""Attempts: some are free, then they wait, twice as long each time; however many come at once."""

from __future__ import annotations

import asyncio

import pytest
from sqlalchemy.ext.asyncio import AsyncEngine

from api.errors import TooManyRequests
from api.identity.limits import Limiter, Rule, forget_old_limits
from tests.api.identity.database import with_engine
from tests.postgres import execute, rows

RULE = Rule("test", free=3, first_s=60, longest_s=150, window_s=900)
PASSED = "UPDATE identity_limits SET blocked_until = clock_timestamp() - interval '1 ms'"


def take(database: str, subject: str = "ann", rule: Rule = RULE) -> int:
    """Seconds to wait, 0 when the attempt may be made."""

    async def run(engine: AsyncEngine) -> TooManyRequests | None:
        try:
            await Limiter(engine).take(rule, subject)
        except TooManyRequests as error:
            return error
        return None

    refusal = with_engine(database, run)
    if refusal is None:
        return 0
    seconds = refusal.details["retry_after_seconds"]
    assert refusal.details["error"] == "too_many_attempts"
    assert refusal.headers["Retry-After"] == str(seconds)
    return seconds


def test_after_the_free_attempts_waits_double_up_to_the_longest(database: str) -> None:
    assert [take(database) for _ in range(3)] == [0, 0, 0]
    for longest in (60, 120, 150, 150):
        assert longest - 5 < take(database) <= longest
        execute(database, PASSED)
        assert take(database) == 0
    assert take(database, "bob") == 0


def test_a_refused_attempt_is_not_counted(database: str) -> None:
    for _ in range(8):
        take(database)
    assert rows(database, "SELECT attempts FROM identity_limits") == [(3,)]


def test_a_good_attempt_clears_its_subject_alone(database: str) -> None:
    for _ in range(3):
        take(database)
        take(database, "bob")
    with_engine(database, lambda engine: Limiter(engine).clear(RULE, "ann"))
    assert take(database) == 0
    assert take(database, "bob") > 0


def test_attempts_are_forgotten_after_the_window(database: str) -> None:
    for _ in range(3):
        take(database)
    past = "clock_timestamp() - interval '1 ms'"
    execute(database, f"UPDATE identity_limits SET blocked_until = {past}, forget_at = {past}")
    assert with_engine(database, lambda e: Limiter(e).attempts(RULE, "ann")) == 0
    assert [take(database) for _ in range(3)] == [0, 0, 0]
    assert take(database) > 0
    execute(database, f"UPDATE identity_limits SET forget_at = {past}")

    async def forget(engine: AsyncEngine) -> None:
        async with engine.begin() as connection:
            await forget_old_limits(connection)

    with_engine(database, forget)
    assert rows(database, "SELECT count(*) FROM identity_limits") == [(0,)]


def test_of_many_attempts_at_once_only_the_free_ones_pass(database: str) -> None:
    async def storm(engine: AsyncEngine) -> list[object]:
        limiter = Limiter(engine)
        tasks = [limiter.take(RULE, "ann") for _ in range(20)]
        return await asyncio.gather(*tasks, return_exceptions=True)

    found = with_engine(database, storm)
    assert found.count(None) == 3
    assert sum(isinstance(one, TooManyRequests) for one in found) == 17


@pytest.mark.parametrize("free", [1, 2])
def test_a_rule_of_few_free_attempts(database: str, free: int) -> None:
    rule = Rule("test", free=free, first_s=60, longest_s=60, window_s=60)
    assert [take(database, rule=rule) > 0 for _ in range(free + 1)] == [False] * free + [True]


def test_a_good_attempt_that_is_given_back_leaves_those_of_others(database: str) -> None:
    def give_back() -> None:
        with_engine(database, lambda engine: Limiter(engine).give_back(RULE, "ann"))

    for _ in range(3):
        take(database)
    give_back()
    assert rows(database, "SELECT attempts, blocked_until FROM identity_limits") == [(2, None)]
    assert take(database) == 0
    assert take(database) > 0
    for left in (2, 1):
        give_back()
        assert rows(database, "SELECT attempts FROM identity_limits") == [(left,)]
    give_back()
    give_back()
    assert rows(database, "SELECT attempts FROM identity_limits") == []
