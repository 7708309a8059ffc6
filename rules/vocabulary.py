"""The closed words of the rule language: which facts each kind of operation has, of which shape, and their vocabularies.

One table, read by the loader (what may be written), by `rules.match` (how it is compared) and by the documents' test.
"""

from __future__ import annotations

import enum
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Final

from rules.model import Kind, Phase


class Shape(enum.Enum):
    """How a fact is compared with what a rule says about it."""

    TEXT = "glob"
    PATH = "path glob"
    HOST = "glob, case ignored"
    WORD = "word of a closed list"
    NUMBER = "number or {gt, gte, lt, lte}"
    FLAG = "true or false"
    NAME = "SQL name, aligned from the right"
    PROGRAM = "command word"
    CIDR = "address or network"
    HEADERS = "header name -> glob"
    QUERY = "parameter name -> glob"
    BODY = "JSONPath -> value"
    VALUE = "scalar of any type"


@dataclass(frozen=True, slots=True)
class Fact:
    """One fact that rules may name. `many` facts are lists; facts of phase `response` are known only after the request was sent."""

    name: str
    shape: Shape
    many: bool = False
    words: frozenset[str] = frozenset()
    phase: Phase = "request"

    @property
    def mapping(self) -> bool:
        return self.shape in (Shape.HEADERS, Shape.QUERY, Shape.BODY)


WEEKDAYS: Final = ("monday", "tuesday", "wednesday", "thursday", "friday", "saturday", "sunday")  # indexed by datetime.weekday()


def _words(text: str) -> frozenset[str]:
    return frozenset(text.split())


SQL_VERBS: Final = _words(
    """select insert update delete merge truncate create alter drop rename comment grant revoke role_change call do execute prepare
    deallocate copy_in copy_out load explain show set reset begin commit rollback savepoint lock cursor fetch listen notify
    maintenance kill use replication other unknown"""
)
SQL_EFFECTS: Final = _words(
    """read write ddl access_control identity_change settings lexer_state server_file_read server_file_write os_command network
    code_load dynamic_sql server_control maintenance messaging sequence lock sleep large_object bulk_export bulk_import
    calls_unknown_function"""
)
SSH_ACTIONS: Final = _words("exec shell pty subsystem sftp forward reverse_forward agent x11 env")
SSH_FACETS: Final = _words(
    """redirect device interpreter expansion substitution sudo wrapper network environment function background stdin eval control"""
)
SFTP_OPS: Final = _words("""read write append list stat setstat remove mkdir rmdir rename symlink hardlink readlink realpath extended""")
DETECTORS: Final = (
    "jwt",
    "aws_access_key",
    "aws_secret_key",
    "github_token",
    "slack_token",
    "gcp_key",
    "private_key",
    "bearer",
    "email",
    "card",
    "iban",
    "us_ssn",
    "phone",
)
STRATEGIES: Final = ("null", "redact", "fixed", "hash", "partial")
EFFECTS: Final = ("allow", "deny", "hold", "mask")
KINDS: Final[tuple[Kind, ...]] = ("session", "http", "sql", "ssh", "rdp")

_COMPLETE: Final = (Fact("complete", Shape.FLAG), Fact("reason", Shape.TEXT))


def _table(*facts: Fact) -> Mapping[str, Fact]:
    return {fact.name: fact for fact in facts}


FACTS: Final[Mapping[Kind, Mapping[str, Fact]]] = {
    "session": _table(
        Fact("kind", Shape.TEXT),
        Fact("connection", Shape.TEXT),
        Fact("weekday", Shape.WORD, words=frozenset(WEEKDAYS)),
        Fact("hour", Shape.NUMBER),
        Fact("peer", Shape.CIDR),
    ),
    "http": _table(
        Fact("method", Shape.TEXT),
        Fact("scheme", Shape.WORD, words=frozenset({"http", "https"})),
        Fact("host", Shape.HOST),
        Fact("port", Shape.NUMBER),
        Fact("path", Shape.PATH),
        Fact("query", Shape.QUERY),
        Fact("headers", Shape.HEADERS),
        Fact("content_type", Shape.HOST),
        Fact("body", Shape.BODY),
        Fact("body_bytes", Shape.NUMBER),
        Fact("websocket", Shape.FLAG),
        *_COMPLETE,
        Fact("status", Shape.NUMBER, phase="response"),
        Fact("response_headers", Shape.HEADERS, phase="response"),
        Fact("response_bytes", Shape.NUMBER, phase="response"),
    ),
    "sql": _table(
        Fact("dialect", Shape.TEXT),
        Fact("database", Shape.TEXT),
        Fact("verbs", Shape.WORD, many=True, words=SQL_VERBS),
        Fact("effects", Shape.WORD, many=True, words=SQL_EFFECTS),
        Fact("reads", Shape.NAME, many=True),
        Fact("writes", Shape.NAME, many=True),
        Fact("functions", Shape.NAME, many=True),
        Fact("settings", Shape.TEXT, many=True),
        Fact("columns", Shape.NAME, many=True),
        Fact("params", Shape.VALUE, many=True),
        Fact("unbounded", Shape.FLAG),
        *_COMPLETE,
    ),
    "ssh": _table(
        Fact("action", Shape.WORD, words=SSH_ACTIONS),
        Fact("programs", Shape.PROGRAM, many=True),
        Fact("argv", Shape.TEXT),
        Fact("facets", Shape.WORD, many=True, words=SSH_FACETS),
        Fact("op", Shape.WORD, words=SFTP_OPS),
        Fact("paths", Shape.PATH, many=True),
        Fact("destination", Shape.HOST),
        Fact("subsystem", Shape.TEXT),
        Fact("variable", Shape.TEXT),
        *_COMPLETE,
    ),
    "rdp": _table(
        Fact("action", Shape.TEXT),
        Fact("channel", Shape.TEXT),
        Fact("direction", Shape.TEXT),
        Fact("bytes", Shape.NUMBER),
    ),
}
TIME_FACTS: Final = frozenset({"weekday", "hour"})
PEER_FACTS: Final = frozenset({"peer"})

# `when:` sees scalars and short lists only: never a raw body, a header or a query, whose size and shape the caller chooses
EXPRESSION_SHAPES: Final = frozenset(Shape) - {Shape.BODY, Shape.HEADERS, Shape.QUERY}


def shared_facts(kinds: tuple[Kind, ...]) -> Mapping[str, Fact]:
    """The facts that every one of `kinds` has, by name. A fact whose shape differs between two kinds is not shared."""
    first, *others = (FACTS[kind] for kind in kinds)
    return {name: fact for name, fact in first.items() if all(other.get(name) == fact for other in others)}
