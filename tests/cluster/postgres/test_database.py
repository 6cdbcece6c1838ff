"""The fixtures themselves: a migrated database for each test."""

from __future__ import annotations

from tests.postgres import execute, rows

TABLES = "SELECT tablename::text FROM pg_tables WHERE schemaname = 'public' ORDER BY 1"
MADE = [
    ("alembic_version",),
    ("backtest_job_events",),
    ("backtest_job_stage_a_shortlist",),
    ("backtest_job_top_variants",),
    ("backtest_jobs",),
    ("backtest_spans",),
]


def test_first_database(database: str) -> None:
    assert rows(database, TABLES) == MADE
    execute(database, "DROP TABLE backtest_spans")


def test_second_database_is_another(database: str) -> None:
    assert rows(database, TABLES) == MADE
