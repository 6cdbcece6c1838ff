"""What the tables of jobs refuse, by the name of the check that refuses it."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator, Mapping

import asyncpg
import pytest

from tests.postgres import TEMPLATE, execute, of_database, rows

HASH = "'" + "0a" * 32 + "'"
NOW = "clock_timestamp()"
LEASE = {
    "locked_by": "'host-1'",
    "locked_at": NOW,
    "heartbeat_at": NOW,
    "lease_expires_at": "clock_timestamp() + interval '1 minute'",
}
QUEUED = {
    "job_id": "gen_random_uuid()",
    "user_id": "gen_random_uuid()",
    "mode": "'template'",
    "state": "'queued'",
    "stage": "'stage_a'",
    "created_at": NOW,
    "updated_at": NOW,
    "request_json": "'{}'",
    "request_hash": HASH,
    "engine_params_hash": HASH,
    "backtest_runtime_config_hash": HASH,
    "effective_json": "'{}'",
    "candles_fingerprint": HASH,
    "plan_key": HASH,
    "plan_json": "'{}'",
    "limits_json": "'{}'",
    "results_dir": "'/results'",
    "keep_columns": "true",
    "max_attempts": "5",
}
RUNNING = QUEUED | LEASE | {"state": "'running'", "started_at": NOW}
SUCCEEDED = QUEUED | {"state": "'succeeded'", "started_at": NOW, "finished_at": NOW}
FAILED = SUCCEEDED | {"state": "'failed'", "last_error": "'no'", "last_error_json": "'{}'"}
SAVED = QUEUED | {"mode": "'saved'", "spec_hash": HASH, "spec_payload_json": "'{}'"}
UNLEASED = {"locked_by": "null", "locked_at": "null", "lease_expires_at": "null"}


def inserted(dsn: str, table: str, row: Mapping[str, str]) -> None:
    """Writes a row of SQL expressions."""

    async def run() -> None:
        connection = await asyncpg.connect(dsn)
        try:
            columns, values = ", ".join(row), ", ".join(row.values())
            await connection.execute(f"INSERT INTO {table} ({columns}) VALUES ({values})")
        finally:
            await connection.close()

    asyncio.run(run())


def constraint(error: asyncpg.PostgresError) -> str:
    """The name of the constraint that an error is about."""
    return str(error.as_dict()["constraint_name"])


@pytest.fixture(scope="module")
def dsn(postgres: str) -> Iterator[str]:
    """One database for the module: what is refused leaves no trace."""
    execute(postgres, f"CREATE DATABASE test_tables TEMPLATE {TEMPLATE}")
    yield of_database(postgres, "test_tables")
    execute(postgres, "DROP DATABASE test_tables WITH (FORCE)")


@pytest.mark.parametrize("row", [QUEUED, RUNNING, SUCCEEDED, FAILED, SAVED])
def test_a_job_in_each_state_is_accepted(dsn: str, row: dict[str, str]) -> None:
    inserted(dsn, "backtest_jobs", row)
    cancelled = {"state": "'cancelled'", "cancel_requested_at": NOW, "finished_at": NOW}
    inserted(dsn, "backtest_jobs", QUEUED | cancelled)


@pytest.mark.parametrize(
    ("check", "row", "changes"),
    [
        ("mode", QUEUED, {"mode": "'other'"}),
        ("state", QUEUED, {"state": "'paused'", "finished_at": NOW}),
        ("stage", QUEUED, {"stage": "'stage_c'"}),
        ("attempt", QUEUED, {"attempt": "-1"}),
        ("max_attempts", QUEUED, {"max_attempts": "0"}),
        ("progress", QUEUED, {"processed_units": "-1"}),
        ("progress", QUEUED, {"total_units": "-1"}),
        ("progress", QUEUED, {"processed_units": "3", "total_units": "2"}),
        ("eta", QUEUED, {"eta_seconds": "-0.5"}),
        ("request_json", QUEUED, {"request_json": "'[]'"}),
        ("spec_payload_json", SAVED, {"spec_payload_json": "'[]'"}),
        ("last_error_json", FAILED, {"last_error_json": "'null'"}),
        ("snapshot_json", QUEUED, {"effective_json": "'[]'"}),
        ("snapshot_json", QUEUED, {"plan_json": "'1'"}),
        ("snapshot_json", QUEUED, {"limits_json": "'null'"}),
        ("mode_spec", SAVED, {"spec_hash": "null"}),
        ("mode_spec", SAVED, {"spec_payload_json": "null"}),
        ("mode_spec", SAVED, {"mode": "'template'"}),
        ("hashes", QUEUED, {"request_hash": "upper(repeat('0a', 32))"}),
        ("hashes", QUEUED, {"engine_params_hash": "repeat('0', 63)"}),
        ("hashes", QUEUED, {"backtest_runtime_config_hash": "''"}),
        ("hashes", QUEUED, {"candles_fingerprint": "repeat('g', 64)"}),
        ("hashes", QUEUED, {"plan_key": "repeat('0', 65)"}),
        ("hashes", QUEUED, {"grid_request_hash": "''"}),
        ("hashes", SAVED, {"spec_hash": "'0'"}),
        ("hashes", SUCCEEDED, {"result_digest": "'0'"}),
        ("state_times", QUEUED, {"started_at": NOW}),
        ("state_times", RUNNING, {"started_at": "null"}),
        ("state_times", RUNNING, {"finished_at": NOW}),
        ("state_times", SUCCEEDED, {"finished_at": "null"}),
        ("times", QUEUED, {"updated_at": "clock_timestamp() - interval '1 hour'"}),
        ("lease", RUNNING, {"heartbeat_at": "null"}),
        ("lease", QUEUED, {"locked_by": "'host-1'"}),
        ("lease", SUCCEEDED, LEASE),
        ("lease_times", RUNNING, {"lease_expires_at": "now() - interval '1 hour'"}),
        ("error", FAILED, {"last_error": "null"}),
        ("error", SUCCEEDED, {"last_error": "'no'"}),
    ],
)
def test_a_job_that_cannot_be(
    dsn: str, check: str, row: dict[str, str], changes: dict[str, str]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        inserted(dsn, "backtest_jobs", row | changes)
    assert constraint(caught.value) == f"backtest_jobs_{check}_chk"


def test_an_idempotency_key_is_one_users(dsn: str) -> None:
    keyed = QUEUED | {"idempotency_key": "'k'", "user_id": "'" + "0" * 32 + "'"}
    inserted(dsn, "backtest_jobs", keyed)
    inserted(dsn, "backtest_jobs", keyed | {"user_id": "gen_random_uuid()"})
    with pytest.raises(asyncpg.UniqueViolationError) as caught:
        inserted(dsn, "backtest_jobs", keyed)
    assert constraint(caught.value) == "idx_backtest_jobs_idempotency"


JOB = "'" + "1" * 32 + "'"
TOP = {
    "job_id": JOB,
    "rank": "1",
    "variant_key": HASH,
    "indicator_variant_key": HASH,
    "variant_index": "9000000000",
    "total_return_pct": "1.5",
    "payload_json": "'{}'",
    "updated_at": NOW,
}
SHORTLIST = {
    "job_id": JOB,
    "stage_a_indexes_json": "'[0, 8]'",
    "stage_a_variants_total": "9000000000",
    "risk_total": "6",
    "preselect_used": "2",
    "updated_at": NOW,
}
SPAN = {
    "plan_key": HASH,
    "fold": "0",
    "start_at": "0",
    "stop_at": "9000000000",
    "digest": HASH,
    "size_bytes": "0",
}
EVENT = {"job_id": JOB, "kind": "'best'", "data": "'{}'"}


@pytest.mark.parametrize(
    ("table", "check", "row", "changes"),
    [
        ("backtest_job_top_variants", "rank", TOP, {"rank": "0"}),
        ("backtest_job_top_variants", "variant_index", TOP, {"variant_index": "-1"}),
        ("backtest_job_top_variants", "payload_json", TOP, {"payload_json": "'[]'"}),
        ("backtest_job_top_variants", "trades_json", TOP, {"trades_json": "'null'"}),
        ("backtest_job_stage_a_shortlist", "indexes_json", SHORTLIST,
         {"stage_a_indexes_json": "'[]'"}),
        ("backtest_job_stage_a_shortlist", "indexes_json", SHORTLIST,
         {"stage_a_indexes_json": "'{}'"}),
        ("backtest_job_stage_a_shortlist", "totals", SHORTLIST, {"risk_total": "0"}),
        ("backtest_spans", "hashes", SPAN, {"digest": "'0'"}),
        ("backtest_spans", "fold", SPAN, {"fold": "-1"}),
        ("backtest_spans", "span", SPAN, {"stop_at": "0"}),
        ("backtest_spans", "size", SPAN, {"size_bytes": "-1"}),
        ("backtest_job_events", "kind", EVENT, {"kind": "'other'"}),
        ("backtest_job_events", "data", EVENT, {"data": "'[]'"}),
    ],
)  # fmt: skip
def test_a_row_that_cannot_be(
    dsn: str, table: str, check: str, row: dict[str, str], changes: dict[str, str]
) -> None:
    with pytest.raises(asyncpg.CheckViolationError) as caught:
        inserted(dsn, table, row | changes)
    assert constraint(caught.value) == f"{table}_{check}_chk"


def test_what_belongs_to_a_job_goes_with_it_and_spans_stay(database: str) -> None:
    inserted(database, "backtest_jobs", QUEUED | {"job_id": JOB})
    belongings = {
        "backtest_job_top_variants": TOP,
        "backtest_job_stage_a_shortlist": SHORTLIST,
        "backtest_job_events": EVENT,
    }
    for table, row in belongings.items():
        inserted(database, table, row)
    inserted(database, "backtest_spans", SPAN)
    assert rows(database, "DELETE FROM backtest_jobs RETURNING 1") == [(1,)]
    for table in belongings:
        assert rows(database, f"SELECT count(*) FROM {table}") == [(0,)]
    assert rows(database, "SELECT count(*) FROM backtest_spans") == [(1,)]


def test_the_indexes_are_those_of_the_contract(dsn: str) -> None:
    query = "SELECT indexdef FROM pg_indexes WHERE tablename LIKE 'backtest_job%'"
    found = {str(text).partition(" USING btree ")[2] for (text,) in rows(dsn, query)}
    assert found >= {
        "(user_id, state, created_at DESC, job_id DESC)",
        "(state, created_at, job_id)",
        "(state, lease_expires_at, created_at, job_id)",
        "(user_id) WHERE (state = ANY (ARRAY['queued'::text, 'running'::text]))",
        "(job_id, rank)",
        "(job_id, variant_key)",
    }
