"""Questions to the index. What is asked for by rule, effect, kind or text is found by the text index, newest first, session by session."""

from __future__ import annotations

from collections.abc import Collection, Mapping, Sequence
from typing import Any, Final

import orjson
from sqlalchemy import ColumnElement, Select, func, literal_column, select, text
from sqlalchemy.ext.asyncio import AsyncEngine

from hopgate.store.index import schema
from hopgate.store.index.database import IndexDatabase
from hopgate.store.index.rows import Event, Hop, Page, RuleCount, Seen, SessionFound, SessionQuery, storable
from hopgate.store.index.schema import EVENT_BITS
from hopgate.store.index.texts import Words, asked_for

_STRIDE: Final = 2_000  # matches looked at together where a beginning was asked for
_ROUNDS: Final = 20  # … and how often, before the page is given as it is
_KEPT: Final = 2_000  # sessions whose last operations are kept in memory
_NOTHING: Final = "k0"  # a tag that no event has
_TOP: Final = (1 << 63) - 1


class IndexReading(IndexDatabase):
    """What the console asks. Methods raise Unavailable, and ValueError for a cursor that no page gave."""

    def __init__(self, where: str, engine: AsyncEngine, words: Words) -> None:
        super().__init__(where, engine, words)
        self._latest: dict[tuple[str, int], tuple[int, tuple[Event, ...]]] = {}  # (session, limit) -> its number of events, the last ones

    async def search_sessions(self, query: SessionQuery, after: str = "", limit: int = 50) -> Page[SessionFound]:
        """Sessions that `query` describes, the newest first."""
        high = min(_cursor(after, _TOP), _below(query.until))
        match = self.words.match(await self._tags(query), query.text)
        if not (query.rule or query.effect or query.kind or asked_for(query.text)):
            return await self._plain_sessions(query, high, limit)
        low = _from(query.since)
        if query.live:
            rows = await self.rows(text(self.words.LIVE), {"match": match, "low": low, "high": high, "limit": limit + 1})
            found = await self._numbered([row["n"] for row in rows])
            return await self._page_of_sessions(found, limit)
        found = []
        while len(found) <= limit and (numbers := await self._matching_sessions(match, query.text, low, high, limit + 1)):
            found += [each for each in await self._numbered(numbers) if query.live is None or not each.live]
            high = min(numbers) << EVENT_BITS
        return await self._page_of_sessions(found, limit)

    async def find_session(self, session: str) -> SessionFound | None:
        """The session with this id."""
        found = await self._sessions(schema.sessions.c.id == storable(session), 1) if session else []
        return found[0] if found else None

    async def timeline(self, session: str, *, after: str = "", limit: int = 200, backwards: bool = False) -> Page[Event]:
        """What happened in a session, the oldest first. `after` of a page is always set: what happens later comes after it."""
        row = await self.rows(select(schema.sessions.c.n).where(schema.sessions.c.id == storable(session))) if session else []
        if not row:
            return Page(())
        low, high = row[0]["n"] << EVENT_BITS, (row[0]["n"] + 1) << EVENT_BITS
        table = schema.events.c
        if backwards:
            within = (table.id >= low) & (table.id < min(high, _cursor(after, high)))
            found = await self._events(_events().where(within).order_by(table.id.desc()).limit(limit))
            return Page(tuple(found), found[-1].cursor if len(found) == limit else "")
        within = (table.id > max(low - 1, _cursor(after, low - 1))) & (table.id < high)
        found = await self._events(_events().where(within).order_by(table.id).limit(limit))
        return Page(tuple(found), found[-1].cursor if found else after)

    async def search_events(self, query: SessionQuery, after: str = "", limit: int = 50) -> Page[Event]:
        """Events that `query` describes (`live` is not looked at), those of the newest session first, and in it the newest first."""
        high, low = min(_cursor(after, _TOP), _below(query.until)), _from(query.since)
        match = self.words.match(await self._tags(query), query.text)
        table = schema.events.c
        if match:
            values = {"match": match, "low": low, "high": high, "limit": limit + 1}
            ids = [row["id"] for row in await self.rows(text(self.words.BY_EVENT), values)]
        else:
            within = (table.id >= low) & (table.id < high)
            ids = [row["id"] for row in await self.rows(select(table.id).where(within).order_by(table.id.desc()).limit(limit + 1))]
        found = await self._events(_events().where(table.id.in_(ids[:limit])).order_by(table.id.desc())) if ids else []
        return Page(tuple(found), str(ids[limit - 1]) if len(ids) > limit else "")

    async def gateway_events(self, after: str = "", limit: int = 100) -> Page[Event]:
        """What belongs to no session, the newest first."""
        table = schema.events.c
        within = table.id < min(1 << EVENT_BITS, _cursor(after, 1 << EVENT_BITS))
        found = await self._events(_events().where(within).order_by(table.id.desc()).limit(limit + 1))
        return Page(tuple(found[:limit]), found[limit - 1].cursor if len(found) > limit else "")

    async def latest_operations(self, sessions: Collection[str], limit: int) -> Mapping[str, tuple[Event, ...]]:
        """Of each session the last `limit` operations that were decided, held or withdrawn, the newest first.

        Sessions that wait for a reviewer stand still: what was found before is given again where nothing was added since.
        """
        table, kept = schema.sessions.c, self._latest
        now = {row["id"]: row["events"] for row in await self.rows(select(table.id, table.events).where(table.id.in_(sorted(sessions))))}
        stale = [each for each, events in now.items() if kept.get((each, limit), (-1, ()))[0] != events]
        if stale:
            found: dict[str, tuple[Event, ...]] = dict.fromkeys(stale, ())
            for row in await self.rows(text(self.words.LATEST), {"sessions": orjson.dumps(stale).decode(), "limit": limit}):
                found[row["session"]] = (*found[row["session"]], _event(row))
            if len(kept) > _KEPT:
                kept.clear()
            kept.update({(each, limit): (now[each], events) for each, events in found.items()})
        return {each: kept[each, limit][1] for each in now}

    async def seen(self, fingerprints: Collection[str]) -> Mapping[str, Seen]:
        """How often each of these was asked for and how that ended."""
        table = schema.fingerprints
        rows = await self.rows(select(table).where(table.c.fingerprint.in_(sorted(fingerprints))))
        return {row.pop("fingerprint"): Seen(**row) for row in rows}

    async def rule_counts(self) -> tuple[RuleCount, ...]:
        """Every rule that ever matched, by outcome."""
        table, name = schema.rules.c, schema.names.alias()
        statement = select(name.c.value.label("rule"), table.outcome, table.number, table.first_at, table.last_at)
        return tuple(RuleCount(**row) for row in await self.rows(statement.join_from(schema.rules, name, name.c.n == table.rule)))

    async def hops(self, since: float, until: float) -> tuple[Hop, ...]:
        """Who used, or tried to use, which connection in the hours between. First-seen is ever."""
        hours, edges, principal, connection = schema.hop_hours, schema.hops, schema.names.alias(), schema.names.alias()
        counts = ("sessions", "refused", "operations", "denied", "held")
        sums = (
            select(hours.c.principal, hours.c.connection, *(func.sum(hours.c[each]).label(each) for each in counts))
            .where(hours.c.hour >= int(since // 3600), hours.c.hour <= int(until // 3600))
            .group_by(hours.c.principal, hours.c.connection)
            .subquery()
        )
        statement = (
            select(
                principal.c.value.label("principal"),
                connection.c.value.label("connection"),
                edges.c.first_at.label("first_seen"),
                edges.c.last_at.label("last_seen"),
                *(sums.c[each] for each in counts),
            )
            .join_from(sums, edges, (edges.c.principal == sums.c.principal) & (edges.c.connection == sums.c.connection))
            .join(principal, principal.c.n == sums.c.principal)
            .join(connection, connection.c.n == sums.c.connection)
            .order_by(principal.c.value, connection.c.value)
        )
        return tuple(Hop(**row, is_new=since <= row["first_seen"] < until) for row in await self.rows(statement))

    # --- parts

    async def _tags(self, query: SessionQuery) -> tuple[str, ...]:
        """The tags that an event must have. A name that nobody has ever used gives one that nothing has."""
        asked = (
            ("principal", query.principal, "p"),
            ("connection", query.connection, "c"),
            ("run", query.run, "u"),
            ("rule", query.rule, "r"),
        )
        tags = [f"x{query.effect}" if query.effect.isalpha() else _NOTHING] if query.effect else []
        tags += [f"k{query.kind}" if query.kind.isalpha() else _NOTHING] if query.kind else []
        for kind, value, letter in asked:
            if value:
                n = await self._name(kind, value)
                tags.append(f"{letter}{n}" if n else _NOTHING)
        return tuple(tags)

    async def _name(self, kind: str, value: str) -> int:
        table = schema.names.c
        rows = await self.rows(select(table.n).where(table.kind == kind, table.value == storable(value)))
        return rows[0]["n"] if rows else 0

    async def _matching_sessions(self, match: str, asked: str, low: int, high: int, limit: int) -> Sequence[int]:
        """Numbers of the newest sessions that have a match below `high`."""
        values = {"match": match, "low": low, "high": high, "limit": limit}
        if not any(beginning for _, beginning in asked_for(asked)):
            return [row["id"] >> EVENT_BITS for row in await self.rows(text(self.words.BY_SESSION), values)]
        # every step would gather all words with this beginning again: so many matches are taken at once instead
        numbers: dict[int, None] = {}
        for _ in range(_ROUNDS):
            ids = [row["id"] for row in await self.rows(text(self.words.BY_EVENT), {**values, "limit": _STRIDE})]
            numbers.update(dict.fromkeys(each >> EVENT_BITS for each in ids))
            if len(numbers) >= limit or len(ids) < _STRIDE:
                break
            values["high"] = (ids[-1] >> EVENT_BITS) << EVENT_BITS
        return list(numbers)[:limit]

    async def _plain_sessions(self, query: SessionQuery, high: int, limit: int) -> Page[SessionFound]:
        table = schema.sessions.c
        condition = (table.n >= max(1, _from(query.since) >> EVENT_BITS)) & (table.n < high >> EVENT_BITS)
        for column, kind, value in (
            (table.principal, "principal", query.principal),
            (table.connection, "connection", query.connection),
            (table.run, "run", query.run),
        ):
            if value:
                condition &= column == (await self._name(kind, value) or -1)
        if query.live is not None:
            condition &= (table.ended_at.is_(None) & ~table.refused) if query.live else (table.ended_at.is_not(None) | table.refused)
        return await self._page_of_sessions(await self._sessions(condition, limit + 1), limit)

    async def _page_of_sessions(self, found: Sequence[SessionFound], limit: int) -> Page[SessionFound]:
        items = tuple(found[:limit])
        if len(found) <= limit or not items:
            return Page(items)
        last = await self.rows(select(schema.sessions.c.n).where(schema.sessions.c.id == items[-1].id))
        return Page(items, str(last[0]["n"] << EVENT_BITS))

    async def _numbered(self, numbers: Sequence[int]) -> list[SessionFound]:
        return await self._sessions(schema.sessions.c.n.in_(numbers), len(numbers)) if numbers else []

    async def _sessions(self, condition: ColumnElement[bool], limit: int) -> list[SessionFound]:
        table = schema.sessions.c
        named = {each: schema.names.alias() for each in ("principal", "connection", "run", "process")}
        statement: Select[Any] = select(
            *(name.c.value.label(each) for each, name in named.items()),
            *(table[each] for each in ("id", "kind", "peer", "reason", "recording", "refused", "opened_at", "active_at", "ended_at")),
            *(table[each] for each in ("operations", "denied", "held", "masked")),
        ).select_from(schema.sessions)
        for each, name in named.items():
            statement = statement.outerjoin(name, name.c.n == table[each])
        rows = await self.rows(statement.where(condition).order_by(table.n.desc()).limit(limit))
        for row in rows:
            row.update({each: row[each] or "" for each in named})
        return [SessionFound(**row) for row in rows]

    async def _events(self, statement: Select[Any]) -> list[Event]:
        return [_event(row) for row in await self.rows(statement)]


def _events() -> Select[Any]:
    table, process = schema.events, schema.names.alias()
    columns = [each for each in table.c if each.name not in ("process", "tags")]
    return (
        select(*columns, process.c.value.label("process"), schema.sessions.c.id.label("session"))
        .join_from(table, process, process.c.n == table.c.process)
        .join(schema.sessions, schema.sessions.c.n == literal_column(f"index_events.id >> {EVENT_BITS}"))
    )


def _event(row: dict[str, Any]) -> Event:
    row["cursor"] = str(row.pop("id"))
    row["rules"] = tuple(row["rules"].split())
    row["detail"] = orjson.loads(row["detail"]) if row["detail"] else {}
    return Event(**row)


def _from(since: float | None) -> int:
    """The lowest event id of sessions opened at or after `since`; session 0 is none."""
    return (1 if since is None else schema.session_number(since)) << EVENT_BITS


def _below(until: float | None) -> int:
    return _TOP if until is None else schema.session_number(until) << EVENT_BITS


def _cursor(text: str, otherwise: int) -> int:
    if not text:
        return otherwise
    if not text.isdecimal() or not text.isascii() or len(text) > 19:
        raise ValueError("not a page that was given out")
    return int(text)
