"""Statements over sessions, tokens, revocations, locks, kills, ledger heads and sealed secrets."""

from __future__ import annotations

import time
from collections.abc import Iterable
from dataclasses import asdict
from typing import Any

import orjson
from sqlalchemy import delete, select, update
from sqlalchemy.ext.asyncio import AsyncConnection

from hopgate.errors import Denied
from hopgate.store import schema
from hopgate.store.approval_records import cancel_matching
from hopgate.store.database import Database
from hopgate.store.dialects import upsert
from hopgate.store.rows import Head, Kill, KillKind, Lock, LockKind, Revocation, SealedSecret, SessionRow, TokenRow
from hopgate.store.watched import KILLS, LOCKS, REVOKED, SEALED

ORPHANED = "interrupted: its process ended without closing it"
_LOCK_KINDS = ("subject", "run", "connection", "all")


class Records(Database):
    """Every table but the approvals'. Each method is one transaction; all raise Unavailable when the database does not answer."""

    # --- sessions

    async def save_session(self, row: SessionRow) -> None:
        """Insert the session, or bring what is known of it up to date."""
        values = asdict(row) | {"groups": orjson.dumps(row.groups).decode()}
        await self.write(lambda connection: upsert(connection, schema.sessions, values, ("id",)), lazy=True)

    async def end_session(self, session: str, reason: str, at: float) -> None:
        """Note the end of a session, once: a second end changes nothing."""
        table = schema.sessions
        statement = update(table).where(table.c.id == session, table.c.ended_at.is_(None)).values(ended_at=at, reason=reason)

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(statement)
            await connection.execute(delete(schema.kills).where(schema.kills.c.session == session))

        await self.write(work)

    async def end_orphans(self, process: str, at: float) -> tuple[str, ...]:
        """At the start of `process`: end the sessions that its predecessor of the same name left open. Gives their ids."""
        table = schema.sessions
        orphaned = (table.c.process == process) & table.c.ended_at.is_(None)

        async def work(connection: AsyncConnection) -> tuple[str, ...]:
            found = tuple((await connection.execute(select(table.c.id).where(orphaned))).scalars())
            await connection.execute(update(table).where(orphaned).values(ended_at=at, reason=ORPHANED))
            await connection.execute(delete(schema.kills).where(schema.kills.c.session.in_(found)))
            return found

        return await self.write(work)

    async def list_sessions(
        self, *, active: bool | None = None, identity: str = "", connection: str = "", since: float = 0.0, limit: int = 1000
    ) -> tuple[SessionRow, ...]:
        """The latest sessions first. `identity` is `issuer:subject`; `active` selects those open (True) or ended (False)."""
        table = schema.sessions
        statement = select(table).where(table.c.opened_at >= since).order_by(table.c.opened_at.desc(), table.c.id).limit(limit)
        if active is not None:
            statement = statement.where(table.c.ended_at.is_(None) if active else table.c.ended_at.is_not(None))
        if identity:
            statement = statement.where(table.c.issuer + ":" + table.c.subject == identity)
        if connection:
            statement = statement.where(table.c.connection == connection)
        return tuple(_session(row) for row in await self._all(statement))

    async def find_session(self, session: str) -> SessionRow | None:
        """The session with this id, or the only one whose id starts so. Raises Denied when several do."""
        if not session:
            return None
        table = schema.sessions
        rows = await self._all(select(table).where(table.c.id == session))
        rows = rows or await self._all(select(table).where(table.c.id.startswith(session, autoescape=True)).limit(2))
        if len(rows) > 1:
            raise Denied(f"several sessions start with {session!r}: give more of the id")
        return _session(rows[0]) if rows else None

    # --- short tokens

    async def save_token(self, digest: str, scram_verifier: str, principal_json: str, expires_at: float) -> None:
        """Keep a short token by its digest; forgets those that have expired."""
        table = schema.tokens
        values = {"digest": digest, "scram_verifier": scram_verifier, "principal_json": principal_json, "expires_at": expires_at}

        async def work(connection: AsyncConnection) -> None:
            await connection.execute(delete(table).where(table.c.expires_at < time.time() - 86400.0))
            await upsert(connection, table, values, ("digest",))

        await self.write(work)

    async def find_token(self, digest: str) -> TokenRow | None:
        rows = await self._all(select(schema.tokens).where(schema.tokens.c.digest == digest))
        return TokenRow(**rows[0]) if rows else None

    async def take_token(self, digest: str) -> TokenRow | None:
        """Find a token and forget it, at once: of several who try at the same moment, one gets it."""
        table = schema.tokens

        async def work(connection: AsyncConnection) -> TokenRow | None:
            rows = await _rows(connection, select(table).where(table.c.digest == digest))
            await connection.execute(delete(table).where(table.c.digest == digest))
            return TokenRow(**rows[0]) if rows else None

        return await self.write(work)

    # --- revocations, locks, kills

    async def revoke(self, token_id: str, expires_at: float, by: str) -> None:
        """Refuse a token from now on; `expires_at` (its own end) tells until when that must be remembered."""
        table, now = schema.revoked, time.time()
        values = {"token_id": token_id, "expires_at": expires_at, "by": by, "at": now}

        async def work(connection: AsyncConnection) -> None:
            # a day of grace: clocks differ, and a token lives 30 s past its `exp`
            await connection.execute(delete(table).where(table.c.expires_at < now - 86400.0, table.c.token_id != token_id))
            await upsert(connection, table, values, ("token_id",))

        await self.write(work)

    async def list_revoked(self) -> tuple[Revocation, ...]:
        return tuple(Revocation(**row) for row in await self._all(select(schema.revoked)))

    async def lock(self, kind: LockKind, value: str, by: str, reason: str) -> None:
        """Shut out a principal (`issuer:subject`), claimed run, connection or everybody until `unlock`, and cancel its approvals."""

        async def work(connection: AsyncConnection) -> None:
            await _lock(connection, kind, value, by, reason)
            await cancel_matching(connection, kind, value, by="system:lock")

        await self.write(work)

    async def unlock(self, kind: LockKind, value: str) -> bool:
        """Take a lock away. False when there was none."""
        table = schema.locks

        async def work(connection: AsyncConnection) -> bool:
            gone = await connection.execute(delete(table).where(table.c.kind == kind, table.c.value == _value(kind, value)))
            return bool(gone.rowcount)

        return await self.write(work)

    async def list_locks(self) -> tuple[Lock, ...]:
        return tuple(Lock(**row) for row in await self._all(select(schema.locks).order_by(schema.locks.c.at)))

    async def request_kill(self, kind: KillKind, value: str, by: str) -> tuple[str, ...]:
        """Order the end of every open session that this names, and cancel what waits for approval there. Gives the sessions' ids.

        A killed principal or run is locked as well, or it would be back at once. A run is only claimed: lock the principal to be sure.
        """
        if kind not in (*_LOCK_KINDS, "session"):
            raise Denied(f"nothing of the kind {kind!r} can be killed")

        async def work(connection: AsyncConnection) -> tuple[str, ...]:
            if kind in ("subject", "run"):
                await _lock(connection, kind, value, by, "killed")
            found = await _open_sessions(connection, kind, value)
            for session in found:
                values = {"session": session, "kind": kind, "value": value, "by": by, "at": time.time()}
                await upsert(connection, schema.kills, values, ("session",))
            await cancel_matching(connection, kind, value, by="system:kill")
            return found

        return await self.write(work)

    def shut_out_now(self) -> tuple[frozenset[str], list[Lock], list[Kill]]:
        """The ids of revoked tokens, locks and kills, read without waiting. Raises Unavailable."""
        return (
            frozenset(row["token_id"] for row in self.rows_now(REVOKED)),
            [Lock(**row) for row in self.rows_now(LOCKS)],
            [Kill(**row) for row in self.rows_now(KILLS)],
        )

    async def list_kills(self) -> tuple[Kill, ...]:
        return tuple(Kill(**row) for row in await self._all(select(schema.kills)))

    # --- ledger heads

    async def save_head(self, process: str, n: int, head: str, final: bool, at: float) -> None:
        values = {"process": process, "n": n, "head": head, "final": final, "at": at}
        await self.write(lambda connection: upsert(connection, schema.ledger_heads, values, ("process",)), lazy=True)

    async def list_heads(self) -> tuple[Head, ...]:
        return tuple(Head(**row) for row in await self._all(select(schema.ledger_heads).order_by(schema.ledger_heads.c.process)))

    # --- sealed secrets

    async def list_sealed(self) -> tuple[SealedSecret, ...]:
        return tuple(SealedSecret(**row) for row in await self._all(select(schema.secrets).order_by(schema.secrets.c.name)))

    def sealed_versions_now(self) -> dict[str, tuple[int, float]]:
        """Of each sealed secret its version and when that came, read without waiting. Raises Unavailable."""
        return {row["name"]: (row["version"], row["at"]) for row in self.rows_now(SEALED)}

    async def find_sealed(self, name: str) -> SealedSecret | None:
        rows = await self._all(select(schema.secrets).where(schema.secrets.c.name == name))
        return SealedSecret(**rows[0]) if rows else None

    async def replace_sealed(self, pairs: Iterable[tuple[SealedSecret, SealedSecret | None]]) -> bool:
        """Put each new secret in place of the old one (None: there was none), all or none. False when one has changed meanwhile."""
        table, replaced = schema.secrets, tuple(pairs)

        async def work(connection: AsyncConnection) -> bool:
            current = {row["name"]: SealedSecret(**row) for row in await _rows(connection, select(table))}
            if any(current.get(new.name) != old for new, old in replaced):
                return False
            for new, _ in replaced:
                await upsert(connection, table, asdict(new), ("name",))
            return True

        return await self.write(work)

    async def delete_sealed(self, name: str) -> bool:
        async def work(connection: AsyncConnection) -> bool:
            return bool((await connection.execute(delete(schema.secrets).where(schema.secrets.c.name == name))).rowcount)

        return await self.write(work)

    async def _all(self, statement: Any) -> list[dict[str, Any]]:
        return await self.read(lambda connection: _rows(connection, statement))


async def _rows(connection: AsyncConnection, statement: Any) -> list[dict[str, Any]]:
    return [dict(row) for row in (await connection.execute(statement)).mappings()]


def _session(row: dict[str, Any]) -> SessionRow:
    return SessionRow(**{**row, "groups": tuple(orjson.loads(row["groups"]))})


def _value(kind: str, value: str) -> str:
    if kind not in _LOCK_KINDS:
        raise Denied(f"nothing of the kind {kind!r} can be locked; expected one of {', '.join(_LOCK_KINDS)}")
    if kind == "all":
        return ""
    if not value:
        raise Denied(f"a lock on a {kind} needs its name")
    return value


async def _lock(connection: AsyncConnection, kind: str, value: str, by: str, reason: str) -> None:
    if kind == "subject" and not all(value.partition(":")[::2]):
        raise Denied(f"a principal is ISSUER:SUBJECT; `{value}` is nobody, and a lock on it would keep nobody out")
    values = {"kind": kind, "value": _value(kind, value), "by": by, "reason": reason, "at": time.time()}
    await upsert(connection, schema.locks, values, ("kind", "value"))


async def _open_sessions(connection: AsyncConnection, kind: KillKind, value: str) -> tuple[str, ...]:
    table = schema.sessions
    named = {
        "session": table.c.id == value,
        "subject": table.c.issuer + ":" + table.c.subject == value,
        "run": table.c.run == value,
        "connection": table.c.connection == value,
    }
    statement = select(table.c.id).where(table.c.ended_at.is_(None))
    if kind != "all":
        statement = statement.where(named[kind])
    return tuple((await connection.execute(statement)).scalars())
