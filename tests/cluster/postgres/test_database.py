"""The fixtures themselves: a migrated database for each test."""

from __future__ import annotations

from tests.postgres import execute, rows

TABLES = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public'"
MADE = {("backtest_jobs",), ("backtest_spans",), ("identity_users",), ("strategy_events",)}
"""Some of each part, and the one that the first test drops."""


def test_first_database(database: str) -> None:
    assert {*rows(database, TABLES)} >= MADE
    execute(database, "DROP TABLE backtest_spans")


def test_second_database_is_another(database: str) -> None:
    assert {*rows(database, TABLES)} >= MADE
