"""The tables of the index: everything here is worked out again from the ledgers, so another version of it is dropped and made anew.

An event's id is the number of its session above `EVENT_BITS` bits of its place in the session. Sessions are numbered by the moment
they were opened: ids sort by session, the newest last, and in a session by order of appearance. So one ordered index answers a
session's timeline, the newest sessions that have a matching event, and where a page goes on. Session 0 is the gateway itself.
"""

from __future__ import annotations

from typing import Final

from sqlalchemy import BigInteger, Boolean, Column, Float, Index, Integer, MetaData, Table, Text, text

VERSION: Final = "1"
EVENT_BITS: Final = 26  # 67 million events a session; what comes after is counted, not kept
LAST_EVENT: Final = (1 << EVENT_BITS) - 1
SESSIONS_EPOCH: Final = 1_577_836_800.0  # 2020-01-01: sessions are numbered in hundredths of a second from here, until 2063

metadata: Final = MetaData()


def _text(name: str, **options: object) -> Column[str]:
    return Column(name, Text, nullable=False, server_default="", **options)  # type: ignore[arg-type]


def _count(name: str) -> Column[int]:
    return Column(name, Integer, nullable=False, server_default="0")


def _number(name: str, **options: object) -> Column[int]:
    # SQLite gives a rowid only to what is spelled INTEGER
    return Column(name, BigInteger().with_variant(Integer, "sqlite"), nullable=False, **options)  # type: ignore[arg-type]


about: Final = Table("index_about", metadata, _text("key", primary_key=True), _text("value"))

names: Final = Table(
    "index_names",
    metadata,
    Column("n", Integer, primary_key=True, autoincrement=True),
    _text("kind"),  # principal, connection, run, rule, process
    _text("value"),
    Index("index_names_by_value", "kind", "value", unique=True),
)

sources: Final = Table(
    "index_sources",
    metadata,
    _text("process", primary_key=True),
    _number("position"),  # bytes of the file that are indexed
    _number("line"),  # the next line's number
    _text("h"),  # the chain hash of the last line that is indexed
    _number("t"),  # … and its time in nanoseconds
    _text("problem"),
)

sessions: Final = Table(
    "index_sessions",
    metadata,
    _number("n", primary_key=True, autoincrement=False),
    _text("id", unique=True),
    *(_count(name) for name in ("principal", "connection", "run", "process")),  # of names; 0 = not known
    *(_text(name) for name in ("kind", "peer", "reason", "recording")),
    *(Column(name, Boolean, nullable=False) for name in ("opened", "refused")),
    Column("opened_at", Float, nullable=False),
    Column("active_at", Float, nullable=False),
    Column("ended_at", Float),
    *(_count(name) for name in ("events", "operations", "denied", "held", "masked")),
    Index("index_sessions_by_principal", "principal", "n"),
    Index("index_sessions_by_connection", "connection", "n"),
    Index("index_sessions_by_run", "run", "n", sqlite_where=text("run <> 0"), postgresql_where=text("run <> 0")),
    Index("index_sessions_live", "n", sqlite_where=text("ended_at IS NULL"), postgresql_where=text("ended_at IS NULL")),
)

events: Final = Table(
    "index_events",
    metadata,
    _number("id", primary_key=True, autoincrement=False),
    Column("at", Float, nullable=False),
    _count("process"),
    _number("line"),
    *(_text(name) for name in ("event", "operation", "kind", "title", "effect", "rules", "message", "approval", "by", "detail")),
    _text("tags"),  # words for what is not text: xdeny (effect), ksql (kind), r1 p2 c3 u4 (rule, principal, connection, run by name)
)

rules: Final = Table(
    "index_rules",
    metadata,
    Column("rule", Integer, primary_key=True, autoincrement=False),
    _text("outcome", primary_key=True),
    _count("number"),
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
)

hops: Final = Table(
    "index_hops",
    metadata,
    Column("principal", Integer, primary_key=True, autoincrement=False),
    Column("connection", Integer, primary_key=True, autoincrement=False),
    Column("first_at", Float, nullable=False),
    Column("last_at", Float, nullable=False),
)

hop_hours: Final = Table(
    "index_hop_hours",
    metadata,
    Column("hour", Integer, primary_key=True, autoincrement=False),  # since the epoch
    Column("principal", Integer, primary_key=True, autoincrement=False),
    Column("connection", Integer, primary_key=True, autoincrement=False),
    *(_count(name) for name in ("sessions", "refused", "operations", "denied", "held")),
)

fingerprints: Final = Table(
    "index_fingerprints",
    metadata,
    _text("fingerprint", primary_key=True),
    *(_count(name) for name in ("requested", "approved", "denied")),
    Column("last_at", Float, nullable=False),
    _text("last_by"),
)

# FTS5 keeps only the words; the text itself is read from the events' table. `orders_db` is two words, searched for as a phrase
SQLITE_TEXT: Final = (
    "CREATE VIRTUAL TABLE IF NOT EXISTS index_text USING fts5("
    "title, message, tags, content='index_events', content_rowid='id', tokenize='unicode61')"
)


def session_number(at: float) -> int:
    """The number that a session opened at `at` (seconds since the epoch) should have, if nobody else has it."""
    return max(1, int((at - SESSIONS_EPOCH) * 100))
