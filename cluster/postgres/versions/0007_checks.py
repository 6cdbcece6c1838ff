"""What checks of runs need: when one was begun, and of which minutes a bar was made."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = (
    "ALTER TABLE live_accounts ADD COLUMN tried_at timestamptz",
    "ALTER TABLE live_bars ADD COLUMN digest bigint",
)


def upgrade() -> None:
    """Adds the columns."""
    for statement in STATEMENTS:
        op.execute(statement)
