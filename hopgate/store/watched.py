"""What every operation asks of the store, and what therefore can be read without waiting."""

from __future__ import annotations

from typing import Final

from sqlalchemy import select

from hopgate.store import schema

REVOKED: Final = select(schema.revoked.c.token_id)
LOCKS: Final = select(schema.locks)
KILLS: Final = select(schema.kills)
WATCHED: Final = (REVOKED, LOCKS, KILLS)
