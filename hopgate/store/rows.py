"""What the store gives back: frozen rows without a trace of the database driver.

Times are seconds since the epoch. Identities are written `issuer:subject`, as `str(Principal)` gives them.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, Literal

type LockKind = Literal["subject", "run", "connection", "all"]
type KillKind = Literal["session", "subject", "run", "connection", "all"]
type ApprovalState = Literal["pending", "approved", "denied", "expired", "withdrawn", "consumed", "cancelled"]
type NotificationState = Literal["waiting", "sent", "failed", "dropped"]
type Verdict = Literal["approve", "deny"]


@dataclass(frozen=True, slots=True)
class SessionRow:
    """One principal's use of one connection. `ended_at` None means open, or that its process died before it could say."""

    id: str
    issuer: str
    subject: str
    connection: str
    kind: str
    process: str
    opened_at: float
    peer: str = ""
    groups: tuple[str, ...] = ()
    run: str = ""
    token_id: str = ""
    recording: str = ""  # path relative to the state directory
    operations: int = 0
    denied: int = 0
    held: int = 0
    bytes: int = 0
    active_at: float = 0.0
    ended_at: float | None = None
    reason: str = ""

    @property
    def identity(self) -> str:
        return f"{self.issuer}:{self.subject}"


@dataclass(frozen=True, slots=True)
class TokenRow:
    """A short token that was given in exchange for a long one. The token itself is nowhere: only its digest and its SCRAM verifier."""

    digest: str
    scram_verifier: str = field(repr=False)
    principal_json: str = field(repr=False)
    expires_at: float


@dataclass(frozen=True, slots=True)
class Revocation:
    """A token (its SHA-256 as hex, or its `jti`) that is good no longer; kept until the token would have ended by itself."""

    token_id: str
    expires_at: float
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Lock:
    """A principal, claimed run, connection or everything, shut until somebody unlocks it. `value` is empty for `all`."""

    kind: LockKind
    value: str
    by: str
    reason: str
    at: float


@dataclass(frozen=True, slots=True)
class Kill:
    """An order to the process that holds `session` to end it. `kind` and `value` tell what was killed as a whole."""

    session: str
    kind: KillKind
    value: str
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Head:
    """How far a process's ledger had come: `n` events, the last of them hashed to `head` (hex). `final` after an orderly close."""

    process: str
    n: int
    head: str
    final: bool
    at: float


@dataclass(frozen=True, slots=True)
class SealedSecret:
    """A secret as it lies in the database: opened only with the key whose id it names."""

    name: str
    version: int
    key_id: str
    wrap_nonce: bytes = field(repr=False)
    wrapped_key: bytes = field(repr=False)
    nonce: bytes = field(repr=False)
    ciphertext: bytes = field(repr=False)
    by: str
    at: float


@dataclass(frozen=True, slots=True)
class Requirement:
    """What one hold rule asks for: `quorum` distinct people, each in one of the `reviewers` groups."""

    rule: str
    reviewers: tuple[str, ...]
    quorum: int = 1


@dataclass(frozen=True, slots=True)
class Vote:
    """What one reviewer decided, with the groups that he had at that moment."""

    issuer: str
    subject: str
    groups: frozenset[str]
    verdict: Verdict
    scope: str
    comment: str
    at: float

    @property
    def identity(self) -> str:
        return f"{self.issuer}:{self.subject}"


@dataclass(frozen=True, slots=True)
class Approval:
    """An operation that waits for reviewers, or the record of how that ended.

    `version` grows with each vote and each change of state. While `state` is approved, it permits the operation with this
    `fingerprint` to the same principal on the same connection until `ends_at`: once, or as often as wanted within the window.
    """

    id: str
    state: ApprovalState
    version: int
    issuer: str
    subject: str
    connection: str
    session: str
    fingerprint: str
    title: str
    text: str
    requirements: tuple[Requirement, ...]
    scopes: tuple[str, ...]  # what a reviewer may grant
    created_at: float
    deadline: float
    rules_version: str = ""
    groups: tuple[str, ...] = ()
    actors: tuple[str, ...] = ()
    run: str = ""
    headers: Mapping[str, str] = field(default_factory=dict, hash=False)
    facts: Mapping[str, Any] = field(default_factory=dict, hash=False)
    outlives: bool = False  # the connection that asked: the same request, repeated after approval, goes through
    process: str = ""
    epoch: str = ""
    waiters: int = 1
    votes: tuple[Vote, ...] = ()
    scope: str = ""  # granted
    ends_at: float = 0.0
    decided_at: float = 0.0
    decided_by: str = ""  # identities, or system:timeout, system:kill …
    comment: str = ""
    uses: int = 0

    @property
    def requester(self) -> str:
        return f"{self.issuer}:{self.subject}"

    @property
    def pending(self) -> bool:
        return self.state == "pending"

    @property
    def approved(self) -> bool:
        return self.state == "approved"


@dataclass(frozen=True, slots=True)
class Notification:
    """Word of one approval to one target. `target` names it without its secrets; `error` says why the last attempt failed.

    waiting -> sent | failed (given up) | dropped (the approval was settled before anybody could be told).
    """

    approval: str
    target: str
    state: NotificationState
    attempts: int
    created_at: float
    due_at: float  # the next attempt
    claimed_until: float  # until then one process is at it
    at: float  # the last attempt
    error: str


@dataclass(frozen=True, slots=True)
class Pruned:
    """How many rows were deleted."""

    approvals: int = 0
    sessions: int = 0
    tokens: int = 0
    revocations: int = 0
