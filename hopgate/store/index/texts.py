"""The statements that each kind of database answers in its own way: finding words, and going from session to session."""

from __future__ import annotations

import re
from collections.abc import Iterable
from typing import Final, Protocol

from hopgate.store.index.schema import EVENT_BITS

BEGINNING: Final = 3  # letters that a word's beginning must have: fewer are most of the index
_WORDS: Final = re.compile(r"[^\W_]+")
_COLUMNS: Final = (
    'e.id, e.at, e.line, e.event, e.operation, e.kind, e.title, e.effect, e.rules, e.message, e.approval, e."by", e.detail, '
    "p.value AS process, s.id AS session"
)
_OPERATIONS: Final = "event IN ('decided', 'held', 'withdrawn')"


class Words(Protocol):
    """How one kind of database looks for words. Statements take :match, :low, :high (ids) and :limit."""

    BY_EVENT: str  # ids of events, the newest first
    BY_SESSION: str  # the newest event id of each session, the newest session first: one step a session, however many events match
    LIVE: str  # numbers of sessions that are open
    LATEST: str  # the last :limit operations of each of :sessions (a JSON list of ids)

    @staticmethod
    def match(tags: Iterable[str], asked: str) -> str:
        """What :match takes for an event that has all `tags` and all words of `asked`; "" when nothing is asked for."""
        ...


def asked_for(text: str) -> list[tuple[tuple[str, ...], bool]]:
    """The phrases of a search: `orders_db cust*` asks for orders followed by db, and for a word that begins with cust."""
    phrases = []
    for word in text.lower().split()[:16]:
        parts = tuple(_WORDS.findall(word))
        if parts:
            phrases.append((parts, word.endswith("*") and len(parts[-1]) >= BEGINNING))
    return phrases


def _by_session(one: str) -> str:
    older = one.replace(":high", f"((found.id >> {EVENT_BITS}) << {EVENT_BITS})")
    return (
        f"WITH RECURSIVE found(id, n) AS (SELECT ({one}), 1 UNION ALL SELECT ({older}), n + 1 FROM found "  # noqa: S608
        "WHERE found.id IS NOT NULL AND n < :limit) SELECT id FROM found WHERE id IS NOT NULL"
    )


def _live(exists: str) -> str:
    return (
        f"SELECT s.n FROM index_sessions s WHERE s.ended_at IS NULL AND NOT s.refused AND s.n >= CAST(:low AS bigint) >> {EVENT_BITS} "  # noqa: S608
        f"AND s.n < CAST(:high AS bigint) >> {EVENT_BITS} AND EXISTS ({exists}) ORDER BY s.n DESC LIMIT :limit"
    )


class SqliteWords:
    """FTS5. `index_text` has the words of title, message and tags; its rowids are the events' ids."""

    _FOUND = "SELECT rowid AS id FROM index_text WHERE index_text MATCH :match"
    BY_EVENT = f"{_FOUND} AND rowid >= :low AND rowid < :high ORDER BY rowid DESC LIMIT :limit"
    BY_SESSION = _by_session(f"{_FOUND} AND rowid >= :low AND rowid < :high ORDER BY rowid DESC LIMIT 1")
    LIVE = _live(f"{_FOUND} AND rowid >= (s.n << {EVENT_BITS}) AND rowid < ((s.n + 1) << {EVENT_BITS})")
    # CROSS JOIN is how SQLite is told the order: it would read every event otherwise
    LATEST = f"""
SELECT {_COLUMNS} FROM json_each(:sessions) j CROSS JOIN index_sessions s ON s.id = j.value CROSS JOIN index_events e ON e.id IN (
    SELECT id FROM index_events WHERE id >= (s.n << {EVENT_BITS}) AND id < ((s.n + 1) << {EVENT_BITS}) AND {_OPERATIONS}
    ORDER BY id DESC LIMIT :limit)
CROSS JOIN index_names p ON p.n = e.process ORDER BY e.id DESC
"""  # noqa: S608

    @staticmethod
    def match(tags: Iterable[str], asked: str) -> str:
        """A MATCH expression. Only letters and digits get into it: nothing that is searched for is an operator."""
        phrases = " AND ".join(f'"{" ".join(parts)}"{"*" if beginning else ""}' for parts, beginning in asked_for(asked))
        named = " AND ".join(tags)
        return " AND ".join([f"tags : ({named})"] * bool(named) + [f"{{title message}} : ({phrases})"] * bool(phrases))


class PostgresWords:
    """A tsvector with a GIN index. Tags are words that begin with #, which no word of a text does."""

    SETUP = (
        "ALTER TABLE index_events ADD COLUMN words tsvector GENERATED ALWAYS AS ("
        "to_tsvector('simple', regexp_replace(lower(title || ' ' || message), '[^[:alnum:]]+', ' ', 'g'))"
        " || array_to_tsvector(array_remove(string_to_array(regexp_replace(tags, '(\\S+)', '#\\1', 'g'), ' '), ''))) STORED",
        "CREATE INDEX index_events_by_word ON index_events USING gin (words)",
    )
    _FOUND = "SELECT id FROM index_events WHERE words @@ CAST(CAST(:match AS text) AS tsquery)"
    BY_EVENT = f"{_FOUND} AND id >= :low AND id < :high ORDER BY id DESC LIMIT :limit"
    BY_SESSION = _by_session(f"{_FOUND} AND id >= :low AND id < :high ORDER BY id DESC LIMIT 1")
    LIVE = _live(f"{_FOUND} AND id >= (s.n << {EVENT_BITS}) AND id < ((s.n + 1) << {EVENT_BITS})")
    LATEST = f"""
SELECT {_COLUMNS} FROM index_sessions s CROSS JOIN LATERAL (
    SELECT * FROM index_events WHERE id >= (s.n << {EVENT_BITS}) AND id < ((s.n + 1) << {EVENT_BITS}) AND {_OPERATIONS}
    ORDER BY id DESC LIMIT :limit) e
JOIN index_names p ON p.n = e.process
WHERE s.id IN (SELECT json_array_elements_text(CAST(CAST(:sessions AS text) AS json))) ORDER BY e.id DESC
"""  # noqa: S608

    @staticmethod
    def match(tags: Iterable[str], asked: str) -> str:
        """A tsquery. Only letters and digits get into it."""
        phrases = [
            "(" + " <-> ".join([*(f"'{part}'" for part in parts[:-1]), f"'{parts[-1]}'{':*' if beginning else ''}"]) + ")"
            for parts, beginning in asked_for(asked)
        ]
        return " & ".join([*(f"'#{tag}'" for tag in tags), *phrases])
