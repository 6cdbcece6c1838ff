"""A database that is in use comes to the schema of this version with every row it has."""

from __future__ import annotations

import asyncio

from alembic import command
from alembic.config import Config
from sqlalchemy import Connection

from cluster.postgres.engine import engine
from cluster.postgres.schema import DIRECTORY, migrate
from tests.cluster.postgres.test_jobs_tables import (
    EVENT,
    HASH,
    JOB,
    NOW,
    RUNNING,
    SAVED,
    SHORTLIST,
    SPAN,
    SUCCEEDED,
    TOP,
    inserted,
)
from tests.postgres import CHAIN, rows

USER = "'" + "a" * 32 + "'"
RUN = "'" + "b" * 32 + "'"
ROWS = {
    "0001": [
        ("backtest_jobs", SUCCEEDED | {"job_id": JOB, "user_id": USER}),
        ("backtest_jobs", RUNNING | {"user_id": USER}),
        ("backtest_jobs", SAVED | {"user_id": USER}),
        ("backtest_job_top_variants", TOP),
        ("backtest_job_stage_a_shortlist", SHORTLIST),
        ("backtest_job_events", EVENT),
        ("backtest_spans", SPAN),
    ],
    "0002": [
        ("identity_users", {"user_id": USER, "telegram_user_id": "411001", "created_at": NOW}),
        ("identity_audit", {"user_id": USER, "event": "'login.succeeded'", "details": "'{}'"}),
    ],
    "0003": [
        ("identity_2fa", {"user_id": USER, "totp_secret_enc": "'sealed'", "updated_at": NOW}),
    ],
    "0004": [
        (
            "strategy_strategies",
            {
                "strategy_id": USER,
                "user_id": USER,
                "name": "'n'",
                "instrument_id": """'{"market_id": 1, "symbol": "BTCUSDT"}'""",
                "instrument_key": "'binance:spot:BTCUSDT'",
                "market_type": "'spot'",
                "symbol": "'BTCUSDT'",
                "timeframe": "'1h'",
                "indicators_json": "'[]'",
                "spec_json": """'{"schema_version": 2, "spec_kind": "roehub.strategy.v2"}'""",
                "spec_hash": HASH,
                "created_at": NOW,
            },
        ),
    ],
    "0005": [
        (
            "live_leases",
            {"instrument_key": "'k'", "owner": "'one'", "token": "1", "lease_until": NOW},
        ),
    ],
    "0006": [
        (
            "identity_telegram_links",
            {
                "user_id": USER,
                "token_hash": "sha256('t')",
                "created_at": NOW,
                "expires_at": f"{NOW} + interval '1 h'",
            },
        ),
        (
            "telegram_bots",
            {
                "bot_id": "1",
                "username": "'a_bot'",
                "owner": "'one'",
                "token": "1",
                "lease_until": NOW,
            },
        ),
    ],
    "0007": [
        (
            "strategy_runs",
            {
                "run_id": RUN,
                "user_id": USER,
                "strategy_id": USER,
                "state": "'running'",
                "started_at": NOW,
                "updated_at": NOW,
            },
        ),
        (
            "live_accounts",
            {
                "run_id": RUN,
                "account_json": "'{}'",
                "equity": "1",
                "bar_ts": NOW,
                "tried_at": NOW,
            },
        ),
        (
            "live_bars",
            {
                "run_id": RUN,
                "bar_ts": NOW,
                "close": "1",
                "vote": "0",
                "equity": "1",
                "digest": "-1",
            },
        ),
    ],
}
"""What is written when a database is at a revision; the first has what services had before users.
A new revision has rows here, too, as soon as another one follows."""


def upgraded(dsn: str, revision: str) -> None:
    """Brings a database to a revision and no further."""

    def upgrade(connection: Connection) -> None:
        config = Config()
        config.set_main_option("script_location", str(DIRECTORY))
        config.attributes["connection"] = connection
        command.upgrade(config, revision)

    async def run() -> None:
        found = engine(dsn, connections=1)
        try:
            async with found.connect() as connection:
                await connection.run_sync(upgrade)
                await connection.commit()
        finally:
            await found.dispose()

    asyncio.run(run())


def stored(dsn: str, tables: set[str]) -> dict[str, list[tuple[object, ...]]]:
    """All rows of these tables."""
    return {table: rows(dsn, f"SELECT t::text FROM {table} t ORDER BY 1") for table in tables}


def test_rows_of_the_first_version_are_there_at_the_last(empty_database: str) -> None:
    first, *later = CHAIN
    upgraded(empty_database, first.partition("_")[0])
    for table, row in ROWS["0001"]:
        inserted(empty_database, table, row)
    tables = {table for table, _ in ROWS["0001"]}
    before = stored(empty_database, tables)
    assert len(before["backtest_jobs"]) == 3
    assert migrate(empty_database) == later
    assert stored(empty_database, tables) == before
    # Users come to a database that has their jobs, and own them.
    for table, row in ROWS["0002"] + ROWS["0004"]:
        inserted(empty_database, table, row)
    query = "SELECT count(*) FROM backtest_jobs JOIN identity_users USING (user_id)"
    assert rows(empty_database, query) == [(3,)]


def test_every_revision_keeps_the_rows_of_those_before(empty_database: str) -> None:
    revisions = [name.partition("_")[0] for name in CHAIN]
    assert revisions == [*ROWS]
    before: dict[str, list[tuple[object, ...]]] = {}
    for revision in revisions:
        upgraded(empty_database, revision)
        assert stored(empty_database, {*before}) == before
        for table, row in ROWS[revision]:
            inserted(empty_database, table, row)
        before |= stored(empty_database, {table for table, _ in ROWS[revision]})
    assert migrate(empty_database) == []
    assert stored(empty_database, {*before}) == before
