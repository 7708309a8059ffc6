"""Ledger events -> rows of the index. Pure: what the index knew before goes in, what it has to know after comes out."""

from __future__ import annotations

from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from hopgate.store.index.rows import LedgerEvent
from hopgate.store.index.schema import EVENT_BITS, LAST_EVENT

IGNORED: Final = frozenset(("checkpoint", "segment", "recording_closed"))  # of use to `hopgate verify` only
_COLUMNS: Final = frozenset(("i", "t", "event", "session", "operation", "kind", "title", "effect", "rules", "message", "approval", "by"))
_WHO: Final = frozenset(("issuer", "subject", "connection", "run"))  # kept with the session
_OUTCOMES: Final = {"allow": "allowed", "deny": "denied"}
_LONGEST_DETAIL: Final = 16_384  # characters of JSON
_TITLE: Final = 4096


@dataclass(slots=True)
class SessionState:
    """A session's row. `n` is 0 until it has been given a number."""

    id: str
    at: float
    n: int = 0
    principal: int = 0
    connection: int = 0
    run: int = 0
    process: int = 0
    kind: str = ""
    peer: str = ""
    reason: str = ""
    recording: str = ""
    opened: bool = False
    refused: bool = False
    opened_at: float = 0.0
    active_at: float = 0.0
    ended_at: float | None = None
    events: int = 0
    operations: int = 0
    denied: int = 0
    held: int = 0
    masked: int = 0


@dataclass(slots=True)
class Changes:
    """What a batch of events changes besides the sessions."""

    events: list[dict[str, Any]] = field(default_factory=list)
    rules: dict[tuple[int, str], list[float]] = field(default_factory=dict)  # (rule, outcome) -> number, first, last
    hops: dict[tuple[int, int], list[float]] = field(default_factory=dict)  # (principal, connection) -> first, last
    hours: dict[tuple[int, int, int], dict[str, int]] = field(default_factory=dict)
    fingerprints: dict[str, dict[str, Any]] = field(default_factory=dict)


def session_of(event: LedgerEvent) -> str:
    """The id of the session that an event is about, or ""."""
    session = event.fields.get("session")
    return session if isinstance(session, str) else ""


def names_of(event: LedgerEvent) -> Iterable[tuple[str, str]]:
    """(kind, value) of every name that the rows of an event refer to."""
    fields = event.fields
    yield "process", event.process
    if isinstance(fields.get("issuer"), str) and isinstance(fields.get("subject"), str):
        yield "principal", f"{fields['issuer']}:{fields['subject']}"
    for kind in ("connection", "run"):
        if isinstance(fields.get(kind), str) and fields[kind]:
            yield kind, fields[kind]
    for rule in _rules(event):
        yield "rule", rule


def _rules(event: LedgerEvent) -> tuple[str, ...]:
    found = event.fields.get("counts") if event.event == "masked" else event.fields.get("rules")
    return tuple(each for each in found if isinstance(each, str)) if isinstance(found, list | dict) else ()


def build(events: Iterable[LedgerEvent], sessions: dict[str, SessionState], name: Callable[[str, str], int]) -> Changes:
    """Rows for `events`, in their order. `sessions` (all that occur, by id) are brought up to date; `name` numbers a (kind, value)."""
    changes = Changes()
    for event in events:
        if event.event in IGNORED:
            continue
        session = sessions[session_of(event)]
        _learn(session, event, name)
        if event.event == "recording_opened":
            continue
        _count(session, event, changes, name)
        if session.events < LAST_EVENT:
            session.events += 1
            changes.events.append(_row(session, event, name))
    return changes


def _learn(session: SessionState, event: LedgerEvent, name: Callable[[str, str], int]) -> None:
    """What the event says of its session."""
    fields, at = event.fields, event.t / 1e9
    session.active_at = max(session.active_at, at)
    if not session.id:
        return
    match event.event:
        case "session_opened":
            session.opened, session.refused, session.opened_at = True, False, at
            session.peer = _word(fields, "peer")
        case "session_closed" | "session_interrupted":
            session.ended_at = at
            session.reason = _word(fields, "reason") or "interrupted: its process ended without closing it"
        case "recording_opened":
            meta = fields.get("meta")
            session.recording = _word(fields, "file")
            session.kind = (_word(meta, "kind") if isinstance(meta, dict) else "") or session.kind
    if event.event in ("session_opened", "decided", "held"):
        session.process = name("process", event.process)
        if isinstance(fields.get("issuer"), str) and isinstance(fields.get("subject"), str):
            session.principal = name("principal", f"{fields['issuer']}:{fields['subject']}")
            session.connection = name("connection", _word(fields, "connection")) if fields.get("connection") else session.connection
            session.run = name("run", _word(fields, "run")) if fields.get("run") else session.run
            session.peer = _word(fields, "peer") or session.peer


def _count(session: SessionState, event: LedgerEvent, changes: Changes, name: Callable[[str, str], int]) -> None:
    at, what, fields = event.t / 1e9, event.event, event.fields
    effect, kind = _word(fields, "effect"), _word(fields, "kind")
    if what.startswith("approval_"):
        _count_approval(event, changes)
    outcome = ""
    if what == "decided":
        outcome = _OUTCOMES.get(effect, "")
        if fields.get("approval"):
            outcome = {"allowed": "approved", "denied": "refused"}.get(outcome, "")
        session.operations += 1
        session.denied += effect == "deny"
        if kind == "session" and not session.opened:
            session.refused = effect == "deny"
    elif what == "held":
        outcome = "held"
        session.held += 1
    elif what == "masked":
        outcome = "masked"
        counts = fields.get("counts")
        session.masked += sum(each for each in counts.values() if isinstance(each, int)) if isinstance(counts, dict) else 0
    elif what == "response_refused":
        outcome = "denied"
    if outcome:
        for rule in _rules(event):
            number = changes.rules.setdefault((name("rule", rule), outcome), [0, at, at])
            number[0] += 1
            number[2] = max(number[2], at)
    if session.principal and session.connection and what in ("decided", "held", "session_opened"):
        _count_hop(session, at, what, effect, kind, changes)


def _count_hop(session: SessionState, at: float, what: str, effect: str, kind: str, changes: Changes) -> None:
    edge = (session.principal, session.connection)
    seen = changes.hops.setdefault(edge, [at, at])
    seen[0], seen[1] = min(seen[0], at), max(seen[1], at)
    hour = changes.hours.setdefault((int(at // 3600), *edge), {"sessions": 0, "refused": 0, "operations": 0, "denied": 0, "held": 0})
    if what == "session_opened":
        hour["sessions"] += 1
    elif what == "held":
        hour["held"] += 1
    elif kind != "session":
        hour["operations"] += 1
        hour["denied"] += effect == "deny"
    elif not session.opened and effect == "deny":
        hour["refused"] += 1


def _count_approval(event: LedgerEvent, changes: Changes) -> None:
    fields = event.fields
    fingerprint, step = _word(fields, "fingerprint"), event.event.removeprefix("approval_")
    if not fingerprint or step not in ("requested", "approved", "denied"):
        return
    seen = changes.fingerprints.setdefault(fingerprint, {"requested": 0, "approved": 0, "denied": 0, "last_at": 0.0, "last_by": ""})
    seen[step] += 1
    if step != "requested":
        seen["last_at"], seen["last_by"] = event.t / 1e9, _word(fields, "by")


def _row(session: SessionState, event: LedgerEvent, name: Callable[[str, str], int]) -> dict[str, Any]:
    fields = event.fields
    rules = _rules(event)
    kept = _COLUMNS if session.id == "" else _COLUMNS | _WHO
    detail = {key: value for key, value in fields.items() if key not in kept}
    text = orjson.dumps(detail).decode() if detail else ""
    tags = [f"r{name('rule', each)}" for each in rules]
    effect, kind = _word(fields, "effect"), _word(fields, "kind")
    effect = effect or ("hold" if event.event == "held" else "")
    tags += [f"{letter}{each}" for letter, each in zip("pcu", (session.principal, session.connection, session.run), strict=True) if each]
    tags += ([f"x{effect}"] if effect.isalpha() else []) + ([f"k{kind}"] if kind.isalpha() else [])
    return {
        "id": session.n << EVENT_BITS | session.events,
        "at": event.t / 1e9,
        "process": name("process", event.process),
        "line": event.line,
        "event": event.event,
        "operation": _word(fields, "operation"),
        "kind": kind,
        "title": _word(fields, "title")[:_TITLE],
        "effect": effect,
        "rules": " ".join(rules) if rules else "",
        "message": _word(fields, "message")[:_TITLE],
        "approval": _word(fields, "approval"),
        "by": _word(fields, "by") or _word(fields, "reviewer"),
        "detail": text if len(text) <= _LONGEST_DETAIL else orjson.dumps({"cut": len(text)}).decode(),
        "tags": " ".join(tags),
    }


def _word(fields: Any, key: str) -> str:
    value = fields.get(key)
    return value if isinstance(value, str) else ""
