"""The rules that one principal meets on one connection, found by method and path instead of one by one.

A rule that is left out is false for the operation, and false beats unknown, so leaving it out changes nothing. What the
index has proved true (a literal method, a path segment by segment) is not tested again.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

from rules.match import Get, Test, Truth, guarded
from rules.model import UNKNOWN, Connection, Decision, Principal
from rules.patterns import is_literal
from rules.rule import Rule

_METHODS: Final = frozenset({"GET", "HEAD", "POST", "PUT", "PATCH", "DELETE", "OPTIONS", "TRACE", "CONNECT"})
# facts with few values, or with values that come again and again: what rules say of them is settled once for each combination
_WORDS: Final[Mapping[str, tuple[str, ...]]] = {"sql": ("verbs", "effects", "unbounded"), "ssh": ("action", "programs", "facets", "op")}
_CACHED_SELECTIONS: Final = 4096
_CACHED_DECISIONS: Final = 4096


@dataclass(slots=True, eq=False)
class Selection:
    """Rules that are true already, rules with the tests that are left, and the decisions that outcomes led to."""

    settled: tuple[Rule, ...]
    open: tuple[tuple[Rule, tuple[Test, ...]], ...]
    decisions: dict[tuple[tuple[Rule, ...], tuple[Rule, ...]], Decision] = field(default_factory=dict)

    def remember(self, outcome: tuple[tuple[Rule, ...], tuple[Rule, ...]], decision: Decision) -> None:
        """Keep the decision of one outcome, so that the next equal outcome is the very same object."""
        if len(self.decisions) >= _CACHED_DECISIONS:
            self.decisions.clear()
        self.decisions[outcome] = decision


class Candidates:
    """The rules of one kind and phase whose `who` and `where` are not false for one principal and connection."""

    def __init__(self, rules: Iterable[Rule], principal: Principal, connection: Connection) -> None:
        self.owners = (principal, connection)  # kept alive: the cache that holds this is keyed by their ids
        truths = [(rule, rule.scope(principal, connection)) for rule in rules]
        self.rules = tuple(rule for rule, truth in truths if truth is not False)
        self.doubtful = frozenset(rule for rule, truth in truths if truth is UNKNOWN)
        self._root = _Node()
        self._selections: dict[tuple[object, ...], Selection] = {}
        for rule in self.rules:
            self._root.insert(rule)

    def select(self, complete: bool, path: object = None, method: object = None) -> Selection:
        """Every rule that can be anything but false; all of them where path or method is not known."""
        if type(path) is not str or type(method) is not str:
            key: tuple[object, ...] = (complete,)
            return self._selections.get(key) or self._add(key, self._everything(complete))
        below, here = self._root.walk(path)
        # the caller makes up methods and paths; what is kept is bounded
        known = method if method in _METHODS else ""
        key = (complete, known, len(below), *below, *here)
        found = self._selections.get(key) if known else None
        return found or self._add(key if known else (), self._indexed(complete, method, below, here))

    def select_words(self, complete: bool, get: Get, kind: str) -> Selection:
        """As `select`, for operations of a kind that has facts in `_WORDS`."""
        names = _WORDS[kind]
        try:
            words = tuple([get(name) for name in names])
            if kind == "ssh" and not _is_short(words[1]):
                return self.select(complete)
            key = (complete, "words", *words)
            found = self._selections.get(key)  # TypeError where a fact is no word or tuple of words
        except Exception:
            return self.select(complete)
        return found or self._add(key, self._settled_by(complete, dict(zip(names, words, strict=True))))

    def _settled_by(self, complete: bool, words: Mapping[str, object]) -> Selection:
        found = []
        for rule in self.rules:
            if rule.complete not in (None, complete):
                continue
            truths = {one.label: guarded(one.test, words.get) for one in rule.conditions if one.label.removeprefix("match.") in words}
            if False not in truths.values():
                found.append((rule, frozenset(label for label, truth in truths.items() if truth is True)))
        return self._selection(found)

    def _add(self, key: tuple[object, ...], selection: Selection) -> Selection:
        if len(self._selections) >= _CACHED_SELECTIONS:
            self._selections.clear()
        if key:
            self._selections[key] = selection
        return selection

    def _everything(self, complete: bool) -> Selection:
        return self._selection([(rule, frozenset()) for rule in self.rules if rule.complete in (None, complete)])

    def _indexed(self, complete: bool, method: str, below: Sequence[_Node], here: Sequence[_Node]) -> Selection:
        proved: dict[Rule, bool] = {}
        for entries in (*(node.below for node in below), *(node.exact for node in here)):
            for rule, whole in entries:
                proved[rule] = proved.get(rule, False) or whole
        found = []
        for rule in self.rules:
            if rule not in proved or rule.complete not in (None, complete) or (rule.methods is not None and method not in rule.methods):
                continue
            labels = {"match.path"} if proved[rule] else set()
            found.append((rule, frozenset(labels if rule.methods is None else labels | {"match.method"})))
        return self._selection(found)

    def _selection(self, rules: Sequence[tuple[Rule, frozenset[str]]]) -> Selection:
        settled, remaining = [], []
        for rule, proved in rules:
            tests = tuple(condition.test for condition in rule.conditions if condition.label not in proved)
            if rule in self.doubtful:
                tests = (_doubt, *tests)
            if tests or rule.when is not None or rule.reason is not None:
                remaining.append((rule, tests))
            else:
                settled.append(rule)
        return Selection(tuple(settled), tuple(remaining))


def _is_short(programs: Any) -> bool:
    """Whether the words of commands may be kept: their callers make them up."""
    return programs is UNKNOWN or programs is None or (len(programs) <= 16 and all(len(name) <= 64 for name in programs))


def _doubt(get: Get) -> Truth:
    return UNKNOWN


class _Node:
    """One path segment. `below` are the rules for this path and all under it, `exact` those for this path alone.

    With each rule stands whether coming here proves its path condition.
    """

    __slots__ = ("any", "below", "children", "exact")

    def __init__(self) -> None:
        self.children: dict[str, _Node] = {}
        self.any: _Node | None = None  # a segment `*`
        self.below: list[tuple[Rule, bool]] = []
        self.exact: list[tuple[Rule, bool]] = []

    def insert(self, rule: Rule) -> None:
        """Put the rule where its path patterns lead; at the root when it has none."""
        if rule.paths is None:
            self.below.append((rule, True))
            return
        for pattern in rule.paths:
            node, rest = self._lead(pattern)
            if not rest:
                node.exact.append((rule, True))
            else:
                node.below.append((rule, rest == ["**"]))

    def _lead(self, pattern: str) -> tuple[_Node, list[str]]:
        """The node as deep as the pattern's segments are certain, and the segments that are left."""
        node, segments = self, pattern.split("/")
        if segments[0] or pattern == "/**":
            return node, [pattern]
        for index, segment in enumerate(segments[1:], 1):
            if segment == "*":
                node.any = node.any or _Node()
                node = node.any
            elif is_literal(segment):
                node = node.children.setdefault(segment, _Node())
            else:
                return node, segments[index:]
        return node, []

    def walk(self, path: str) -> tuple[list[_Node], list[_Node]]:
        """The nodes on the way whose `below` rules count, and those at the end whose `exact` rules do."""
        below = [self] if self.below else []
        active = [self]
        if not path.startswith("/"):
            return below, []
        for segment in path.split("/")[1:]:
            reached = []
            for node in active:
                child = node.children.get(segment)
                if child is not None:
                    reached.append(child)
                if node.any is not None:
                    reached.append(node.any)
            if not reached:
                return below, []
            below += [node for node in reached if node.below]
            active = reached
        return below, [node for node in active if node.exact]
