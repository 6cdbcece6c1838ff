"""Strategies, which never change; their runs; and the log of both, which only grows."""

from __future__ import annotations

from alembic import op

revision = "0004"
down_revision = "0003"

STATEMENTS = (
    """
    CREATE TABLE strategy_strategies (
        strategy_id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        name text NOT NULL,
        instrument_id jsonb NOT NULL,
        instrument_key text NOT NULL,
        market_type text NOT NULL,
        symbol text NOT NULL,
        timeframe text NOT NULL,
        indicators_json jsonb NOT NULL,
        spec_json jsonb NOT NULL,
        spec_hash text NOT NULL,
        idempotency_key text,
        request_hash text,
        created_at timestamptz NOT NULL,
        is_deleted boolean NOT NULL DEFAULT FALSE,

        CONSTRAINT strategy_strategies_name_chk CHECK (btrim(name) <> ''),
        CONSTRAINT strategy_strategies_instrument_id_shape_chk CHECK (
            jsonb_typeof(instrument_id) = 'object'
            AND instrument_id ? 'market_id' AND instrument_id ? 'symbol'
        ),
        CONSTRAINT strategy_strategies_market_type_chk CHECK (market_type IN ('spot', 'futures')),
        CONSTRAINT strategy_strategies_timeframe_chk
            CHECK (timeframe IN ('1m', '5m', '15m', '1h', '4h', '1d')),
        CONSTRAINT strategy_strategies_indicators_json_chk
            CHECK (jsonb_typeof(indicators_json) = 'array'),
        CONSTRAINT strategy_strategies_spec_schema_version_chk
            CHECK ((spec_json ->> 'schema_version' IN ('1', '2')) IS TRUE),
        CONSTRAINT strategy_strategies_spec_kind_chk CHECK (
            (spec_json ->> 'spec_kind' = 'roehub.strategy.v' || (spec_json ->> 'schema_version'))
            IS TRUE
        ),
        CONSTRAINT strategy_strategies_hashes_chk CHECK (
            spec_hash ~ '^[0-9a-f]{64}$'
            AND (request_hash IS NULL OR request_hash ~ '^[0-9a-f]{64}$')
        ),
        CONSTRAINT strategy_strategies_idempotency_chk
            CHECK ((idempotency_key IS NULL) = (request_hash IS NULL))
    )
    """,
    """
    CREATE INDEX idx_strategy_strategies_user_created
        ON strategy_strategies (user_id, created_at, strategy_id)
    """,
    """
    CREATE INDEX idx_strategy_strategies_tags
        ON strategy_strategies (user_id, symbol, market_type, timeframe)
    """,
    """
    CREATE UNIQUE INDEX idx_strategy_strategies_idempotency
        ON strategy_strategies (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL
    """,
    """
    CREATE TABLE strategy_runs (
        run_id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        strategy_id uuid NOT NULL REFERENCES strategy_strategies (strategy_id),
        state text NOT NULL,
        started_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        stopped_at timestamptz,
        checkpoint_ts_open timestamptz,
        last_error text,
        metadata_json jsonb NOT NULL DEFAULT '{}',
        idempotency_key text,

        CONSTRAINT strategy_runs_state_chk CHECK (
            state IN ('starting', 'warming_up', 'running', 'stopping', 'stopped', 'failed')
        ),
        CONSTRAINT strategy_runs_times_chk CHECK (updated_at >= started_at),
        CONSTRAINT strategy_runs_stopped_at_chk
            CHECK ((stopped_at IS NOT NULL) = (state IN ('stopped', 'failed'))),
        CONSTRAINT strategy_runs_last_error_chk CHECK (
            (last_error IS NULL OR btrim(last_error) <> '')
            AND (state <> 'failed' OR last_error IS NOT NULL)
        ),
        CONSTRAINT strategy_runs_metadata_json_chk CHECK (jsonb_typeof(metadata_json) = 'object')
    )
    """,
    """
    CREATE INDEX idx_strategy_runs_strategy_started
        ON strategy_runs (strategy_id, started_at, run_id)
    """,
    """
    CREATE UNIQUE INDEX strategy_runs_one_active
        ON strategy_runs (strategy_id)
        WHERE state IN ('starting', 'warming_up', 'running', 'stopping')
    """,
    """
    CREATE INDEX idx_strategy_runs_user_active
        ON strategy_runs (user_id) WHERE state IN ('starting', 'warming_up', 'running', 'stopping')
    """,
    """
    CREATE UNIQUE INDEX idx_strategy_runs_idempotency
        ON strategy_runs (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL
    """,
    """
    CREATE TABLE strategy_events (
        event_id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        strategy_id uuid NOT NULL REFERENCES strategy_strategies (strategy_id),
        run_id uuid REFERENCES strategy_runs (run_id),
        ts timestamptz NOT NULL,
        event_type text NOT NULL,
        payload_json jsonb NOT NULL,

        CONSTRAINT strategy_events_event_type_nonempty_chk CHECK (btrim(event_type) <> ''),
        CONSTRAINT strategy_events_payload_shape_chk CHECK (jsonb_typeof(payload_json) = 'object')
    )
    """,
    """
    CREATE INDEX idx_strategy_events_strategy_ts ON strategy_events (strategy_id, ts, event_id)
    """,
    """
    CREATE INDEX idx_strategy_events_run_ts
        ON strategy_events (run_id, ts, event_id) WHERE run_id IS NOT NULL
    """,
    "CREATE INDEX idx_strategy_events_user ON strategy_events (user_id)",
    # An account that is deleted takes its rows along: the transaction names the user.
    """
    CREATE FUNCTION strategy_rows_stay() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF TG_OP = 'DELETE' THEN
            IF OLD.user_id::text = current_setting('roehub.erase_user', true) THEN
                RETURN OLD;
            END IF;
        END IF;
        RAISE EXCEPTION 'rows of % are never changed or removed', TG_TABLE_NAME
            USING ERRCODE = 'restrict_violation';
    END
    $$
    """,
    """
    CREATE TRIGGER strategy_strategies_immutable
        BEFORE UPDATE ON strategy_strategies FOR EACH ROW
        WHEN ((to_jsonb(OLD) - 'is_deleted')::text
            IS DISTINCT FROM (to_jsonb(NEW) - 'is_deleted')::text)
        EXECUTE FUNCTION strategy_rows_stay()
    """,
    """
    CREATE TRIGGER strategy_strategies_kept
        BEFORE DELETE ON strategy_strategies FOR EACH ROW EXECUTE FUNCTION strategy_rows_stay()
    """,
    """
    CREATE TRIGGER strategy_events_immutable
        BEFORE UPDATE OR DELETE ON strategy_events FOR EACH ROW
        EXECUTE FUNCTION strategy_rows_stay()
    """,
    """
    CREATE TRIGGER strategy_events_kept
        BEFORE TRUNCATE ON strategy_events FOR EACH STATEMENT EXECUTE FUNCTION strategy_rows_stay()
    """,
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
