"""Conditions: what a rule says about one fact, compiled to a test `facts -> true | false | UNKNOWN`.

Truth has three values and UNKNOWN is a truthy object: compare with `is`, never by truthiness.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from decimal import Decimal
from typing import Any, Final

from rules.jsonpath import compile_find
from rules.members import Members
from rules.model import UNKNOWN, Unknown
from rules.patterns import BadPattern, any_matcher, compile_name, compile_network, compile_path, compile_program, compile_text, is_literal
from rules.vocabulary import Fact, Shape

type Truth = bool | Unknown
type Get = Callable[[str], Any]  # `Facts.get`
type Test = Callable[[Get], Truth]
type Member = Callable[[Any], Truth]

COMPARISONS: Final = ("gt", "gte", "lt", "lte")


class Quantifier(enum.Enum):
    """How many members of a list must match."""

    SOME = "any member"
    ALL = "every member, if there is one"
    ALL_OF_SOME = "at least one member, and every one"


class FormText(str):
    """A value of a form body: text that may stand for a number."""

    __slots__ = ()


@dataclass(frozen=True, slots=True)
class Comparison:
    """`{gt: 100, lte: 200}`: every bound must hold."""

    bounds: tuple[tuple[str, int | Decimal], ...]

    def holds(self, value: int | float | Decimal) -> bool:
        return all(_COMPARE[name](value, bound) for name, bound in self.bounds)


_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "gt": lambda value, bound: value > bound,
    "gte": lambda value, bound: value >= bound,
    "lt": lambda value, bound: value < bound,
    "lte": lambda value, bound: value <= bound,
}

type Pattern = str | int | Decimal | bool | Comparison | None


@dataclass(frozen=True, slots=True)
class Condition:
    """One key of `match:`, or a whole `not:`. `cost` orders them: cheap ones first, bodies last."""

    label: str
    test: Test = field(compare=False)
    cost: int = 0


# --- one value


def compile_member(fact: Fact, patterns: Sequence[Pattern], *, strict: bool) -> Member:
    """A test of one member of `fact` against any of `patterns`. `strict` where the test helps to permit (see DESIGN: programs, names).

    Raises BadPattern for a pattern of the wrong type or one that does not compile.
    """
    match fact.shape:
        case Shape.TEXT | Shape.HEADERS | Shape.QUERY:
            return _text(compile_text, patterns, fact)
        case Shape.PATH:
            return _text(compile_path, patterns, fact)
        case Shape.HOST:
            return _host(patterns, fact)
        case Shape.WORD:
            return _word(fact, _strings(patterns, fact))
        case Shape.NUMBER:
            return _number(patterns, fact)
        case Shape.FLAG:
            return _flag(patterns, fact)
        case Shape.NAME:
            return _name(_strings(patterns, fact), strict)
        case Shape.PROGRAM:
            return _any_text([compile_program(pattern, strict=strict) for pattern in _strings(patterns, fact)])
        case Shape.CIDR:
            return _any_text([compile_network(pattern) for pattern in _strings(patterns, fact)])
        case Shape.VALUE | Shape.BODY:
            return _value(patterns)


def _strings(patterns: Sequence[Pattern], fact: Fact) -> list[str]:
    for pattern in patterns:
        if not isinstance(pattern, str):
            raise BadPattern(f"`{fact.name}` is text, got {describe(pattern)}: write it in quotes")
    return [pattern for pattern in patterns if isinstance(pattern, str)]


def describe(pattern: object) -> str:
    """What a person calls a YAML value: `the number 5`, `true`, `a mapping`."""
    match pattern:
        case None:
            return "null"
        case bool():
            return "true" if pattern else "false"
        case int() | Decimal() | float():
            return f"the number {pattern}"
        case str():
            return f"`{pattern[:60]}`"
        case Comparison() | Mapping():
            return "a mapping"
        case _:
            return "a list"


def _text(compiled: Callable[[str], Callable[[str], bool]], patterns: Sequence[Pattern], fact: Fact) -> Member:
    texts = _strings(patterns, fact)
    matchers = [compiled(text) for text in texts]  # literals too: that is where bad ones are found
    if all(is_literal(text) for text in texts):
        return _exact(frozenset(texts))
    return _any_text(matchers)


def _exact(texts: frozenset[str]) -> Member:
    return lambda value: (value in texts) if isinstance(value, str) else UNKNOWN


def _any_text(matchers: Sequence[Callable[[str], bool]]) -> Member:
    matches = any_matcher(matchers)
    return lambda value: matches(value) if isinstance(value, str) else UNKNOWN


def _host(patterns: Sequence[Pattern], fact: Fact) -> Member:
    return _any_text([compile_text(pattern, ignore_case=True) for pattern in _strings(patterns, fact)])


def _word(fact: Fact, patterns: Sequence[str]) -> Member:
    words = frozenset(word for pattern in patterns for word in expand_word(fact, pattern))
    known = fact.words

    def test(value: Any) -> Truth:
        if value in words:
            return True
        return False if value in known else UNKNOWN  # a word that this version does not know

    return test


def expand_word(fact: Fact, pattern: str) -> frozenset[str]:
    """The words of the closed list that `pattern` names. Raises BadPattern when there is none."""
    matcher = compile_text(pattern)
    words = frozenset(word for word in fact.words if matcher(word))
    if not words:
        raise BadPattern(f"`{pattern}` is no {fact.name.removesuffix('s')}")
    return words


def _number(patterns: Sequence[Pattern], fact: Fact) -> Member:
    for pattern in patterns:
        if isinstance(pattern, bool) or not isinstance(pattern, int | Decimal | Comparison):
            raise BadPattern(f"`{fact.name}` is a number: write one, or {{gt: 100}}, got {describe(pattern)}")
    return _value(patterns)


def _flag(patterns: Sequence[Pattern], fact: Fact) -> Member:
    wanted = [pattern for pattern in patterns if isinstance(pattern, bool)]
    if len(wanted) != len(patterns) or len(wanted) != 1:
        raise BadPattern(f"`{fact.name}` is true or false, got {describe(patterns[0] if len(patterns) == 1 else list(patterns))}")
    truth = wanted[0]
    return lambda value: value is truth if isinstance(value, bool) else UNKNOWN


def _name(patterns: Sequence[str], strict: bool) -> Member:
    matchers = [compile_name(pattern) for pattern in patterns]

    def test(value: Any) -> Truth:
        parts = tuple(value.split(".")) if isinstance(value, str) else value
        if not isinstance(parts, tuple):
            return UNKNOWN
        return any_of(matcher(parts, strict) for matcher in matchers)

    return test


def _value(patterns: Sequence[Pattern]) -> Member:
    """A scalar of any type. A value whose type no pattern can be compared with is unknown, null included."""
    tests = [_one_value(pattern) for pattern in patterns]
    if len(tests) == 1:
        return tests[0]
    return lambda value: any_of(test(value) for test in tests)


def _one_value(pattern: Pattern) -> Member:
    match pattern:
        case None:
            return lambda value: value is None if not isinstance(value, list | dict) else UNKNOWN
        case bool():
            return lambda value: value is pattern if isinstance(value, bool) else UNKNOWN
        case str():
            return _any_text([compile_text(pattern)])
        case Comparison():
            return lambda value: UNKNOWN if (number := as_number(value)) is None else pattern.holds(number)
        case _:
            return lambda value: UNKNOWN if (number := as_number(value)) is None else number == pattern


def as_number(value: Any) -> int | float | Decimal | None:
    """The number that `value` is; None where it is none, NaN, or a boolean."""
    if isinstance(value, bool):
        return None
    if isinstance(value, int):
        return value
    if isinstance(value, float | Decimal):
        return value if value == value else None
    if isinstance(value, FormText):
        return _form_number(value)
    return None


def _form_number(text: str) -> Decimal | None:
    if len(text) > 64 or not text.isascii() or not text.strip("+-").replace(".", "", 1).isdigit():
        return None
    try:
        return Decimal(text)
    except ArithmeticError:
        return None


# --- truth


def any_of(truths: Iterable[Truth]) -> Truth:
    """True beats unknown beats false."""
    unknown = False
    for truth in truths:
        if truth is True:
            return True
        unknown = unknown or truth is not False
    return UNKNOWN if unknown else False


def all_of(truths: Iterable[Truth]) -> Truth:
    """False beats unknown beats true."""
    unknown = False
    for truth in truths:
        if truth is False:
            return False
        unknown = unknown or truth is not True
    return UNKNOWN if unknown else True


def negated(truth: Truth) -> Truth:
    return UNKNOWN if truth is UNKNOWN else truth is False


def quantified(values: Iterable[Any], member: Member, quantifier: Quantifier) -> Truth:
    """Whether as many of `values` match as `quantifier` asks."""
    values = list(values)
    if len(values) == 1:
        return member(values[0])
    if quantifier is Quantifier.SOME:
        return any_of(member(value) for value in values)
    if not values:
        return quantifier is Quantifier.ALL
    return all_of(member(value) for value in values)


# --- whole facts


def fact_test(fact: Fact, member: Member, quantifier: Quantifier) -> Test:
    """A test of a scalar or list fact. An absent scalar (None) is false; a list that is not one is unknown."""
    name = fact.name
    if not fact.many:

        def scalar(get: Get) -> Truth:
            value = get(name)
            return False if value is None else member(value)

        return scalar

    def listed(get: Get) -> Truth:
        values = get(name)
        if not isinstance(values, list | tuple | set | frozenset):
            return False if values is None else UNKNOWN
        return quantified(values, member, quantifier)

    return listed


def entry_test(fact: Fact, key: str, member: Member, quantifier: Quantifier) -> Test:
    """A test of one header, query parameter or JSONPath of the body. What is absent is false, in `not:` too."""
    if fact.shape is Shape.BODY:
        return _body_test(fact.name, key, member, quantifier)
    return _named_test(fact.name, key.lower() if fact.shape is Shape.HEADERS else key, member, quantifier)


def _body_test(name: str, path: str, member: Member, quantifier: Quantifier) -> Test:
    find = compile_find(path)

    def test(get: Get) -> Truth:
        document: object = get(name)
        if document is UNKNOWN:
            return UNKNOWN
        if document is None:
            return False
        values = find(document)
        return quantified(values, member, quantifier) if values else False

    return test


def _named_test(name: str, key: str, member: Member, quantifier: Quantifier) -> Test:
    def test(get: Get) -> Truth:
        document: Any = get(name)
        if document is None:
            return False
        if isinstance(document, Members):
            document.check(key)
        values = document.get(key)  # UNKNOWN has no `get`: this error, like the one before, leaves the rule unknown
        if values is None:
            return False
        if values.__class__ is str:
            return member(values)
        return quantified(values, member, quantifier) if values else False

    return test


def not_test(tests: Sequence[Test]) -> Test:
    """The negation of a whole block, whose tests were built with the quantifiers swapped."""

    def test(get: Get) -> Truth:
        return negated(all_of(guarded(inner, get) for inner in tests))

    return test


def guarded(test: Test, get: Get) -> Truth:
    """`test`, where whatever goes wrong inside is unknown."""
    try:
        return test(get)
    except Exception:
        return UNKNOWN


def outer_quantifier(effect: str) -> Quantifier:
    return Quantifier.ALL_OF_SOME if effect == "allow" else Quantifier.SOME


def inner_quantifier(effect: str) -> Quantifier:
    """Inside `not:`. Allow: no member may match. Deny, hold, mask: one member that does not match is enough."""
    return Quantifier.SOME if effect == "allow" else Quantifier.ALL
