"""`match:` and `not:` -> conditions. One fact of the vocabulary a key; every pattern is compiled where it stands."""

from __future__ import annotations

import re
from collections.abc import Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Final

from rules.document import Node, nearest
from rules.grammar import Grammar
from rules.jsonpath import BadPath, compile_find
from rules.match import (
    COMPARISONS,
    Comparison,
    Condition,
    Member,
    Pattern,
    Quantifier,
    compile_member,
    describe,
    entry_test,
    fact_test,
    inner_quantifier,
    not_test,
    outer_quantifier,
)
from rules.patterns import BadPattern, is_literal
from rules.quantities import parse_size
from rules.vocabulary import Fact, Shape

_TOKEN: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Za-z-]+")  # RFC 9110 section 5.6.2
_METHOD: Final = re.compile(r"[!#$%&'*+.^_`|~0-9A-Z?-]+")
_COST: Final = {Shape.HEADERS: 3, Shape.QUERY: 3, Shape.BODY: 9, Shape.CIDR: 2, Shape.NAME: 2}
_LONGEST: Final = 256
_WHOLE: Final = ("complete", "reason")  # said of the whole operation


@dataclass
class Matched:
    """What one `match:` or `not:` block says."""

    conditions: list[Condition] = field(default_factory=list)
    facts: set[str] = field(default_factory=set)
    lists: set[tuple[str, str]] = field(default_factory=set)
    complete: bool | None = None
    methods: frozenset[str] | None = None
    paths: tuple[str, ...] | None = None
    reason: Member | None = None


class Conditions:
    """Reads the conditions of one rule, whose effect chooses the quantifiers."""

    def __init__(self, grammar: Grammar, facts: Mapping[str, Fact], effect: str, kinds: str) -> None:
        self._grammar = grammar
        self._facts = facts
        self._effect = effect
        self._kinds = kinds

    def match(self, node: Node) -> Matched:
        """The `match:` block, with a `not:` inside it."""
        matched = Matched()
        entries = self._known(node, "match", inside=False)
        for name, value in entries.items():
            if name == "not":
                self.negated(value, matched)
            elif name == "reason":
                matched.facts.add(name)
                matched.reason = self._member(self._facts[name], value, outer_quantifier(self._effect))[1]
            elif name == "complete":
                matched.facts.add(name)
                matched.complete = self._complete(value)
            else:
                self._fact(self._facts[name], value, "match", outer_quantifier(self._effect), matched)
        return matched

    def negated(self, node: Node, into: Matched) -> None:
        """A `not:` block: one condition, built with the quantifiers swapped."""
        inner = Matched()
        for name, value in self._known(node, "not", inside=True).items():
            self._fact(self._facts[name], value, "not", inner_quantifier(self._effect), inner)
        tests = [condition.test for condition in inner.conditions]
        into.conditions.append(Condition("not", not_test(tests), 1 + sum(condition.cost for condition in inner.conditions)))
        into.facts |= inner.facts
        into.lists |= inner.lists

    def _known(self, node: Node, block: str, *, inside: bool) -> dict[str, Node]:
        entries = self._grammar.mapping(node, f"`{block}:`", some=True)
        names = sorted(self._facts)
        for name in entries:
            if name in _WHOLE and inside:
                self._grammar.wrong(node.keys[name], f"write `{name}` in `match:`, not inside `not:`")
            elif name == "not" and inside:
                self._grammar.wrong(node.keys[name], "`not:` inside `not:` says nothing new: write the conditions in `match:`")
            elif name not in self._facts and name != "not":
                self._grammar.wrong(node.keys[name], f"unknown fact `{name}` for `on: {self._kinds}`, {nearest(name, names)}")
        return {
            name: value
            for name, value in entries.items()
            if (name in self._facts and not (inside and name in _WHOLE)) or (name == "not" and not inside)
        }

    def _complete(self, node: Node) -> bool | None:
        if not isinstance(node.value, bool):
            self._grammar.wrong(node, f"`complete` is true or false, got {describe(node.value)}")
            return None
        return node.value

    def _fact(self, fact: Fact, node: Node, block: str, quantifier: Quantifier, matched: Matched) -> None:
        matched.facts.add(fact.name)
        if fact.mapping:
            self._entries(fact, node, block, quantifier, matched)
            return
        patterns, member = self._member(fact, node, quantifier)
        if member is None:
            return
        cost = _COST.get(fact.shape, 1 if fact.many else 0)
        matched.conditions.append(Condition(f"{block}.{fact.name}", fact_test(fact, member, quantifier), cost))
        if fact.many:
            matched.lists.add((fact.name, ""))
        if block == "match" and all(isinstance(pattern, str) for pattern in patterns):
            self._index(fact, [str(pattern) for pattern in patterns], matched)

    def _member(self, fact: Fact, node: Node, quantifier: Quantifier) -> tuple[list[Pattern], Member | None]:
        """The patterns of a fact, and one test of a member against any of them; None when none is left."""
        patterns = self._patterns(fact, node)
        if not patterns:
            return [], None
        try:
            return patterns, compile_member(fact, patterns, strict=quantifier is not Quantifier.SOME)
        except BadPattern as error:
            self._grammar.wrong(node, str(error))
            return [], None

    def _index(self, fact: Fact, patterns: list[str], matched: Matched) -> None:
        """What lets `decide` skip the rule unseen: literal methods, and the path patterns."""
        if fact.name == "method" and all(is_literal(pattern) for pattern in patterns):
            matched.methods = frozenset(patterns)
        elif fact.name == "path":
            matched.paths = tuple(patterns)

    def _entries(self, fact: Fact, node: Node, block: str, quantifier: Quantifier, matched: Matched) -> None:
        for key, value in self._grammar.mapping(node, f"`{fact.name}`", some=True).items():
            if not self._key(fact, key, node.keys[key]):
                continue
            member = self._member(fact, value, quantifier)[1]
            if member is None:
                continue
            test = entry_test(fact, key, member, quantifier)
            matched.conditions.append(Condition(f"{block}.{fact.name}.{key}", test, _COST[fact.shape]))
            if fact.shape is not Shape.BODY:
                matched.lists.add((fact.name, key.lower() if fact.shape is Shape.HEADERS else key))

    def _key(self, fact: Fact, key: str, node: Node) -> bool:
        if fact.shape is Shape.BODY:
            try:
                compile_find(key)
            except BadPath as error:
                self._grammar.wrong(node, str(error))
                return False
        elif fact.shape is Shape.HEADERS and _TOKEN.fullmatch(key) is None:
            self._grammar.wrong(node, f"`{key}` is no header name")
            return False
        elif not key or len(key) > _LONGEST:
            self._grammar.wrong(node, f"a name has 1 to {_LONGEST} characters")
            return False
        return True

    # --- patterns

    def _patterns(self, fact: Fact, node: Node) -> list[Pattern]:
        """The patterns that compile; each that does not is a problem at its own place."""
        found: list[Pattern] = []
        for item in self._grammar.items(node, f"`{fact.name}`"):
            before = len(self._grammar.problems)
            pattern = self._pattern(fact, item)
            if len(self._grammar.problems) > before:
                continue
            try:
                compile_member(fact, [pattern], strict=False)
                _sensible(fact, pattern)
            except BadPattern as error:
                expected = f", {nearest(pattern, sorted(fact.words))}" if fact.words and isinstance(pattern, str) else ""
                self._grammar.wrong(item, f"{error}{expected}")
            else:
                found.append(pattern)
        if fact.shape is Shape.FLAG and len(found) > 1:
            self._grammar.wrong(node, f"`{fact.name}` is true or false, not both: leave the key out")
            return []
        return found

    def _pattern(self, fact: Fact, node: Node) -> Pattern:
        value = node.value
        if isinstance(value, dict):
            if fact.shape in (Shape.NUMBER, Shape.BODY, Shape.VALUE):
                return self._comparison(fact, node)
            self._grammar.wrong(node, f"`{fact.name}` takes a pattern or a list of patterns, got a mapping")
            return ""
        if isinstance(value, tuple):
            self._grammar.wrong(node, "a list inside a list: write one list of patterns")
            return ""
        if isinstance(value, str) and fact.shape is Shape.NUMBER:
            return self._amount(fact, node)
        checked: Pattern = value
        return checked

    def _amount(self, fact: Fact, node: Node) -> int | Decimal:
        value = node.value
        if isinstance(value, int | Decimal) and not isinstance(value, bool):
            return value
        if isinstance(value, str) and "bytes" in fact.name:
            size = self._grammar.quantity(node, f"`{fact.name}`", parse_size)
            return 0 if size is None else size
        self._grammar.wrong(node, f"expected a number, got {describe(value)}")
        return 0

    def _comparison(self, fact: Fact, node: Node) -> Comparison:
        entries = self._grammar.mapping(node, "a comparison", COMPARISONS)
        if not node.value:
            self._grammar.wrong(node, f"an empty comparison, expected one of {', '.join(COMPARISONS)}")
        return Comparison(tuple((name, self._amount(fact, value)) for name, value in entries.items()))


def _sensible(fact: Fact, pattern: Pattern) -> None:
    """Refuse what compiles but can never be met by a fact. Raises BadPattern."""
    if fact.name == "method" and isinstance(pattern, str) and not pattern.startswith("re:") and _METHOD.fullmatch(pattern) is None:
        raise BadPattern(f"`{pattern}` is no HTTP method: methods are upper case and case-sensitive (RFC 9110 section 9.1)")
    if fact.name in ("host", "destination") and isinstance(pattern, str) and "/" in pattern and not pattern.startswith(("re:", "unix:")):
        raise BadPattern(f"`{pattern}` is no host name: leave out scheme and path")
    if fact.name == "destination" and isinstance(pattern, str) and is_literal(pattern) and ":" not in pattern:
        raise BadPattern(f"`{pattern}` can never match: write `{pattern}:PORT`, or `{pattern}:*` for every port")
    if fact.name == "host" and isinstance(pattern, str) and ":" in pattern and not pattern.startswith("re:") and pattern.count(":") == 1:
        raise BadPattern(f"`{pattern}` is no host name: write the port as `port:`")
