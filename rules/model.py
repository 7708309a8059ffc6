"""The words that rules speak: principals, connections, operations, rules' outcomes.

Everything here is frozen data without I/O; `rules.load` builds a RuleSet, `rules.decide` turns an Operation into a Decision.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field, fields
from typing import Any, Final, Literal, Protocol

type Effect = Literal["allow", "deny", "hold"]
type Kind = Literal["session", "http", "sql", "ssh", "rdp"]
type Phase = Literal["request", "response"]
type Strategy = Literal["null", "redact", "fixed", "hash", "partial"]


class Unknown(enum.Enum):
    """The third truth value, and the value of a fact that could not be worked out."""

    UNKNOWN = "unknown"

    def __repr__(self) -> str:
        return "UNKNOWN"


UNKNOWN: Final = Unknown.UNKNOWN


@dataclass(frozen=True, slots=True)
class Principal:
    """Who is calling, as the identity provider vouched for it. `run` is claimed by the caller, never proved."""

    issuer: str  # the configured issuer's name, not its URL
    subject: str
    groups: frozenset[str] = frozenset()
    claims: Mapping[str, Any] = field(default_factory=dict, hash=False, compare=False)
    expires_at: float = 0.0  # seconds since the epoch
    token_id: str = ""  # SHA-256 of the token as hex; names the token in the store without being it
    peer: str | None = None  # CIDR that the token is bound to
    actors: frozenset[str] = frozenset()  # `act` subjects and `azp`: they may not approve either
    run: str = ""

    @property
    def identity(self) -> tuple[str, str]:
        return (self.issuer, self.subject)

    def __str__(self) -> str:
        return f"{self.issuer}:{self.subject}"


@dataclass(frozen=True, slots=True)
class Connection:
    """What rules may know of a target: never its address or its credential."""

    name: str
    kind: str  # http, postgres, mysql, ssh, rdp …
    labels: Mapping[str, str] = field(default_factory=dict, hash=False, compare=False)


class Facts(Protocol):
    """What the gateway worked out about an operation. Values are str, int, float, bool, None, lists of these, mappings, or UNKNOWN.

    `get` may work a fact out on first use (parsing a body, say) and must not raise: what cannot be worked out is UNKNOWN.
    """

    def get(self, name: str) -> Any: ...


@dataclass(frozen=True, slots=True)
class Exact:
    """What a reviewer sees and what the fingerprint covers. Built only when an operation is held."""

    title: str  # one line: "POST /v1/refunds"
    text: str  # the exact text, not shortened
    payload: bytes  # canonical exact bytes, parameters and meaning-changing state included
    headers: Mapping[str, str] = field(default_factory=dict)  # for the card, credentials already removed


@dataclass(frozen=True, slots=True)
class Operation:
    """One thing a principal asks for inside a session; opening the session is one too.

    With `parts` (SQL statements, SSH simple commands) each part is judged and the strictest result counts.
    """

    kind: Kind
    facts: Facts
    complete: bool = True
    reason: str = ""  # why `complete` is false
    phase: Phase = "request"
    writes: bool = False  # its ledger line must be durable before it goes on
    parts: tuple[Operation, ...] = ()
    exact: Callable[[], Exact] | None = None
    title: str = ""  # one line for the ledger: "GET /v1/customers"; no query, no parameters, no secret


@dataclass(frozen=True, slots=True)
class Mask:
    """What one mask rule hides, and how. Patterns are as written; `rules.masking` compiles them."""

    rule: str
    jsonpath: tuple[str, ...] = ()
    columns: tuple[str, ...] = ()
    headers: tuple[str, ...] = ()
    query: tuple[str, ...] = ()
    detect: tuple[str, ...] = ()
    strategy: Strategy = "redact"
    keep: int = 4
    value: str = ""  # for `fixed`
    predicates: Literal["deny", "allow"] = "deny"


@dataclass(frozen=True, slots=True)
class Hold:
    """What one hold rule asks for. Reviewers left out in the rule come from `approvals:` of the configuration."""

    rule: str
    reviewers: tuple[str, ...] = ()
    quorum: int = 1
    timeout: float | None = None  # seconds; None = the configuration's
    scopes: tuple[str, ...] = ("once",)  # "once" or "fingerprint-15m"


@dataclass(frozen=True, slots=True)
class Limits:
    """The tightest limits of all matching allow rules' sessions; None = not limited."""

    rows: int | None = None
    bytes: int | None = None
    operations_per_minute: int | None = None


@dataclass(frozen=True, slots=True)
class Decision:
    """The effect that all matching rules add up to. `hold` given back by a session means: still pending, not permitted."""

    effect: Effect
    rules: tuple[str, ...] = ()  # ids of the rules that led to the effect
    message: str = ""  # for the caller, in a sentence
    masks: tuple[Mask, ...] = ()
    holds: tuple[Hold, ...] = ()
    limits: Limits = Limits()
    version: str = ""  # of the rule set
    unknown: tuple[str, ...] = ()  # rules that could not be evaluated
    approval: str = ""  # id of the approval that this waits for, or was permitted by
    operation: str = ""  # id of the operation in the ledger, set by the session

    @property
    def allowed(self) -> bool:
        return self.effect == "allow"

    def of(self, operation: str) -> Decision:
        """This decision, of the operation with this id. `dataclasses.replace` takes three times as long, and every operation needs it."""
        copy = object.__new__(Decision)
        for name in _FIELDS:
            _set(copy, name, getattr(self, name))
        _set(copy, "operation", operation)
        return copy


_FIELDS: Final = tuple(each.name for each in fields(Decision) if each.name != "operation")
_set: Final = object.__setattr__


DENY_BY_DEFAULT: Final = Decision("deny", message="no rule allows this")
