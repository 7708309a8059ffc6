"""Putting ledger events into the index: each batch with the place in the ledgers that it reaches, in one transaction."""

from __future__ import annotations

import asyncio
from collections.abc import Collection, Iterable, Iterator, Sequence
from dataclasses import asdict, fields
from typing import Any, Final

from sqlalchemy import Table, func, insert, select, text
from sqlalchemy.ext.asyncio import AsyncConnection

from hopgate.store.dialects import insert_or_update, upsert
from hopgate.store.index import schema
from hopgate.store.index.batch import Changes, SessionState, build, names_of, session_of
from hopgate.store.index.database import IndexDatabase
from hopgate.store.index.rows import LedgerEvent, Source

_CHUNK: Final = 500  # values in one IN
_WINDOW: Final = 4096
_SESSION: Final = tuple(each.name for each in fields(SessionState) if each.name not in ("at", "n"))
_TEXT: Final = text("INSERT INTO index_text(rowid, title, message, tags) VALUES (:id, :title, :message, :tags)")


class IndexWriting(IndexDatabase):
    """What the projector needs."""

    async def sources(self) -> dict[str, Source]:
        """How far each process's ledger is indexed."""
        return {row["process"]: Source(**row) for row in await self.rows(select(schema.sources))}

    async def count_events(self) -> int:
        """Lines that are indexed; a moment's work however many there are."""
        rows = await self.rows(select(func.coalesce(func.sum(schema.sessions.c.events), 0).label("n")))
        return int(rows[0]["n"])

    async def apply(self, events: Sequence[LedgerEvent], before: Iterable[Source], after: Iterable[Source]) -> bool:
        """Index `events`, which take the ledgers from `before` to `after`. False, and nothing done, when another has indexed meanwhile.

        Raises Unavailable: then nothing was done either, and the same may be tried again.
        """
        async with self.transaction(write=True) as connection:
            expected = {each.process: each for each in before}
            found = (await connection.execute(select(schema.sources).where(schema.sources.c.process.in_(expected)))).mappings()
            current = {row["process"]: Source(**row) for row in found}
            if any(current.get(process, Source(process)) != source for process, source in expected.items()):
                return False
            if events:
                await _index(connection, events)
            for source in after:
                await upsert(connection, schema.sources, asdict(source), ("process",))
        return True


async def _index(connection: AsyncConnection, events: Sequence[LedgerEvent]) -> None:
    numbers = await _number_names(connection, {each for event in events for each in names_of(event)})
    sessions = await _load_sessions(connection, events)
    # thousands of rows: built beside the loop, which has callers to serve
    changes = await asyncio.to_thread(build, events, sessions, lambda kind, value: numbers[kind, value])
    await _save_sessions(connection, sessions)
    if changes.events:
        # in order: the text index writes a segment whenever an id is lower than the one before it
        changes.events.sort(key=lambda row: row["id"])
        await connection.execute(insert(schema.events), changes.events)
        if connection.dialect.name == "sqlite":
            await connection.execute(_TEXT, [{name: row[name] for name in ("id", "title", "message", "tags")} for row in changes.events])
    await _add_up(connection, changes)


async def _number_names(connection: AsyncConnection, wanted: Collection[tuple[str, str]]) -> dict[tuple[str, str], int]:
    table, numbers = schema.names, {}
    for kind in sorted({kind for kind, _ in wanted}):
        values = sorted({value for each, value in wanted if each == kind})
        for chunk in _chunks(values):
            statement = select(table.c.value, table.c.n).where(table.c.kind == kind, table.c.value.in_(chunk))
            known = {row.value: row.n for row in await connection.execute(statement)}
            missing = [value for value in chunk if value not in known]
            if missing:
                await connection.execute(insert(table), [{"kind": kind, "value": value} for value in missing])
                known = {row.value: row.n for row in await connection.execute(statement)}
            numbers.update({(kind, value): n for value, n in known.items()})
    return numbers


async def _load_sessions(connection: AsyncConnection, events: Sequence[LedgerEvent]) -> dict[str, SessionState]:
    """Every session that `events` name, the gateway itself ("") included; those not known yet have got a number."""
    table, found = schema.sessions, {}
    first: dict[str, float] = {}
    for event in events:
        first.setdefault(session_of(event), event.t / 1e9)
    for chunk in _chunks(sorted(first)):
        for row in (await connection.execute(select(table).where(table.c.id.in_(chunk)))).mappings():
            found[row["id"]] = SessionState(at=row["opened_at"], **row)
    numbers = _Numbers(connection)
    for session, at in first.items():
        if session not in found:
            opened = _opened(session, at) if session else 0.0
            n = await numbers.take(schema.session_number(opened)) if session else 0
            found[session] = SessionState(session, at, n=n, opened_at=opened)
    return found


class _Numbers:
    """The numbers of sessions that are taken, read by the window: sessions that open together look for theirs in one place."""

    def __init__(self, connection: AsyncConnection) -> None:
        self._connection = connection
        self._taken: dict[int, set[int]] = {}

    async def take(self, n: int) -> int:
        """The first free number from `n` on, which is free no more."""
        while True:
            window = n // _WINDOW
            if window not in self._taken:
                table = schema.sessions.c
                within = select(table.n).where(table.n >= window * _WINDOW, table.n < (window + 1) * _WINDOW)
                self._taken[window] = set((await self._connection.execute(within)).scalars())
            if n not in self._taken[window]:
                self._taken[window].add(n)
                return n
            n += 1


def _opened(session: str, at: float) -> float:
    """When a session was opened, as its id says; an id of another form is taken to be as old as its first event."""
    try:
        told = int(session[1:12], 16) / 1000
    except ValueError:
        return at
    return told if abs(told - at) < 7 * 86400 else at


async def _save_sessions(connection: AsyncConnection, sessions: dict[str, SessionState]) -> None:
    table = schema.sessions
    rows = [{name: getattr(each, name) for name in _SESSION} | {"n": each.n} for each in sessions.values()]
    statement = insert_or_update(connection, table)
    changed = {name: statement.excluded[name] for name in _SESSION if name != "id"}
    await connection.execute(statement.on_conflict_do_update(index_elements=["n"], set_=changed), rows)


async def _add_up(connection: AsyncConnection, changes: Changes) -> None:
    if changes.rules:
        rows = [
            {"rule": rule, "outcome": outcome, "number": number, "first_at": first, "last_at": last}
            for (rule, outcome), (number, first, last) in changes.rules.items()
        ]
        await _accumulate(connection, schema.rules, rows, keys=("rule", "outcome"), sums=("number",), keep=("first_at",))
    if changes.hops:
        edges = [{"principal": p, "connection": c, "first_at": first, "last_at": last} for (p, c), (first, last) in changes.hops.items()]
        await _accumulate(connection, schema.hops, edges, keys=("principal", "connection"), keep=("first_at",))
    if changes.hours:
        hours = [{"hour": hour, "principal": p, "connection": c, **counts} for (hour, p, c), counts in changes.hours.items()]
        sums = ("sessions", "refused", "operations", "denied", "held")
        await _accumulate(connection, schema.hop_hours, hours, keys=("hour", "principal", "connection"), sums=sums)
    if changes.fingerprints:
        endings = ("requested", "approved", "denied")
        for decided in (True, False):  # who only asked does not hide who decided last
            seen = [{"fingerprint": each, **values} for each, values in changes.fingerprints.items() if bool(values["last_by"]) is decided]
            if seen:
                keep = () if decided else ("last_at", "last_by")
                await _accumulate(connection, schema.fingerprints, seen, keys=("fingerprint",), sums=endings, keep=keep)


async def _accumulate(
    connection: AsyncConnection,
    table: Table,
    rows: Sequence[dict[str, Any]],
    *,
    keys: Sequence[str],
    sums: Sequence[str] = (),
    keep: Sequence[str] = (),
) -> None:
    """Insert rows; of one that is there, add up `sums`, leave `keep` as it was, and replace the rest."""
    statement = insert_or_update(connection, table)
    changed = {name: table.c[name] + statement.excluded[name] for name in sums}
    changed |= {name: statement.excluded[name] for name in rows[0] if name not in (*keys, *sums, *keep)}
    await connection.execute(statement.on_conflict_do_update(index_elements=list(keys), set_=changed), list(rows))


def _chunks[T](values: Sequence[T]) -> Iterator[Sequence[T]]:
    for start in range(0, len(values), _CHUNK):
        yield values[start : start + _CHUNK]
