"""Users: who they are, how they are logged in, their access tokens, limits and the audit log."""

from __future__ import annotations

from alembic import op

revision = "0002"
down_revision = "0001"

STATEMENTS = (
    """
    CREATE TABLE identity_users (
        user_id uuid PRIMARY KEY,
        telegram_user_id bigint,
        paid_level text NOT NULL DEFAULT 'free',
        created_at timestamptz NOT NULL,
        last_login_at timestamptz,
        is_deleted boolean NOT NULL DEFAULT FALSE,

        CONSTRAINT identity_users_paid_level_chk
            CHECK (paid_level IN ('base', 'free', 'pro', 'ultra')),
        -- The local operator alone has no Telegram account.
        CONSTRAINT identity_users_telegram_user_id_chk CHECK (
            CASE WHEN telegram_user_id IS NULL
                THEN user_id = '00000000-0000-0000-0000-000000000001'
                ELSE telegram_user_id > 0
            END
        ),
        CONSTRAINT identity_users_times_chk
            CHECK (last_login_at IS NULL OR last_login_at >= created_at)
    )
    """,
    """
    CREATE UNIQUE INDEX idx_identity_users_telegram_user_id
        ON identity_users (telegram_user_id)
    """,
    "CREATE INDEX idx_identity_users_is_deleted ON identity_users (is_deleted)",
    """
    CREATE TABLE identity_telegram_channels (
        user_id uuid NOT NULL REFERENCES identity_users (user_id) ON DELETE CASCADE,
        chat_id bigint NOT NULL,
        is_confirmed boolean NOT NULL DEFAULT FALSE,
        confirmed_at timestamptz,

        PRIMARY KEY (user_id, chat_id),
        CONSTRAINT identity_telegram_channels_chat_id_chk CHECK (chat_id <> 0)
    )
    """,
    """
    CREATE UNIQUE INDEX idx_identity_telegram_channels_chat_id
        ON identity_telegram_channels (chat_id)
    """,
    """
    CREATE TABLE identity_sessions (
        session_id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES identity_users (user_id) ON DELETE CASCADE,
        created_at timestamptz NOT NULL,
        last_seen_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        revoked_at timestamptz,
        user_agent text NOT NULL,
        network text NOT NULL,

        CONSTRAINT identity_sessions_times_chk
            CHECK (created_at <= last_seen_at AND created_at < expires_at),
        CONSTRAINT identity_sessions_user_agent_chk CHECK (length(user_agent) <= 200)
    )
    """,
    """
    CREATE INDEX idx_identity_sessions_user
        ON identity_sessions (user_id, created_at, session_id)
    """,
    "CREATE INDEX idx_identity_sessions_expires ON identity_sessions (expires_at)",
    """
    CREATE TABLE identity_used_logins (
        login_hash bytea PRIMARY KEY,
        expires_at timestamptz NOT NULL,

        CONSTRAINT identity_used_logins_hash_len_chk CHECK (octet_length(login_hash) = 32)
    )
    """,
    "CREATE INDEX idx_identity_used_logins_expires ON identity_used_logins (expires_at)",
    """
    CREATE TABLE identity_access_tokens (
        token_id uuid PRIMARY KEY,
        user_id uuid NOT NULL REFERENCES identity_users (user_id) ON DELETE CASCADE,
        name text NOT NULL,
        token_hash bytea NOT NULL,
        scopes text[] NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,
        last_used_at timestamptz,
        revoked_at timestamptz,

        CONSTRAINT identity_access_tokens_hash_len_chk CHECK (octet_length(token_hash) = 32),
        CONSTRAINT identity_access_tokens_name_chk CHECK (length(name) BETWEEN 1 AND 100),
        CONSTRAINT identity_access_tokens_scopes_chk CHECK (
            cardinality(scopes) > 0 AND scopes <@ ARRAY['read', 'run', 'account']
        ),
        CONSTRAINT identity_access_tokens_times_chk CHECK (created_at < expires_at)
    )
    """,
    """
    CREATE UNIQUE INDEX idx_identity_access_tokens_hash
        ON identity_access_tokens (token_hash)
    """,
    """
    CREATE INDEX idx_identity_access_tokens_user
        ON identity_access_tokens (user_id, created_at, token_id)
    """,
    """
    CREATE TABLE identity_limits (
        rule text NOT NULL,
        subject text NOT NULL,
        attempts integer NOT NULL,
        blocked_until timestamptz,
        forget_at timestamptz NOT NULL,

        PRIMARY KEY (rule, subject),
        CONSTRAINT identity_limits_attempts_chk CHECK (attempts > 0)
    )
    """,
    "CREATE INDEX idx_identity_limits_forget ON identity_limits (forget_at)",
    # No foreign key: what happened stays when the user is erased, with the id alone.
    """
    CREATE TABLE identity_audit (
        event_id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
        at timestamptz NOT NULL DEFAULT clock_timestamp(),
        user_id uuid,
        event text NOT NULL,
        details jsonb NOT NULL,

        CONSTRAINT identity_audit_event_chk CHECK (event ~ '^[a-z0-9_]+([.][a-z0-9_]+)+$'),
        CONSTRAINT identity_audit_details_chk CHECK (jsonb_typeof(details) = 'object')
    )
    """,
    "CREATE INDEX idx_identity_audit_user ON identity_audit (user_id, event_id)",
    """
    CREATE FUNCTION identity_audit_is_append_only() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        RAISE EXCEPTION 'identity_audit is append-only' USING ERRCODE = '42501';
    END
    $$
    """,
    """
    CREATE TRIGGER identity_audit_rows_stay
        BEFORE UPDATE OR DELETE ON identity_audit
        FOR EACH ROW EXECUTE FUNCTION identity_audit_is_append_only()
    """,
    """
    CREATE TRIGGER identity_audit_stays
        BEFORE TRUNCATE ON identity_audit
        FOR EACH STATEMENT EXECUTE FUNCTION identity_audit_is_append_only()
    """,
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
