"""Statements over approvals and the reviewers' votes. What they mean is in `hopgate.approvals`."""

from __future__ import annotations

import time
from collections.abc import Awaitable, Callable, Collection
from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import ColumnElement, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hopgate.errors import Denied
from hopgate.store import schema
from hopgate.store.database import Database
from hopgate.store.rows import Approval, ApprovalState, KillKind, Requirement, Vote
from hopgate.store.watched import PENDING

_LISTS = ("scopes", "groups", "actors")
_JSON = ("requirements", "headers", "facts", *_LISTS)


class ApprovalTransaction:
    """Reads and changes of approvals inside one transaction that alone may write: what was read still holds when it commits."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self.events: list[tuple[str, dict[str, Any]]] = []  # lines for the ledger, to be written before it commits

    async def insert(self, approval: Approval) -> None:
        values = asdict(approval)
        del values["votes"]
        await self._connection.execute(schema.approvals.insert().values({**values, **{name: _dump(values[name]) for name in _JSON}}))

    async def find(self, approval: str) -> Approval | None:
        found = await self.select(schema.approvals.c.id == approval)
        return found[0] if found else None

    async def pending_of(self, issuer: str, subject: str) -> tuple[Approval, ...]:
        table = schema.approvals.c
        return await self.select((table.issuer == issuer) & (table.subject == subject) & (table.state == "pending"))

    async def approved_for(self, issuer: str, subject: str, connection: str, fingerprint: str, now: float) -> tuple[Approval, ...]:
        table = schema.approvals.c
        same = (table.issuer == issuer) & (table.subject == subject) & (table.connection == connection) & (table.fingerprint == fingerprint)
        return await self.select(same & (table.state == "approved") & (table.ends_at > now))

    async def overdue(self, now: float) -> tuple[Approval, ...]:
        """Pending past their deadline, or approved and not used in time."""
        return await self.select(_overdue(now))

    async def orphaned(self, epoch: str, process: str) -> tuple[Approval, ...]:
        """Pending ones whose asker cannot be there any more: of `process` (empty: of any) in another epoch."""
        table = schema.approvals.c
        which = (table.state == "pending") & (table.epoch != epoch)
        return await self.select(which & (table.process == process) if process else which)

    async def change(self, approval: Approval, **values: Any) -> bool:
        """Set columns if nobody has changed the approval since it was read. False when somebody has."""
        table = schema.approvals
        statement = update(table).where(table.c.id == approval.id, table.c.state == approval.state, table.c.version == approval.version)
        changed = await self._connection.execute(statement.values(version=approval.version + 1, **values))
        return changed.rowcount == 1

    async def add_waiters(self, approval: str, number: int) -> None:
        """Count who waits. Not a change that a reviewer would have to see again, so the version stays."""
        table = schema.approvals
        await self._connection.execute(update(table).where(table.c.id == approval).values(waiters=table.c.waiters + number))

    async def vote(self, approval: str, vote: Vote) -> None:
        values = {**asdict(vote), "groups": orjson.dumps(sorted(vote.groups)).decode(), "approval": approval}
        await self._connection.execute(schema.decisions.insert().values(values))

    async def is_barred(self, token_ids: Collection[str], identity: str) -> bool:
        """Whether a token with one of these ids is revoked, or this principal locked."""
        token = select(schema.revoked.c.token_id).where(schema.revoked.c.token_id.in_(list(token_ids)))
        locks = schema.locks.c
        lock = select(locks.kind).where((locks.kind == "all") | ((locks.kind == "subject") & (locks.value == identity)))
        return any([(await self._connection.execute(statement)).first() for statement in (token, lock)])

    async def select(self, condition: Any, limit: int | None = None, newest: bool = False) -> tuple[Approval, ...]:
        table, votes = schema.approvals, schema.decisions
        order = table.c.created_at.desc() if newest else table.c.created_at
        statement = select(table).order_by(order, table.c.id).limit(limit)
        rows = (await self._connection.execute(statement if condition is None else statement.where(condition))).mappings().all()
        cast = select(votes).where(votes.c.approval.in_([row["id"] for row in rows])).order_by(votes.c.at)
        by_approval: dict[str, list[Vote]] = {}
        for vote in (await self._connection.execute(cast)).mappings() if rows else ():
            by_approval.setdefault(vote["approval"], []).append(_vote(dict(vote)))
        return tuple(_approval(dict(row), tuple(by_approval.get(row["id"], ()))) for row in rows)


class ApprovalRecords(Database):
    """What `Store` offers about approvals."""

    async def change_approvals[T](self, work: Callable[[ApprovalTransaction], Awaitable[T]]) -> T:
        """Run `work` in a transaction that alone may write. What it raises undoes it."""
        return await self.write_here(lambda connection: work(ApprovalTransaction(connection)))

    async def list_approvals(
        self, state: ApprovalState | None = None, *, but: ApprovalState | None = None, limit: int = 1000
    ) -> tuple[Approval, ...]:
        """Those in `state`, or all of them, or all that are not in the state `but`; the newest first."""
        column = schema.approvals.c.state
        condition = column == state if state is not None else column != but if but is not None else None
        return await self.read(lambda connection: ApprovalTransaction(connection).select(condition, limit, newest=True))

    async def find_approval(self, approval: str) -> Approval | None:
        """The approval with this id, or the only one whose id starts so. Raises Denied when several do."""
        table = schema.approvals.c

        async def work(connection: AsyncConnection) -> tuple[Approval, ...]:
            transaction = ApprovalTransaction(connection)
            return await transaction.select(table.id == approval) or await transaction.select(
                table.id.startswith(approval, autoescape=True), 2
            )

        found = await self.read(work) if approval else ()
        if len(found) > 1:
            raise Denied(f"several approvals start with {approval!r}: give more of the id")
        return found[0] if found else None

    async def has_overdue(self, now: float) -> bool:
        """Whether anything pending or approved is past its time."""
        statement = select(schema.approvals.c.id).where(_overdue(now)).limit(1)

        async def work(connection: AsyncConnection) -> bool:
            return (await connection.execute(statement)).first() is not None

        return await self.read(work)

    def pending_now(self) -> frozenset[str]:
        """The ids of what waits for reviewers, read without waiting. Raises Unavailable."""
        return frozenset(row["id"] for row in self.rows_now(PENDING))


async def cancel_matching(connection: AsyncConnection, kind: KillKind, value: str, by: str) -> None:
    """Cancel what waits, and take back what was approved and not used, for a killed or locked session, subject, run, connection or all."""
    table = schema.approvals
    named = {
        "session": table.c.session == value,
        "subject": table.c.issuer + ":" + table.c.subject == value,
        "run": table.c.run == value,
        "connection": table.c.connection == value,
    }
    statement = update(table).where(table.c.state.in_(("pending", "approved")))
    if kind != "all":
        statement = statement.where(named[kind])
    await connection.execute(statement.values(state="cancelled", version=table.c.version + 1, decided_by=by, decided_at=time.time()))


def _overdue(now: float) -> ColumnElement[bool]:
    table = schema.approvals.c
    return ((table.state == "pending") & (table.deadline <= now)) | ((table.state == "approved") & (table.ends_at <= now))


def _dump(value: Any) -> str:
    return orjson.dumps(value, default=_told).decode()


def _told(value: Any) -> Any:
    return sorted(value) if isinstance(value, set | frozenset) else str(value)


def _approval(row: dict[str, Any], votes: tuple[Vote, ...]) -> Approval:
    parsed = {name: orjson.loads(row[name]) for name in _JSON}
    requirements = tuple(Requirement(each["rule"], tuple(each["reviewers"]), each["quorum"]) for each in parsed["requirements"])
    lists = {name: tuple(parsed[name]) for name in _LISTS}
    return Approval(**{**row, **parsed, **lists, "requirements": requirements, "votes": votes})


def _vote(row: dict[str, Any]) -> Vote:
    del row["approval"]
    return Vote(**{**row, "groups": frozenset(orjson.loads(row["groups"]))})
