"""Rule and RuleSet: what `rules.load` builds and `rules.decide` asks."""

from __future__ import annotations

from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass, field, replace
from typing import Final, Literal

from rules.expressions import Expression
from rules.match import Condition, Truth, all_of
from rules.model import UNKNOWN, Connection, Decision, Hold, Kind, Limits, Mask, Operation, Phase, Principal
from rules.vocabulary import PEER_FACTS, TIME_FACTS

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
_CACHED_SCOPES: Final = 512
_CACHED_DECISIONS: Final = 4096


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
    message: str = ""
    mask: Mask | None = None
    hold: Hold | None = None
    limits: Limits = field(default_factory=Limits)
    facts: frozenset[str] = frozenset()  # every fact that it names
    lists: tuple[tuple[str, str], ...] = ()  # list facts and (header or query, name) entries that it names
    phase: Phase = "request"
    methods: frozenset[str] | None = None  # the only methods that it can match, when they are literals
    prefix: tuple[str, ...] = ()  # leading path segments of everything that it can match

    def scope(self, principal: Principal, connection: Connection) -> Truth:
        """Whether `who` and `where` hold. `decide` asks once for each principal and connection."""
        try:
            truths = [*(r.test(principal) for r in self.who), *(r.test(connection) for r in self.where)]
        except Exception:
            return UNKNOWN
        return all_of(truths)


def _unknown_scope(operation: Operation) -> Truth:
    return UNKNOWN


class Candidates:
    """The rules that one principal meets on one connection with one kind and phase of operation, found by path and method."""

    __slots__ = ("_root", "all", "owners")

    def __init__(self, rules: Iterable[Rule], principal: Principal, connection: Connection) -> None:
        self.owners = (principal, connection)  # kept alive: the cache is keyed by their ids
        found = []
        for rule in rules:
            truth = rule.scope(principal, connection)
            if truth is not False:
                doubt = (Condition("who", _unknown_scope),)
                found.append(rule if truth is True else replace(rule, conditions=doubt + rule.conditions))
        self.all: Final = tuple(found)
        self._root = _Node(self.all)

    def matching(self, path: object, method: object) -> tuple[Rule, ...]:
        """Every rule that can be anything but false for this path and method; all rules where they are not known."""
        if type(path) is not str or type(method) is not str:
            return self.all
        node = self._root
        if node.children:
            for segment in path.split("/")[1:]:
                below = node.children.get(segment)
                if below is None:
                    break
                node = below
        return node.select(method)


class _Node:
    """One literal path segment: `rules` are those of this node and of every node above it."""

    __slots__ = ("_by_method", "children", "rules")

    def __init__(self, rules: Sequence[Rule], depth: int = 0) -> None:
        here = [rule for rule in rules if len(rule.prefix) <= depth]
        deeper: dict[str, list[Rule]] = {}
        for rule in rules:
            if len(rule.prefix) > depth:
                deeper.setdefault(rule.prefix[depth], [])
        for segment, below in deeper.items():
            below.extend(rule for rule in rules if len(rule.prefix) <= depth or rule.prefix[depth] == segment)
        self.rules = tuple(here)
        self.children = {segment: _Node(below, depth + 1) for segment, below in deeper.items()}
        self._by_method: dict[str, tuple[Rule, ...]] = {}

    def select(self, method: str) -> tuple[Rule, ...]:
        found = self._by_method.get(method)
        if found is None:
            found = tuple(rule for rule in self.rules if rule.methods is None or method in rule.methods)
            if method in _METHODS:  # the caller makes up methods; the cache must not grow with them
                self._by_method[method] = found
        return found


class RuleSet:
    """All rules in force, ordered by id so that the order in files can never matter, with what `decide` looks up in them."""

    def __init__(self, rules: Iterable[Rule], version: str = "") -> None:
        self.rules = tuple(sorted(rules, key=lambda rule: rule.id))
        self.version = version
        self.detectors_used = frozenset(name for rule in self.rules if rule.mask for name in rule.mask.detect)
        named = frozenset(fact for rule in self.rules for fact in rule.facts)
        self.depends_on_time = not named.isdisjoint(TIME_FACTS)
        self.depends_on_time_or_peer = not named.isdisjoint(TIME_FACTS | PEER_FACTS)
        self._response_kinds = frozenset(kind for rule in self.rules if rule.phase == "response" for kind in rule.kinds)
        self._candidates: dict[tuple[Kind, Phase, int, int], Candidates] = {}
        self.decisions: dict[object, Decision] = {}  # by outcome; see rules.decide

    def __len__(self) -> int:
        return len(self.rules)

    def response_rules(self, kind: Kind) -> bool:
        """Whether any rule of `kind` names a response fact."""
        return kind in self._response_kinds

    def candidates(self, kind: Kind, phase: Phase, principal: Principal, connection: Connection) -> Candidates:
        """The rules to evaluate. Request phase: all but response rules. Response phase: response rules and every mask."""
        key = (kind, phase, id(principal), id(connection))
        found = self._candidates.get(key)
        if found is None:
            if len(self._candidates) >= _CACHED_SCOPES:
                self._candidates.clear()
            found = Candidates(self._of(kind, phase), principal, connection)
            self._candidates[key] = found
        return found

    def _of(self, kind: Kind, phase: Phase) -> list[Rule]:
        wanted = (rule for rule in self.rules if kind in rule.kinds)
        if phase == "response":
            return [rule for rule in wanted if rule.phase == "response" or rule.effect == "mask"]
        return [rule for rule in wanted if rule.phase == "request"]

    def remember(self, outcome: object, decision: Decision) -> None:
        """Keep the decision of one outcome, so that the next equal outcome is the very same object."""
        if len(self.decisions) >= _CACHED_DECISIONS:
            self.decisions.clear()
        self.decisions[outcome] = decision
