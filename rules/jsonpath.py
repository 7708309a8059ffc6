"""JSONPath for conditions: parsed by jsonpath-ng, the common forms compiled to closures that only read.

`$`, `.name`, `['name']`, `[n]`, `[*]`, `.*` and `..name` are compiled; filters, slices and the rest use jsonpath-ng's own `find`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from functools import lru_cache
from typing import Any, Final

from jsonpath_ng import Child, Descendants, Fields, Index, Root
from jsonpath_ng.exceptions import JSONPathError
from jsonpath_ng.ext.parser import parse
from jsonpath_ng.jsonpath import Wildcard

from rules.members import Members

type Find = Callable[[Any], list[Any]]

MAX_PATH: Final = 512  # characters


class BadPath(ValueError):
    """Not a JSONPath, or not one that starts at the root."""


@lru_cache(maxsize=1024)
def compile_find(path: str) -> Find:
    """The values that `path` leads to in a parsed document, in document order; [] where it leads nowhere. Raises BadPath.

    What is given raises OtherSpelling for a document whose objects are `Members`.
    """
    if not path.startswith("$"):
        raise BadPath(f"a JSONPath starts with `$`, got `{path[:60]}`")
    if len(path) > MAX_PATH:
        raise BadPath(f"a JSONPath has at most {MAX_PATH} characters")
    try:
        tree = parse(path)
    except (JSONPathError, RecursionError, AttributeError, TypeError, ValueError, KeyError) as error:
        raise BadPath(f"not a JSONPath: {str(error).splitlines()[0] if str(error) else type(error).__name__}") from None
    steps = _steps(tree)
    if steps is None:
        return lambda document: [found.value for found in tree.find(document)]
    names = tuple(step for step in steps if isinstance(step, str))
    if len(names) == len(steps):
        return _descend(names)
    return _walk(tuple(_step(step) for step in steps))


type _Step = str | int | tuple[str, ...]


def _steps(tree: Any) -> list[_Step] | None:
    """The path as a list of names, indexes, ("*",) and ("..", name); None when a part has no compiled form."""
    match tree:
        case Root():
            return []
        case Child(left=left, right=right):
            before, step = _steps(left), _single(right)
            return None if before is None or step is None else [*before, step]
        case Descendants(left=left, right=Fields(fields=(str(name),))) if name != "*":
            before = _steps(left)
            # two descents find a value more than once, in an order of jsonpath-ng's own
            if before is None or any(isinstance(step, tuple) and step[0] == ".." for step in before):
                return None
            return [*before, ("..", name)]
        case _:
            return None


def _single(part: Any) -> _Step | None:
    match part:
        case Fields(fields=("*",)) | Wildcard():
            return ("*",)
        case Fields(fields=(str(name),)):
            return name
        case Index(indices=(int(index),)):
            return index
        case _:
            return None


def _descend(names: tuple[str, ...]) -> Find:
    def find(document: Any) -> list[Any]:
        for name in names:
            if not isinstance(document, dict) or not _holds(document, name):
                return []
            document = document[name]
        return [document]

    return find


def _walk(steps: tuple[Callable[[Any], Iterator[Any]], ...]) -> Find:
    def find(document: Any) -> list[Any]:
        values = [document]
        for step in steps:
            values = [found for value in values for found in step(value)]
        return values

    return find


def _step(step: _Step) -> Callable[[Any], Iterator[Any]]:
    if isinstance(step, str):
        return lambda value: iter((value[step],) if isinstance(value, dict) and _holds(value, step) else ())
    if isinstance(step, int):
        return lambda value: iter((value[step],) if type(value) is list and -len(value) <= step < len(value) else ())
    if step[0] == "*":
        return _children
    name = step[1]
    return lambda value: _named_below(value, name)


def _holds(members: dict[str, Any], name: str) -> bool:
    if isinstance(members, Members):
        members.check(name)
    return name in members


def _children(value: Any) -> Iterator[Any]:
    if isinstance(value, dict):
        yield from value.values()
    elif type(value) is list:
        yield from value


def _named_below(value: Any, name: str) -> Iterator[Any]:
    # an own stack: the caller chooses how deep the document is
    stack = [value]
    while stack:
        here = stack.pop()
        if isinstance(here, dict):
            if _holds(here, name):
                yield here[name]
            stack.extend(reversed(here.values()))
        elif type(here) is list:
            stack.extend(reversed(here))
