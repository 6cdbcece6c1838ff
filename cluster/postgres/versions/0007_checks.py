"""When the check of a run was begun last, so that those that fail wait for their turn."""

from __future__ import annotations

from alembic import op

revision = "0007"
down_revision = "0006"

STATEMENTS = ("ALTER TABLE live_accounts ADD COLUMN tried_at timestamptz",)


def upgrade() -> None:
    """Adds the columns."""
    for statement in STATEMENTS:
        op.execute(statement)
