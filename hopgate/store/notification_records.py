"""Statements over notifications. What they mean is in `hopgate.notifications`."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from sqlalchemy import exists, func, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hopgate.store import schema
from hopgate.store.database import Database
from hopgate.store.dialects import insert_or_update
from hopgate.store.rows import Notification, NotificationState


class NotificationRecords(Database):
    """What `Store` offers about notifications."""

    async def plan_notifications(self, targets: Sequence[str], now: float) -> int:
        """Note that each pending approval is to be told to each of `targets`, once whoever asks for it; gives how many are new."""
        approvals, table = schema.approvals, schema.notifications

        async def missing(connection: AsyncConnection) -> list[dict[str, Any]]:
            found = []
            for target in targets:
                told = exists().where(table.c.approval == approvals.c.id, table.c.target == target)
                statement = select(approvals.c.id).where(approvals.c.state == "pending", ~told)
                found += [{"approval": id, "target": target} for id in (await connection.execute(statement)).scalars()]
            return found

        async def work(connection: AsyncConnection) -> int:
            rows = [
                {**each, "state": "waiting", "attempts": 0, "created_at": now, "due_at": now, "claimed_until": 0.0, "at": 0.0, "error": ""}
                for each in await missing(connection)
            ]
            if rows:
                await connection.execute(insert_or_update(connection, table).on_conflict_do_nothing(), rows)
            return len(rows)

        return await self.write(work) if await self.read(missing) else 0

    async def due_notifications(self, now: float, targets: Sequence[str], limit: int = 100) -> tuple[Notification, ...]:
        """Those to one of `targets` whose next attempt is due and which nobody is at."""
        table = schema.notifications
        due = (table.c.state == "waiting") & (table.c.due_at <= now) & (table.c.claimed_until <= now) & table.c.target.in_(targets)
        return await self._notifications(select(table).where(due).order_by(table.c.due_at).limit(limit))

    async def claim_notification(self, found: Notification, now: float, until: float) -> bool:
        """Take on one attempt, until `until` if it is not settled before. False when somebody else has."""
        table = schema.notifications.c
        statement = update(schema.notifications).where(
            table.approval == found.approval,
            table.target == found.target,
            table.state == "waiting",
            table.attempts == found.attempts,
            table.claimed_until <= now,
        )
        values = {"attempts": found.attempts + 1, "claimed_until": until, "at": now}

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(statement.values(values))).rowcount == 1

        return await self.write(work)

    async def settle_notification(
        self, approval: str, target: str, state: NotificationState, *, error: str = "", due_at: float = 0.0
    ) -> None:
        """Note how an attempt ended; `waiting` for another one at `due_at`."""
        table = schema.notifications
        statement = update(table).where(table.c.approval == approval, table.c.target == target)
        await self.write(
            lambda connection: connection.execute(statement.values(state=state, error=error, due_at=due_at, claimed_until=0.0))
        )

    async def list_notifications(self, state: NotificationState | None = None, *, limit: int = 100) -> tuple[Notification, ...]:
        """The latest first; those that wait for another attempt have an `error`."""
        table = schema.notifications
        statement = select(table).order_by(table.c.created_at.desc(), table.c.approval, table.c.target).limit(limit)
        return await self._notifications(statement if state is None else statement.where(table.c.state == state))

    async def count_notifications(self) -> dict[tuple[str, NotificationState], int]:
        """How many by (target, state)."""
        table = schema.notifications.c

        async def work(connection: AsyncConnection) -> dict[tuple[str, NotificationState], int]:
            rows = await connection.execute(select(table.target, table.state, func.count()).group_by(table.target, table.state))
            return {(target, state): number for target, state, number in rows}

        return await self.read(work)

    async def _notifications(self, statement: Any) -> tuple[Notification, ...]:
        async def work(connection: AsyncConnection) -> tuple[Notification, ...]:
            return tuple(Notification(**row) for row in (await connection.execute(statement)).mappings())

        return await self.read(work)
