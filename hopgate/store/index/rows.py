"""What the index takes and gives. Times are seconds since the epoch; every text came from outside."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any


def storable(value: Any) -> Any:
    """`value` with every NUL shown as a sign: PostgreSQL stores none."""
    if isinstance(value, str):
        return value.replace("\0", "\u2400")
    if isinstance(value, list):
        return [storable(item) for item in value]
    return {storable(key): storable(item) for key, item in value.items()} if isinstance(value, dict) else value


@dataclass(frozen=True, slots=True)
class Source:
    """How far one process's ledger is indexed: `position` bytes, to the line before `line`, whose hash is `h` (hex) and whose time `t`."""

    process: str
    position: int = 0
    line: int = 0
    h: str = ""
    t: int = 0
    problem: str = ""


@dataclass(frozen=True, slots=True)
class LedgerEvent:
    """One line of a ledger, on its way into the index."""

    process: str
    line: int
    t: int  # nanoseconds since the epoch
    event: str
    fields: Mapping[str, Any]


@dataclass(frozen=True, slots=True)
class SessionQuery:
    """Which sessions. Every condition that is given must hold; rule, effect, kind and text must hold of one event of the session."""

    principal: str = ""  # issuer:subject
    run: str = ""
    connection: str = ""
    rule: str = ""
    effect: str = ""  # allow, deny, hold
    kind: str = ""  # session, http, sql, ssh, rdp
    text: str = ""  # words, each in the title or the message; of the last, the beginning is enough
    since: float | None = None  # opened at or after
    until: float | None = None  # opened before
    live: bool | None = None  # only those that are open, or that have ended


@dataclass(frozen=True, slots=True)
class Page[T]:
    """Some of what was found. `after` is where the next page starts, empty when there is none."""

    items: tuple[T, ...]
    after: str = ""


@dataclass(frozen=True, slots=True)
class SessionFound:
    """A session as the ledgers tell of it. `refused`: it was asked for and never opened."""

    id: str
    principal: str  # issuer:subject
    connection: str
    kind: str
    run: str
    peer: str
    process: str
    opened_at: float
    active_at: float
    ended_at: float | None
    reason: str
    recording: str  # path relative to the state directory
    refused: bool
    operations: int
    denied: int
    held: int
    masked: int

    @property
    def live(self) -> bool:
        """Open, as far as its ledger says."""
        return self.ended_at is None and not self.refused


@dataclass(frozen=True, slots=True)
class Event:
    """One line of a ledger, about a session or about the gateway (`session` empty)."""

    cursor: str  # its place in the timeline
    at: float
    event: str
    session: str
    operation: str
    kind: str
    title: str
    effect: str
    rules: tuple[str, ...]
    message: str
    approval: str
    by: str
    process: str
    line: int
    detail: Mapping[str, Any]  # what else the line says


@dataclass(frozen=True, slots=True)
class RuleCount:
    """How often a rule led to one outcome: allowed, denied, held, approved, refused, masked."""

    rule: str
    outcome: str
    number: int
    first_at: float
    last_at: float


@dataclass(frozen=True, slots=True)
class Hop:
    """A principal's use of a connection within a time. `first_seen` is ever; `is_new` when that lies within the time asked for."""

    principal: str
    connection: str
    first_seen: float
    last_seen: float
    is_new: bool
    sessions: int
    refused: int  # sessions that were asked for and not opened
    operations: int
    denied: int
    held: int


@dataclass(frozen=True, slots=True)
class Seen:
    """How often the operation with a fingerprint was asked for, approved and denied, and who decided last."""

    requested: int = 0
    approved: int = 0
    denied: int = 0
    last_at: float = 0.0
    last_by: str = ""
