"""What goes over the wire, as types: requests are checked against them, answers are made of them, and OpenAPI describes them.

Times are seconds since the epoch. Identities are `issuer:subject`.
"""

from __future__ import annotations

from typing import Annotated, Any, Literal

from msgspec import UNSET, Meta, Struct, UnsetType

type Limit = Annotated[int, Meta(ge=1, le=500, description="how many at most")]
type Seconds = Annotated[float, Meta(ge=0, le=100_000_000_000, description="seconds since the epoch")]
_TEXT = r"^[^\x00\ud800-\udfff]*$"  # what a database can hold
type Word = Annotated[str, Meta(max_length=300, pattern=_TEXT)]
type Cursor = Annotated[str, Meta(max_length=400, pattern=_TEXT, description="`after` of the page before; empty for the first")]


class Problem(Struct):
    """RFC 9457."""

    type: str
    title: str
    status: int
    detail: str


# --- requests


class Nothing(Struct, forbid_unknown_fields=True):
    """No parameters."""


class ApprovalsQuery(Struct, forbid_unknown_fields=True):
    """Which approvals: those in one state, or all."""

    state: Literal["", "pending", "approved", "denied", "expired", "withdrawn", "consumed", "cancelled"] = "pending"
    limit: Limit = 100


class SessionsQuery(Struct, forbid_unknown_fields=True):
    """Which sessions: every filter that is given must match."""

    principal: Word = ""
    run: Word = ""
    connection: Word = ""
    rule: Word = ""
    effect: Literal["", "allow", "deny", "hold"] = ""
    kind: Literal["", "session", "http", "sql", "ssh", "rdp"] = ""
    text: Word = ""
    since: Seconds | None = None
    until: Seconds | None = None
    live: bool | None = None
    after: Cursor = ""
    limit: Limit = 50


class PageQuery(Struct, forbid_unknown_fields=True):
    """Which page: `after` is the cursor that the one before gave."""

    after: Cursor = ""
    limit: Limit = 200


class HopsQuery(Struct, forbid_unknown_fields=True):
    """The window: hops between two moments."""

    since: Seconds = 0.0
    until: Seconds | None = None


class DecisionBody(Struct, forbid_unknown_fields=True):
    """`fingerprint` and `version` are those of the approval as it was seen: another one is a 409."""

    verdict: Literal["approve", "deny"]
    fingerprint: Annotated[str, Meta(min_length=1, max_length=200, pattern=_TEXT)]
    version: Annotated[int, Meta(ge=0, le=1_000_000_000)]
    scope: Annotated[str, Meta(max_length=40, pattern=_TEXT)] = "once"
    comment: Annotated[str, Meta(max_length=2000, pattern=_TEXT)] = ""


class KillBody(Struct, forbid_unknown_fields=True):
    """`value` is a session's id, issuer:subject, a claimed run or a connection; empty for `all`."""

    kind: Literal["session", "subject", "run", "connection", "all"]
    value: Word = ""


class LockQuery(Struct, forbid_unknown_fields=True):
    """One lock."""

    kind: Literal["subject", "run", "connection", "all"]
    value: Word = ""


class ExplainBody(Struct, forbid_unknown_fields=True):
    """`text` is SQL, a command line, or METHOD PATH; empty asks for opening a session."""

    connection: Annotated[str, Meta(min_length=1, max_length=63, pattern=_TEXT)]
    subject: Annotated[str, Meta(min_length=1, max_length=255, pattern=_TEXT)]
    groups: Annotated[list[Annotated[str, Meta(min_length=1, max_length=255, pattern=_TEXT)]], Meta(max_length=200)] = []
    text: Annotated[str, Meta(max_length=32768, pattern=_TEXT)] = ""
    body: Annotated[str, Meta(max_length=32768, pattern=_TEXT)] = ""


# --- answers


class Me(Struct):
    """Who the caller is, and what he may do."""

    principal: str
    groups: list[str]
    roles: list[str]


class Requirement(Struct):
    """What one hold rule asks for."""

    rule: str
    reviewers: list[str]
    quorum: int


class Vote(Struct):
    """What one reviewer said."""

    identity: str
    verdict: str
    scope: str
    comment: str
    at: float


class Approval(Struct):
    """A held operation and what became of it."""

    id: str
    state: str
    version: int
    requester: str
    groups: list[str]
    run: str
    connection: str
    session: str
    fingerprint: str
    title: str
    text: str
    headers: dict[str, str]
    facts: dict[str, Any]
    requirements: list[Requirement]
    scopes: list[str]
    votes: list[Vote]
    created_at: float
    deadline: float
    waiters: int
    rules_version: str
    scope: str
    ends_at: float
    decided_at: float
    decided_by: str
    comment: str
    uses: int


class Event(Struct):
    """One line of a ledger."""

    cursor: str
    at: float
    event: str
    session: str
    operation: str
    kind: str
    title: str
    effect: str
    rules: list[str]
    message: str
    approval: str
    by: str
    process: str
    line: int
    detail: dict[str, Any]


class Seen(Struct):
    """How often this very operation was asked for before, and how that ended."""

    requested: int
    approved: int
    denied: int
    last_at: float
    last_by: str


class Progress(Struct):
    """How far one hold rule's quorum is."""

    rule: str
    reviewers: list[str]
    quorum: int
    people: list[str]
    missing: int


class Card(Struct):
    """An approval with its context. `why_not` says why the caller may not decide."""

    approval: Approval
    progress: list[Progress]
    last_actions: list[Event]
    seen: Seen
    may_decide: bool
    why_not: str


class Session(Struct):
    """A session, and what was counted in it."""

    id: str
    principal: str
    connection: str
    kind: str
    run: str
    peer: str
    process: str
    opened_at: float
    active_at: float
    ended_at: float | None
    reason: str
    refused: bool
    live: bool
    operations: int
    denied: int
    held: int
    masked: int


class Approvals(Struct):
    """The approvals that were asked for."""

    approvals: list[Approval]


class Sessions(Struct):
    """`after` is empty on the last page."""

    sessions: list[Session]
    after: str


class Events(Struct):
    """`after` goes on where this page ends, for what is still to come too."""

    events: list[Event]
    after: str


class Killed(Struct):
    """The sessions that were ended."""

    sessions: list[str]


class Lock(Struct):
    """Who is locked out, by whom and why."""

    kind: str
    value: str
    by: str
    reason: str
    at: float


class Locks(Struct):
    """All locks."""

    locks: list[Lock]


class Rule(Struct):
    """A rule, and how often it had a say."""

    rule: str
    loaded: bool
    effect: str
    matches: int
    allowed: int
    denied: int
    held: int
    approved: int
    refused: int
    masked: int
    first_matched: float | None
    last_matched: float | None


class Rules(Struct):
    """`problems` says why the files on disk are not in force."""

    version: str
    problems: list[str]
    rules: list[Rule]


class Explained(Struct):
    """What would be decided, and by which rules."""

    effect: str
    rules: list[str]
    message: str
    decided: str
    facts: dict[str, Any]
    complete: bool
    reason: str = ""


class Hop(Struct):
    """One principal's way to one connection."""

    principal: str
    connection: str
    first_seen: float
    last_seen: float
    is_new: bool
    sessions: int
    refused: int
    operations: int
    denied: int
    held: int


class Hops(Struct):
    """The hops of a window."""

    since: float
    until: float
    hops: list[Hop]


class Verification(Struct):
    """`report` is what `hopgate verify --json` printed last; `at` 0: nothing was verified yet."""

    running: bool
    at: float
    failed: str
    report: dict[str, Any] | UnsetType = UNSET
