"""The tables of jobs as SQLAlchemy sees them; the migrations own keys, checks and indexes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import (
    BigInteger,
    Boolean,
    Column,
    DateTime,
    Double,
    Identity,
    Integer,
    MetaData,
    Table,
    Text,
    Uuid,
)
from sqlalchemy.dialects.postgresql import JSONB

METADATA: Final = MetaData()
_TIME: Final = DateTime(timezone=True)
_JSON: Final = JSONB(none_as_null=True)  # None is SQL NULL; JSON null would fail the checks

JOBS: Final = Table(
    "backtest_jobs",
    METADATA,
    Column("job_id", Uuid, primary_key=True),
    Column("user_id", Uuid),
    Column("mode", Text),
    Column("state", Text),
    Column("stage", Text),
    Column("created_at", _TIME),
    Column("updated_at", _TIME),
    Column("started_at", _TIME),
    Column("finished_at", _TIME),
    Column("cancel_requested_at", _TIME),
    Column("processed_units", BigInteger),
    Column("total_units", BigInteger),
    Column("progress_updated_at", _TIME),
    Column("eta_seconds", Double),
    Column("request_json", _JSON),
    Column("request_hash", Text),
    Column("grid_request_hash", Text),
    Column("engine_params_hash", Text),
    Column("backtest_runtime_config_hash", Text),
    Column("spec_hash", Text),
    Column("spec_payload_json", _JSON),
    Column("effective_json", _JSON),
    Column("candles_fingerprint", Text),
    Column("plan_key", Text),
    Column("plan_json", _JSON),
    Column("limits_json", _JSON),
    Column("results_dir", Text),
    Column("keep_columns", Boolean),
    Column("result_digest", Text),
    Column("idempotency_key", Text),
    Column("attempt", Integer),
    Column("max_attempts", Integer),
    Column("locked_by", Text),
    Column("locked_at", _TIME),
    Column("lease_expires_at", _TIME),
    Column("heartbeat_at", _TIME),
    Column("last_error", Text),
    Column("last_error_json", _JSON),
)

TOP_VARIANTS: Final = Table(
    "backtest_job_top_variants",
    METADATA,
    Column("job_id", Uuid, primary_key=True),
    Column("rank", Integer, primary_key=True),
    Column("variant_key", Text),
    Column("indicator_variant_key", Text),
    Column("variant_index", BigInteger),
    Column("total_return_pct", Double),
    Column("payload_json", _JSON),
    Column("report_table_md", Text),
    Column("trades_json", _JSON),
    Column("updated_at", _TIME),
)

SHORTLIST: Final = Table(
    "backtest_job_stage_a_shortlist",
    METADATA,
    Column("job_id", Uuid, primary_key=True),
    Column("stage_a_indexes_json", _JSON),
    Column("stage_a_variants_total", BigInteger),
    Column("risk_total", BigInteger),
    Column("preselect_used", BigInteger),
    Column("updated_at", _TIME),
)

SPANS: Final = Table(
    "backtest_spans",
    METADATA,
    Column("plan_key", Text, primary_key=True),
    Column("fold", Integer, primary_key=True),
    Column("start_at", BigInteger, primary_key=True),
    Column("stop_at", BigInteger),
    Column("digest", Text),
    Column("size_bytes", BigInteger),
    Column("committed_at", _TIME),
)

EVENTS: Final = Table(
    "backtest_job_events",
    METADATA,
    Column("job_id", Uuid, primary_key=True),
    Column("event_id", BigInteger, Identity(always=True), primary_key=True),
    Column("kind", Text),
    Column("at", _TIME),
    Column("data", _JSON),
)
