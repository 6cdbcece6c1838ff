"""Links that bind a Telegram chat to a user, and which process listens to a bot, up to where."""

from __future__ import annotations

from alembic import op

revision = "0006"
down_revision = "0005"

STATEMENTS = (
    # One a user: who asks for another one ends the one before.
    """
    CREATE TABLE identity_telegram_links (
        user_id uuid PRIMARY KEY REFERENCES identity_users (user_id) ON DELETE CASCADE,
        token_hash bytea NOT NULL,
        created_at timestamptz NOT NULL,
        expires_at timestamptz NOT NULL,

        CONSTRAINT identity_telegram_links_hash_len_chk CHECK (octet_length(token_hash) = 32),
        CONSTRAINT identity_telegram_links_times_chk CHECK (created_at < expires_at)
    )
    """,
    """
    CREATE UNIQUE INDEX idx_identity_telegram_links_hash
        ON identity_telegram_links (token_hash)
    """,
    """
    CREATE TABLE telegram_bots (
        bot_id bigint PRIMARY KEY,
        username text NOT NULL,
        next_update_id bigint NOT NULL DEFAULT 0,
        heard_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        owner text NOT NULL,
        token bigint NOT NULL,
        lease_until timestamptz NOT NULL
    )
    """,
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
