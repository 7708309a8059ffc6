"""The tables as they are now. `hopgate.store.migrations` has the steps that bring an older database to them."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import BigInteger, Boolean, Column, Float, ForeignKey, Index, Integer, LargeBinary, MetaData, Table, Text
from sqlalchemy.schema import UniqueConstraint

metadata: Final = MetaData()


def _text(name: str, **options: Any) -> Column[str]:
    return Column(name, Text, nullable=False, **options)


def _time(name: str, **options: Any) -> Column[float]:
    return Column(name, Float, nullable=False, **options)


def _count(name: str, **options: Any) -> Column[int]:
    # SQLite's integers have 64 bits whatever they are called
    return Column(name, BigInteger().with_variant(Integer, "sqlite"), nullable=False, **options)


meta: Final = Table("meta", metadata, _text("key", primary_key=True), _text("value"))

sessions: Final = Table(
    "sessions",
    metadata,
    _text("id", primary_key=True),
    *(_text(name) for name in ("issuer", "subject", "connection", "kind", "process", "peer", "run", "token_id", "recording", "reason")),
    _text("groups"),  # JSON list
    *(_count(name) for name in ("operations", "denied", "held", "bytes")),
    _time("opened_at"),
    _time("active_at"),
    Column("ended_at", Float),
    Index("sessions_by_opening", "opened_at"),
)

tokens: Final = Table(
    "tokens", metadata, _text("digest", primary_key=True), _text("scram_verifier"), _text("principal_json"), _time("expires_at")
)

revoked: Final = Table("revoked", metadata, _text("token_id", primary_key=True), _time("expires_at"), _text("by"), _time("at"))

locks: Final = Table(
    "locks", metadata, _text("kind", primary_key=True), _text("value", primary_key=True), _text("by"), _text("reason"), _time("at")
)

kills: Final = Table("kills", metadata, _text("session", primary_key=True), *(_text(name) for name in ("kind", "value", "by")), _time("at"))

ledger_heads: Final = Table(
    "ledger_heads",
    metadata,
    _text("process", primary_key=True),
    _count("n"),
    _text("head"),
    Column("final", Boolean, nullable=False),
    _time("at"),
)

secrets: Final = Table(
    "secrets",
    metadata,
    _text("name", primary_key=True),
    _count("version"),
    _text("key_id"),
    *(Column(name, LargeBinary, nullable=False) for name in ("wrap_nonce", "wrapped_key", "nonce", "ciphertext")),
    _text("by"),
    _time("at"),
)

approvals: Final = Table(
    "approvals",
    metadata,
    _text("id", primary_key=True),
    _count("version"),
    *(
        _text(name)
        for name in ("state", "issuer", "subject", "run", "connection", "session", "fingerprint", "title", "text", "rules_version")
    ),
    *(_text(name) for name in ("requirements", "scopes", "groups", "actors", "headers", "facts")),  # JSON
    *(_text(name) for name in ("process", "epoch", "scope", "decided_by", "comment")),
    Column("outlives", Boolean, nullable=False),
    _count("waiters"),
    _count("uses"),
    *(_time(name) for name in ("created_at", "deadline", "ends_at", "decided_at")),
    Index("approvals_by_request", "issuer", "subject", "connection", "fingerprint"),
    Index("approvals_by_state", "state", "created_at"),
)

decisions: Final = Table(
    "decisions",
    metadata,
    Column("approval", Text, ForeignKey("approvals.id", ondelete="CASCADE"), nullable=False),
    *(_text(name) for name in ("issuer", "subject", "groups", "verdict", "scope", "comment")),
    _time("at"),
    UniqueConstraint("approval", "issuer", "subject"),  # nobody votes twice, whatever the code above thinks
)

notifications: Final = Table(
    "notifications",
    metadata,
    Column("approval", Text, ForeignKey("approvals.id", ondelete="CASCADE"), primary_key=True),
    _text("target", primary_key=True),
    _text("state"),
    _count("attempts"),
    *(_time(name) for name in ("created_at", "due_at", "claimed_until", "at")),
    _text("error"),
    Index("notifications_by_state", "state", "due_at"),
)
