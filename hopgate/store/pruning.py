"""Forgetting what is long over. The ledgers keep their own record of it."""

from __future__ import annotations

from typing import Any, Final

from sqlalchemy import ColumnElement, Table, delete, select
from sqlalchemy.ext.asyncio import AsyncConnection

from hopgate.store import schema
from hopgate.store.database import Database
from hopgate.store.rows import Pruned

AT_ONCE: Final = 500  # rows of one transaction: others want to write too


class Pruning(Database):
    """What `Store` offers to keep small."""

    async def prune(self, before: float) -> Pruned:
        """Delete approvals settled, sessions ended, and tokens and revocations expired before `before`; gives how many of each.

        Votes and notifications go with their approval. Raises Unavailable; what was deleted by then stays so.
        """
        approvals, sessions, tokens, revoked = schema.approvals.c, schema.sessions.c, schema.tokens.c, schema.revoked.c
        settled = approvals.state.not_in(("pending", "approved")) & (approvals.decided_at < before) & (approvals.created_at < before)
        return Pruned(
            approvals=await self._delete(schema.approvals, approvals.id, settled),
            sessions=await self._delete(schema.sessions, sessions.id, sessions.ended_at < before),
            tokens=await self._delete(schema.tokens, tokens.digest, tokens.expires_at < before),
            # a day of grace: clocks differ, and a token lives 30 s past its `exp`
            revocations=await self._delete(schema.revoked, revoked.token_id, revoked.expires_at < before - 86400.0),
        )

    async def _delete(self, table: Table, key: Any, condition: ColumnElement[bool]) -> int:
        some = select(key).where(condition).limit(AT_ONCE)

        async def work(connection: AsyncConnection) -> int:
            return (await connection.execute(delete(table).where(key.in_(some)))).rowcount

        total = number = await self.write(work, lazy=True)
        while number == AT_ONCE:
            number = await self.write(work, lazy=True)
            total += number
        return total
