"""What the console shows, put together from store, index and rules."""

from __future__ import annotations

from dataclasses import dataclass

from hopgate.store import Approval
from hopgate.store.index import Event, Hop, Seen


@dataclass(frozen=True, slots=True)
class QuorumProgress:
    """How far one hold rule's requirement is met: `people` (issuer:subject) have approved, `missing` more are needed."""

    rule: str
    reviewers: tuple[str, ...]
    quorum: int
    people: tuple[str, ...]
    missing: int


@dataclass(frozen=True, slots=True)
class Card:
    """An approval with what a reviewer wants to know about it."""

    approval: Approval
    left: float  # seconds until it expires; negative when that is over
    progress: tuple[QuorumProgress, ...]
    last_actions: tuple[Event, ...]  # of its session, the newest first, without this request
    seen: Seen  # the same operation before this request
    may_decide: bool  # the reviewer who looks at it
    why_not: str


@dataclass(frozen=True, slots=True)
class HopNode:
    """A principal or connection in the graph of hops."""

    name: str
    first_seen: float
    last_seen: float
    sessions: int
    operations: int
    denied: int


@dataclass(frozen=True, slots=True)
class Hops:
    """Who used which connection between two moments."""

    since: float
    until: float
    principals: tuple[HopNode, ...]
    connections: tuple[HopNode, ...]
    edges: tuple[Hop, ...]


@dataclass(frozen=True, slots=True)
class RuleStatistics:
    """How often a rule decided. `loaded`: it is in force now. `approved` and `refused` tell how what it held ended."""

    rule: str
    loaded: bool
    effect: str  # of the loaded rule
    allowed: int = 0
    denied: int = 0
    held: int = 0
    approved: int = 0
    refused: int = 0
    masked: int = 0
    first_matched: float | None = None
    last_matched: float | None = None

    @property
    def matches(self) -> int:
        """Operations in which it had a say. An operation that was let through by an earlier approval was never held again."""
        return self.allowed + self.denied + self.masked + max(self.held, self.approved + self.refused)
