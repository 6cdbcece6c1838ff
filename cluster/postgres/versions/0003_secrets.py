"""Second factors, recovery codes, step-ups of sessions, exchange keys, and the pepper of hashes."""

from __future__ import annotations

from alembic import op

revision = "0003"
down_revision = "0002"

STATEMENTS = (
    """
    CREATE TABLE identity_2fa (
        user_id uuid PRIMARY KEY REFERENCES identity_users (user_id) ON DELETE CASCADE,
        totp_secret_enc bytea NOT NULL,
        enabled boolean NOT NULL DEFAULT FALSE,
        enabled_at timestamptz,
        last_used_step bigint,
        updated_at timestamptz NOT NULL,

        CONSTRAINT identity_2fa_enabled_state_chk CHECK (enabled = (enabled_at IS NOT NULL)),
        CONSTRAINT identity_2fa_last_used_step_chk
            CHECK (NOT enabled OR last_used_step IS NOT NULL)
    )
    """,
    "CREATE INDEX idx_identity_2fa_enabled ON identity_2fa (enabled)",
    """
    CREATE TABLE identity_recovery_codes (
        user_id uuid NOT NULL REFERENCES identity_2fa (user_id) ON DELETE CASCADE,
        code_hash bytea NOT NULL,
        created_at timestamptz NOT NULL,

        PRIMARY KEY (user_id, code_hash),
        CONSTRAINT identity_recovery_codes_hash_len_chk CHECK (octet_length(code_hash) = 32)
    )
    """,
    """
    CREATE TABLE identity_step_ups (
        session_id uuid PRIMARY KEY REFERENCES identity_sessions (session_id) ON DELETE CASCADE,
        user_id uuid NOT NULL REFERENCES identity_2fa (user_id) ON DELETE CASCADE,
        at timestamptz NOT NULL
    )
    """,
    "CREATE INDEX idx_identity_step_ups_user ON identity_step_ups (user_id)",
    """
    CREATE TABLE identity_exchange_keys (
        key_id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES identity_users (user_id) ON DELETE CASCADE,
        exchange_name text NOT NULL,
        market_type text NOT NULL,
        label text,
        permissions text NOT NULL,
        api_key_enc bytea,
        api_key_hash bytea NOT NULL,
        api_key_last4 text NOT NULL,
        api_secret_enc bytea,
        passphrase_enc bytea,
        created_at timestamptz NOT NULL,
        updated_at timestamptz NOT NULL,
        is_deleted boolean NOT NULL DEFAULT FALSE,
        deleted_at timestamptz,

        CONSTRAINT identity_exchange_keys_exchange_name_chk
            CHECK (exchange_name IN ('binance', 'bybit')),
        CONSTRAINT identity_exchange_keys_market_type_chk
            CHECK (market_type IN ('spot', 'futures')),
        CONSTRAINT identity_exchange_keys_permissions_chk
            CHECK (permissions IN ('read', 'trade')),
        CONSTRAINT identity_exchange_keys_api_key_hash_len_chk
            CHECK (octet_length(api_key_hash) = 32),
        CONSTRAINT identity_exchange_keys_api_key_last4_len_chk
            CHECK (length(api_key_last4) IN (0, 4)),
        CONSTRAINT identity_exchange_keys_deleted_state_chk
            CHECK (is_deleted = (deleted_at IS NOT NULL)),
        CONSTRAINT identity_exchange_keys_wiped_chk CHECK (
            CASE WHEN is_deleted
                THEN api_key_enc IS NULL AND api_secret_enc IS NULL AND passphrase_enc IS NULL
                ELSE api_key_enc IS NOT NULL AND api_secret_enc IS NOT NULL
            END
        ),
        CONSTRAINT identity_exchange_keys_times_chk CHECK (
            updated_at >= created_at
            AND (deleted_at IS NULL OR updated_at >= deleted_at AND deleted_at >= created_at)
        )
    )
    """,
    """
    CREATE INDEX idx_identity_exchange_keys_user_deleted_created
        ON identity_exchange_keys (user_id, is_deleted, created_at, key_id)
    """,
    """
    CREATE INDEX idx_identity_exchange_keys_active_by_user
        ON identity_exchange_keys (user_id, created_at, key_id) WHERE is_deleted = FALSE
    """,
    """
    CREATE UNIQUE INDEX idx_identity_exchange_keys_active_unique_key
        ON identity_exchange_keys (user_id, exchange_name, market_type, api_key_hash)
        WHERE is_deleted = FALSE
    """,
    """
    CREATE TABLE identity_peppers (
        name text PRIMARY KEY,
        pepper_enc bytea NOT NULL
    )
    """,
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
