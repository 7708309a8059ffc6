"""Notifications: who was told of which approval."""

from __future__ import annotations

import sqlalchemy as sa
from alembic import op

revision = "0002"
down_revision = "0001"

_INTEGER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def upgrade() -> None:
    op.create_table(
        "notifications",
        sa.Column("approval", sa.Text, sa.ForeignKey("approvals.id", ondelete="CASCADE"), primary_key=True),
        sa.Column("target", sa.Text, primary_key=True),
        sa.Column("state", sa.Text, nullable=False),
        sa.Column("attempts", _INTEGER, nullable=False),
        *(sa.Column(name, sa.Float, nullable=False) for name in ("created_at", "due_at", "claimed_until", "at")),
        sa.Column("error", sa.Text, nullable=False),
    )
    op.create_index("notifications_by_state", "notifications", ["state", "due_at"])
