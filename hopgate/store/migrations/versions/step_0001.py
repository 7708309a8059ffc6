"""The tables of hopgate 0.1."""

from __future__ import annotations

from typing import Any

import sqlalchemy as sa
from alembic import op

revision = "0001"
down_revision = None

_INTEGER = sa.BigInteger().with_variant(sa.Integer, "sqlite")


def _texts(names: str, **options: Any) -> list[sa.Column[str]]:
    return [sa.Column(name, sa.Text, nullable=False, **options) for name in names.split()]


def _counts(names: str) -> list[sa.Column[int]]:
    return [sa.Column(name, _INTEGER, nullable=False) for name in names.split()]


def _times(names: str) -> list[sa.Column[float]]:
    return [sa.Column(name, sa.Float, nullable=False) for name in names.split()]


def upgrade() -> None:
    op.create_table("meta", *_texts("key", primary_key=True), *_texts("value"))
    op.create_table(
        "sessions",
        *_texts("id", primary_key=True),
        *_texts("issuer subject connection kind process peer run token_id recording reason groups"),
        *_counts("operations denied held bytes"),
        *_times("opened_at active_at"),
        sa.Column("ended_at", sa.Float),
    )
    op.create_index("sessions_by_opening", "sessions", ["opened_at"])
    op.create_table("tokens", *_texts("digest", primary_key=True), *_texts("scram_verifier principal_json"), *_times("expires_at"))
    op.create_table("revoked", *_texts("token_id", primary_key=True), *_times("expires_at"), *_texts("by"), *_times("at"))
    op.create_table("locks", *_texts("kind value", primary_key=True), *_texts("by reason"), *_times("at"))
    op.create_table("kills", *_texts("session", primary_key=True), *_texts("kind value by"), *_times("at"))
    op.create_table(
        "ledger_heads",
        *_texts("process", primary_key=True),
        *_counts("n"),
        *_texts("head"),
        sa.Column("final", sa.Boolean, nullable=False),
        *_times("at"),
    )
    op.create_table(
        "secrets",
        *_texts("name", primary_key=True),
        *_counts("version"),
        *_texts("key_id"),
        *(sa.Column(name, sa.LargeBinary, nullable=False) for name in ("wrap_nonce", "wrapped_key", "nonce", "ciphertext")),
        *_texts("by"),
        *_times("at"),
    )
    _approvals()


def _approvals() -> None:
    op.create_table(
        "approvals",
        *_texts("id", primary_key=True),
        *_counts("version"),
        *_texts("state issuer subject run connection session fingerprint title text rules_version"),
        *_texts("requirements scopes groups actors headers facts process epoch scope decided_by comment"),
        sa.Column("outlives", sa.Boolean, nullable=False),
        *_counts("waiters uses"),
        *_times("created_at deadline ends_at decided_at"),
    )
    op.create_index("approvals_by_request", "approvals", ["issuer", "subject", "connection", "fingerprint"])
    op.create_index("approvals_by_state", "approvals", ["state", "created_at"])
    op.create_table(
        "decisions",
        sa.Column("approval", sa.Text, sa.ForeignKey("approvals.id", ondelete="CASCADE"), nullable=False),
        *_texts("issuer subject groups verdict scope comment"),
        *_times("at"),
        sa.UniqueConstraint("approval", "issuer", "subject"),
    )
