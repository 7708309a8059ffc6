"""Rule: one entry of a rule file, compiled."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Literal

from rules.expressions import Expression
from rules.match import Condition, Member, Truth, all_of
from rules.model import UNKNOWN, Connection, Hold, Kind, Limits, Mask, Phase, Principal


@dataclass(frozen=True, slots=True)
class Restriction[T]:
    """One key of `who:` or `where:`."""

    label: str
    test: Callable[[T], Truth] = field(compare=False)


@dataclass(frozen=True, slots=True, eq=False)
class Rule:
    """Who, where, which facts, and one effect. Built by `rules.load`; `conditions` are ordered by cost."""

    id: str
    kinds: frozenset[Kind]
    effect: Literal["allow", "deny", "hold", "mask"]
    source: str = ""  # "my.yaml:12"
    who: tuple[Restriction[Principal], ...] = ()
    where: tuple[Restriction[Connection], ...] = ()
    conditions: tuple[Condition, ...] = ()
    when: Expression | None = None
    complete: bool | None = None  # what `match:` says about it
    reason: Member | None = None  # a test of the operation's reason
    message: str = ""
    mask: Mask | None = None
    hold: Hold | None = None
    limits: Limits = field(default_factory=Limits)
    facts: frozenset[str] = frozenset()  # every fact that it names
    lists: tuple[tuple[str, str], ...] = ()  # list facts and (header or query, name) entries that it names
    phase: Phase = "request"
    methods: frozenset[str] | None = None  # the only methods that it can match, when they are literals
    paths: tuple[str, ...] | None = None  # the path patterns of `match:`

    def scope(self, principal: Principal, connection: Connection) -> Truth:
        """Whether `who` and `where` hold. `decide` asks once for each principal and connection."""
        truths: list[Truth] = [_guarded(one.test, principal) for one in self.who]
        return all_of([*truths, *(_guarded(one.test, connection) for one in self.where)])


def _guarded(test: Callable[[Any], Truth], subject: object) -> Truth:
    try:
        return test(subject)
    except Exception:
        return UNKNOWN
