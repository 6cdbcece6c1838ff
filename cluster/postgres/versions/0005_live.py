"""Who runs which instrument, and what runs have done: accounts, bars, trades."""

from __future__ import annotations

from alembic import op

revision = "0005"
down_revision = "0004"

STATEMENTS = (
    """
    CREATE TABLE live_runners (
        owner text PRIMARY KEY,
        seen_until timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE live_leases (
        instrument_key text PRIMARY KEY,
        owner text NOT NULL,
        token bigint NOT NULL,
        lease_until timestamptz NOT NULL
    )
    """,
    """
    CREATE TABLE live_accounts (
        run_id uuid PRIMARY KEY REFERENCES strategy_runs (run_id) ON DELETE CASCADE,
        account_json jsonb NOT NULL,
        equity double precision NOT NULL,
        bar_ts timestamptz NOT NULL,

        CONSTRAINT live_accounts_account_json_chk CHECK (jsonb_typeof(account_json) = 'object')
    )
    """,
    """
    CREATE TABLE live_bars (
        run_id uuid NOT NULL REFERENCES strategy_runs (run_id) ON DELETE CASCADE,
        bar_ts timestamptz NOT NULL,
        close real NOT NULL,
        vote smallint NOT NULL,
        equity double precision NOT NULL,
        committed_at timestamptz NOT NULL DEFAULT clock_timestamp(),

        PRIMARY KEY (run_id, bar_ts),
        CONSTRAINT live_bars_vote_chk CHECK (vote IN (-1, 0, 1))
    )
    """,
    """
    CREATE TABLE live_trades (
        run_id uuid NOT NULL REFERENCES strategy_runs (run_id) ON DELETE CASCADE,
        number integer NOT NULL,
        side smallint NOT NULL,
        entry_bar_ts timestamptz NOT NULL,
        exit_bar_ts timestamptz NOT NULL,
        reason text NOT NULL,
        entry_fill double precision NOT NULL,
        exit_fill double precision NOT NULL,
        quantity double precision NOT NULL,
        entry_quote double precision NOT NULL,
        exit_quote double precision NOT NULL,
        entry_fee double precision NOT NULL,
        exit_fee double precision NOT NULL,
        gross double precision NOT NULL,
        net double precision NOT NULL,
        locked double precision NOT NULL,

        PRIMARY KEY (run_id, number),
        CONSTRAINT live_trades_number_chk CHECK (number > 0),
        CONSTRAINT live_trades_side_chk CHECK (side IN (-1, 1)),
        CONSTRAINT live_trades_reason_chk CHECK (reason IN ('sl', 'tp', 'signal_exit'))
    )
    """,
    """
    CREATE TABLE live_reconciliations (
        run_id uuid PRIMARY KEY REFERENCES strategy_runs (run_id) ON DELETE CASCADE,
        checked_at timestamptz NOT NULL DEFAULT clock_timestamp(),
        until_ts timestamptz,
        bars integer NOT NULL,
        trades integer NOT NULL,
        differences integer NOT NULL,
        report_json jsonb NOT NULL
    )
    """,
    # Readers of the events of a run wait for it to be named here.
    """
    CREATE FUNCTION strategy_event_told() RETURNS trigger LANGUAGE plpgsql AS $$
    BEGIN
        IF NEW.run_id IS NOT NULL THEN
            PERFORM pg_notify('strategy_events', NEW.run_id::text);
        END IF;
        RETURN NULL;
    END
    $$
    """,
    """
    CREATE TRIGGER strategy_events_told
        AFTER INSERT ON strategy_events FOR EACH ROW EXECUTE FUNCTION strategy_event_told()
    """,
    "CREATE INDEX idx_strategy_runs_active ON strategy_runs (started_at, run_id)"
    " WHERE state IN ('starting', 'warming_up', 'running', 'stopping')",
)


def upgrade() -> None:
    """Makes the tables."""
    for statement in STATEMENTS:
        op.execute(statement)
