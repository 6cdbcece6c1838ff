"""The tables of strategies as SQLAlchemy sees them; the migrations own keys, checks and indexes."""

from __future__ import annotations

from typing import Final

from sqlalchemy import Boolean, Column, DateTime, MetaData, Table, Text, Uuid
from sqlalchemy.dialects.postgresql import JSONB

METADATA: Final = MetaData()
_TIME: Final = DateTime(timezone=True)

STRATEGIES: Final = Table(
    "strategy_strategies",
    METADATA,
    Column("strategy_id", Uuid, primary_key=True),
    Column("user_id", Uuid),
    Column("name", Text),
    Column("instrument_id", JSONB),
    Column("instrument_key", Text),
    Column("market_type", Text),
    Column("symbol", Text),
    Column("timeframe", Text),
    Column("indicators_json", JSONB),
    Column("spec_json", JSONB),
    Column("spec_hash", Text),
    Column("idempotency_key", Text),
    Column("request_hash", Text),
    Column("created_at", _TIME),
    Column("is_deleted", Boolean),
)

RUNS: Final = Table(
    "strategy_runs",
    METADATA,
    Column("run_id", Uuid, primary_key=True),
    Column("user_id", Uuid),
    Column("strategy_id", Uuid),
    Column("state", Text),
    Column("started_at", _TIME),
    Column("updated_at", _TIME),
    Column("stopped_at", _TIME),
    Column("checkpoint_ts_open", _TIME),
    Column("last_error", Text),
    Column("metadata_json", JSONB),
    Column("idempotency_key", Text),
)

EVENTS: Final = Table(
    "strategy_events",
    METADATA,
    Column("event_id", Uuid, primary_key=True),
    Column("user_id", Uuid),
    Column("strategy_id", Uuid),
    Column("run_id", Uuid),
    Column("ts", _TIME),
    Column("event_type", Text),
    Column("payload_json", JSONB),
)
