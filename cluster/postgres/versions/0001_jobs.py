"""Jobs: their rows, results and shortlists, the spans they share, and what happened to them."""

from __future__ import annotations

from alembic import op

revision = "0001"
down_revision = None

STATEMENTS = (
    """
    CREATE TABLE backtest_jobs (
        job_id uuid PRIMARY KEY,
        user_id uuid NOT NULL,
        mode text NOT NULL,
        state text NOT NULL,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        started_at timestamptz,
        finished_at timestamptz,
        cancel_requested_at timestamptz,

        request_json jsonb NOT NULL,
        request_hash text NOT NULL,
        grid_request_hash text,
        spec_hash text,
        spec_payload_json jsonb,
        engine_params_hash text NOT NULL,
        backtest_runtime_config_hash text NOT NULL,
        effective_json jsonb NOT NULL,
        candles_fingerprint text NOT NULL,
        plan_key text NOT NULL,
        plan_json jsonb NOT NULL,
        limits_json jsonb NOT NULL,
        results_dir text NOT NULL,
        keep_columns boolean NOT NULL,
        idempotency_key text,

        stage text NOT NULL,
        processed_units bigint NOT NULL DEFAULT 0,
        total_units bigint NOT NULL DEFAULT 0,
        progress_updated_at timestamptz,
        eta_seconds double precision,

        locked_by text,
        locked_at timestamptz,
        lease_expires_at timestamptz,
        heartbeat_at timestamptz,
        attempt integer NOT NULL DEFAULT 0,
        max_attempts integer NOT NULL,

        last_error text,
        last_error_json jsonb,
        result_digest text,

        CONSTRAINT backtest_jobs_mode_chk CHECK (mode IN ('saved', 'template')),
        CONSTRAINT backtest_jobs_state_chk
            CHECK (state IN ('queued', 'running', 'succeeded', 'failed', 'cancelled')),
        CONSTRAINT backtest_jobs_stage_chk CHECK (stage IN ('stage_a', 'stage_b', 'finalizing')),
        CONSTRAINT backtest_jobs_attempt_chk CHECK (attempt >= 0),
        CONSTRAINT backtest_jobs_max_attempts_chk CHECK (max_attempts > 0),
        CONSTRAINT backtest_jobs_progress_chk CHECK (
            processed_units >= 0 AND total_units >= 0
            AND (total_units = 0 OR processed_units <= total_units)
        ),
        CONSTRAINT backtest_jobs_eta_chk CHECK (eta_seconds IS NULL OR eta_seconds >= 0),
        CONSTRAINT backtest_jobs_request_json_chk CHECK (jsonb_typeof(request_json) = 'object'),
        CONSTRAINT backtest_jobs_spec_payload_json_chk CHECK (
            spec_payload_json IS NULL OR jsonb_typeof(spec_payload_json) = 'object'
        ),
        CONSTRAINT backtest_jobs_last_error_json_chk CHECK (
            last_error_json IS NULL OR jsonb_typeof(last_error_json) = 'object'
        ),
        CONSTRAINT backtest_jobs_snapshot_json_chk CHECK (
            jsonb_typeof(effective_json) = 'object'
            AND jsonb_typeof(plan_json) = 'object'
            AND jsonb_typeof(limits_json) = 'object'
        ),
        CONSTRAINT backtest_jobs_mode_spec_chk CHECK (
            (mode = 'saved' AND spec_hash IS NOT NULL AND spec_payload_json IS NOT NULL)
            OR (mode = 'template' AND spec_hash IS NULL AND spec_payload_json IS NULL)
        ),
        CONSTRAINT backtest_jobs_hashes_chk CHECK (
            request_hash ~ '^[0-9a-f]{64}$'
            AND engine_params_hash ~ '^[0-9a-f]{64}$'
            AND backtest_runtime_config_hash ~ '^[0-9a-f]{64}$'
            AND (grid_request_hash IS NULL OR grid_request_hash ~ '^[0-9a-f]{64}$')
            AND (grid_request_hash IS NULL OR grid_request_hash ~ '^[0-9a-f]{64}$')
            AND (spec_hash IS NULL OR spec_hash ~ '^[0-9a-f]{64}$')
            AND candles_fingerprint ~ '^[0-9a-f]{64}$'
            AND plan_key ~ '^[0-9a-f]{64}$'
            AND (result_digest IS NULL OR result_digest ~ '^[0-9a-f]{64}$')
        ),
        CONSTRAINT backtest_jobs_state_times_chk CHECK (
            CASE state
                WHEN 'queued' THEN started_at IS NULL AND finished_at IS NULL
                WHEN 'running' THEN started_at IS NOT NULL AND finished_at IS NULL
                ELSE finished_at IS NOT NULL
            END
        ),
        CONSTRAINT backtest_jobs_times_chk CHECK (updated_at >= created_at),
        CONSTRAINT backtest_jobs_lease_chk CHECK (
            CASE state
                WHEN 'running' THEN
                    locked_by IS NOT NULL AND locked_at IS NOT NULL
                    AND lease_expires_at IS NOT NULL AND heartbeat_at IS NOT NULL
                ELSE
                    locked_by IS NULL AND locked_at IS NULL
                    AND lease_expires_at IS NULL AND heartbeat_at IS NULL
            END
        ),
        CONSTRAINT backtest_jobs_lease_times_chk
            CHECK (lease_expires_at IS NULL OR lease_expires_at > locked_at),
        CONSTRAINT backtest_jobs_error_chk CHECK (
            CASE state
                WHEN 'failed' THEN last_error IS NOT NULL AND last_error_json IS NOT NULL
                ELSE last_error IS NULL AND last_error_json IS NULL
            END
        )
    )
    """,
    """
    CREATE INDEX idx_backtest_jobs_user_state_created_desc
        ON backtest_jobs (user_id, state, created_at DESC, job_id DESC)
    """,
    """
    CREATE INDEX idx_backtest_jobs_user_created_desc
        ON backtest_jobs (user_id, created_at DESC, job_id DESC)
    """,
    "CREATE INDEX idx_backtest_jobs_claim_fifo ON backtest_jobs (state, created_at, job_id)",
    """
    CREATE INDEX idx_backtest_jobs_reclaim
        ON backtest_jobs (state, lease_expires_at, created_at, job_id)
    """,
    """
    CREATE INDEX idx_backtest_jobs_user_active
        ON backtest_jobs (user_id) WHERE state IN ('queued', 'running')
    """,
    """
    CREATE INDEX idx_backtest_jobs_user_started
        ON backtest_jobs (user_id, started_at) WHERE started_at IS NOT NULL
    """,
    """
    CREATE UNIQUE INDEX idx_backtest_jobs_idempotency
        ON backtest_jobs (user_id, idempotency_key) WHERE idempotency_key IS NOT NULL
    """,
    "CREATE INDEX idx_backtest_jobs_plan ON backtest_jobs (plan_key)",
    """
    CREATE TABLE backtest_job_top_variants (
        job_id uuid NOT NULL REFERENCES backtest_jobs (job_id) ON DELETE CASCADE,
        rank integer NOT NULL,
        variant_key text NOT NULL,
        indicator_variant_key text NOT NULL,
        variant_index bigint NOT NULL,
        total_return_pct double precision NOT NULL,
        payload_json jsonb NOT NULL,
        report_table_md text,
        trades_json jsonb,
        updated_at timestamptz NOT NULL,

        PRIMARY KEY (job_id, rank),
        CONSTRAINT backtest_job_top_variants_job_variant_key UNIQUE (job_id, variant_key),
        CONSTRAINT backtest_job_top_variants_rank_chk CHECK (rank > 0),
        CONSTRAINT backtest_job_top_variants_variant_index_chk CHECK (variant_index >= 0),
        CONSTRAINT backtest_job_top_variants_payload_json_chk
            CHECK (jsonb_typeof(payload_json) = 'object'),
        CONSTRAINT backtest_job_top_variants_trades_json_chk
            CHECK (trades_json IS NULL OR jsonb_typeof(trades_json) = 'array')
    )
    """,
    """
    CREATE INDEX idx_backtest_job_top_variants_job_rank
        ON backtest_job_top_variants (job_id, rank)
    """,
    """
    CREATE TABLE backtest_job_stage_a_shortlist (
        job_id uuid PRIMARY KEY REFERENCES backtest_jobs (job_id) ON DELETE CASCADE,
        stage_a_indexes_json jsonb NOT NULL,
        stage_a_variants_total bigint NOT NULL,
        risk_total bigint NOT NULL,
        preselect_used bigint NOT NULL,
        updated_at timestamptz NOT NULL,

        CONSTRAINT backtest_job_stage_a_shortlist_indexes_json_chk CHECK (
            CASE WHEN jsonb_typeof(stage_a_indexes_json) = 'array'
                THEN jsonb_array_length(stage_a_indexes_json) > 0
                ELSE false
            END
        ),
        CONSTRAINT backtest_job_stage_a_shortlist_totals_chk
            CHECK (stage_a_variants_total > 0 AND risk_total > 0 AND preselect_used > 0)
    )
    """,
    """
    CREATE TABLE backtest_spans (
        plan_key text NOT NULL,
        fold integer NOT NULL,
        start_at bigint NOT NULL,
        stop_at bigint NOT NULL,
        digest text NOT NULL,
        size_bytes bigint NOT NULL,
        committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),

        PRIMARY KEY (plan_key, fold, start_at),
        CONSTRAINT backtest_spans_hashes_chk
            CHECK (plan_key ~ '^[0-9a-f]{64}$' AND digest ~ '^[0-9a-f]{64}$'),
        CONSTRAINT backtest_spans_fold_chk CHECK (fold >= 0),
        CONSTRAINT backtest_spans_span_chk CHECK (0 <= start_at AND start_at < stop_at),
        CONSTRAINT backtest_spans_size_chk CHECK (size_bytes >= 0)
    )
    """,
    """
    CREATE TABLE backtest_job_events (
        job_id uuid NOT NULL REFERENCES backtest_jobs (job_id) ON DELETE CASCADE,
        event_id bigint GENERATED ALWAYS AS IDENTITY,
        kind text NOT NULL,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        data jsonb NOT NULL,

        PRIMARY KEY (job_id, event_id),
        CONSTRAINT backtest_job_events_kind_chk CHECK (kind IN ('state', 'progress', 'best')),
        CONSTRAINT backtest_job_events_data_chk CHECK (jsonb_typeof(data) = 'object')
    )
    """,
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
