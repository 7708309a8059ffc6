"""What every operation and everybody who waits asks of the store, and what therefore can be read without waiting."""

from __future__ import annotations

from typing import Final

from sqlalchemy import literal_column, select

from hopgate.store import schema

REVOKED: Final = select(schema.revoked.c.token_id)
LOCKS: Final = select(schema.locks)
KILLS: Final = select(schema.kills)
PENDING: Final = select(schema.approvals.c.id).where(schema.approvals.c.state == literal_column("'pending'"))
SEALED: Final = select(schema.secrets.c.name, schema.secrets.c.version, schema.secrets.c.at)  # not what is sealed
WATCHED: Final = (REVOKED, LOCKS, KILLS, PENDING, SEALED)
