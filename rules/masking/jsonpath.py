"""JSONPath (RFC 9535) as jsonpath-ng parses it, compiled to closures that name places in a document.

A place is (container, key): what a mask replaces. Places are named before anything is replaced, so that no mask changes what another's
filter sees. Forms that have no closure here are found by jsonpath-ng itself.
"""

from __future__ import annotations

import warnings
from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from jsonpath_ng import DatumInContext, JSONPath
from jsonpath_ng.ext.filter import Expression, Filter
from jsonpath_ng.ext.parser import parse
from jsonpath_ng.jsonpath import Child, Descendants, Fields, Index, Parent, Root, Slice, This, Where, WhereNot, Wildcard, _Union

type Place = tuple[Any, Any]
type Step = Callable[[list[Place]], list[Place]]
type Predicate = Callable[[Any], bool]

_PLACES: Final = (Root, This, Child, Descendants, Fields, Index, Slice, Wildcard, Filter, Where, WhereNot, Parent, _Union)


class Path:
    """A compiled JSONPath. `names` are member names without which it matches nothing; `anywhere` is k of `$..k`."""

    def __init__(self, text: str, node: JSONPath) -> None:
        self.text = text
        self.names = frozenset(_names(node))
        self.anywhere = _anywhere(node)
        self._node = node
        self._step = _compile(node)

    def places(self, holder: list[Any]) -> list[Place]:
        """All places in `holder[0]`, the document; the document itself is (holder, 0). May name a place twice."""
        if self._step is not None:
            return self._step([(holder, 0)])
        return [_place(found, holder) for found in self._node.find(holder[0])]


@lru_cache(maxsize=1024)
def compile_jsonpath(text: str) -> Path:
    """Raises ValueError: not a JSONPath, or one that computes something rather than naming places (`len`, arithmetic …)."""
    try:
        with warnings.catch_warnings():
            warnings.simplefilter("ignore", DeprecationWarning)
            node = parse(text)
    except Exception as error:
        raise ValueError(f"not a JSONPath: {str(error).splitlines()[0]}") from None
    for part in _parts(node):
        if type(part) not in _PLACES:  # `sub()` and `sorted` are subclasses of `This`
            raise ValueError(f"a mask's JSONPath names places; `{part}` computes a value")
    return Path(text, node)


def _parts(node: JSONPath) -> Iterator[JSONPath]:
    yield node
    for side in ("left", "right"):
        if isinstance(below := getattr(node, side, None), JSONPath):
            yield from _parts(below)


def _names(node: JSONPath) -> Iterator[str]:
    """Names that every match needs. With `a | b`, `where` and filters nothing is certain."""
    match node:
        case Child() | Descendants():
            yield from _names(node.left)
            yield from _names(node.right)
        case Fields(fields=[name]):
            yield name


def _anywhere(node: JSONPath) -> str | None:
    match node:
        case Descendants(left=Root(), right=Fields(fields=[name])):
            return str(name)
    return None


def _place(found: DatumInContext, holder: list[Any]) -> Place:
    if found.context is None:
        return (holder, 0)
    match found.path:
        case Fields(fields=[key]) | Index(indices=[key]):
            return (found.context.value, key)
    raise ValueError("a JSONPath matched something that is no place in the document")


def _compile(node: JSONPath, *, first: bool = True) -> Step | None:
    match node:
        case Root() if first:
            return _same
        case This():
            return _same
        case Child():
            return _chained(_compile(node.left, first=first), _compile(node.right, first=False))
        case Descendants():
            left, right = _compile(node.left, first=first), _compile(node.right, first=False)
            return _chained(left, _below(right)) if right is not None else None
        case Fields():
            return _fields(node.fields)
        case Index():
            return _indices(node.indices)
        case Slice():
            return _slice(slice(node.start, node.end, node.step)) if node.step != 0 else None
        case Wildcard():
            return _children
        case Filter() if not node._references_root():
            return _filtered(tuple(_predicate(expression) for expression in node.expressions))
    return None


def _same(places: list[Place]) -> list[Place]:
    return places


def _chained(left: Step | None, right: Step | None) -> Step | None:
    if left is None or right is None:
        return None
    return lambda places: right(left(places))


def _fields(names: tuple[str, ...]) -> Step:
    def step(places: list[Place]) -> list[Place]:
        found = []
        for container, key in places:
            value = container[key]
            if type(value) is dict:
                found += [(value, name) for name in names if name in value]
        return found

    return step


def _indices(indices: tuple[int, ...]) -> Step:
    def step(places: list[Place]) -> list[Place]:
        found = []
        for container, key in places:
            value = container[key]
            if type(value) is list:
                size = len(value)
                found += [(value, index % size) for index in indices if -size <= index < size]
        return found

    return step


def _slice(part: slice) -> Step:
    def step(places: list[Place]) -> list[Place]:
        values = [container[key] for container, key in places]
        return [(value, index) for value in values if type(value) is list for index in range(len(value))[part]]

    return step


def _children(places: list[Place]) -> list[Place]:
    found: list[Place] = []
    for container, key in places:
        value = container[key]
        if type(value) is dict:
            found += [(value, name) for name in value]
        elif type(value) is list:
            found += [(value, index) for index in range(len(value))]
    return found


def _below(right: Step) -> Step:
    """Every place at or below the given ones, each once: a hostile document could make a chain of `..` visit it again and again."""

    def step(places: list[Place]) -> list[Place]:
        seen: set[int] = set()
        everything: list[Place] = []
        stack = places[::-1]
        while stack:
            place = stack.pop()
            value = place[0][place[1]]
            kind = type(value)
            if kind is dict or kind is list:
                if id(value) in seen:
                    continue
                seen.add(id(value))
                stack += [(value, key) for key in value] if kind is dict else [(value, index) for index in range(len(value))]
            everything.append(place)
        return right(everything)

    return step


def _filtered(predicates: tuple[Predicate, ...]) -> Step:
    def step(places: list[Place]) -> list[Place]:
        return [(value, key) for value, key in _children(places) if all(holds(value[key]) for holds in predicates)]

    return step


def _predicate(expression: JSONPath) -> Predicate:
    """`@.a.b == literal` and `@.a.b` as closures; jsonpath-ng decides everything else."""
    match expression:
        case Expression(target=target, op="==" | "=" as _op, value=str() | int() | float() as literal):
            if (names := _member(target)) is not None:
                return _equals(names, literal)
        case Expression(target=target, op=None):
            if (names := _member(target)) is not None:
                return lambda value: _follow(value, names) is not _MISSING
    return lambda value: bool(expression.find(value))


def _member(target: JSONPath) -> tuple[str, ...] | None:
    """The names of `@.a.b`."""
    match target:
        case This():
            return ()
        case Child(left=left, right=Fields(fields=[name])):
            before = _member(left)
            return None if before is None else (*before, name)
    return None


_MISSING: Final = object()


def _follow(value: Any, names: tuple[str, ...]) -> Any:
    for name in names:
        if type(value) is not dict or name not in value:
            return _MISSING
        value = value[name]
    return value


def _equals(names: tuple[str, ...], literal: str | int | float) -> Predicate:
    """RFC 9535 2.3.5.2.2: a truth value never equals a number, nor a string one."""
    kind: type | tuple[type, ...] = bool if isinstance(literal, bool) else str if isinstance(literal, str) else (int, float)

    def holds(candidate: Any) -> bool:
        value = _follow(candidate, names)
        return isinstance(value, kind) and value == literal and (isinstance(value, bool) is isinstance(literal, bool))

    return holds
