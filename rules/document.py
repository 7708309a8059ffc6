"""YAML text -> nodes that know their file, line and column. Nothing is constructed but scalars, lists and mappings."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from dataclasses import dataclass, replace
from decimal import Decimal, InvalidOperation
from difflib import get_close_matches
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, ScalarNode, SequenceNode

from rules.printable import visible

MAX_TEXT: Final = 1 << 20  # characters of one file
MAX_NODES: Final = 200_000  # aliases counted each time they are used
MAX_DEPTH: Final = 24
MAX_PROBLEMS: Final = 200
_TAG: Final = "tag:yaml.org,2002:"
_BOOLEANS: Final[dict[str, str | bool]] = {"true": True, "false": False}
_TYPES: Final = frozenset({"str", "int", "float", "bool", "null", "timestamp", "value", "merge", "seq", "map"})


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake, where it stands, and what was expected. Lines and columns count from 1; 0 = the whole file."""

    source: str
    line: int
    column: int
    text: str

    def __str__(self) -> str:
        place = f"{self.source}:{self.line}:{self.column}" if self.line else self.source
        return visible(f"{place}: {self.text}")


class RuleErrors(ValueError):
    """Everything that is wrong with the rule files, in order of file, line and column."""

    def __init__(self, problems: Iterable[Problem]) -> None:
        self.problems = tuple(sorted(set(problems), key=lambda p: (p.source, p.line, p.column, p.text)))
        super().__init__("\n".join(str(problem) for problem in self.problems))


@dataclass(frozen=True, slots=True)
class Node:
    """One YAML value. `value` is str, int, Decimal, bool, None, tuple[Node, ...] or dict[str, Node]; `keys` places a mapping's keys."""

    source: str
    line: int
    column: int
    value: Any
    keys: Any = None  # dict[str, Node] for mappings

    def problem(self, text: str) -> Problem:
        return Problem(self.source, self.line, self.column, text)


class Reader:
    """Reads one file after the other into nodes, collecting problems."""

    def __init__(self) -> None:
        self.problems: list[Problem] = []
        self._nodes = 0

    def read(self, source: str, text: str) -> Node | None:
        """The document's root; None when it cannot be read, with the reason among the problems."""
        if len(text) > MAX_TEXT:
            self.problems.append(Problem(source, 0, 0, f"a rule file has at most {MAX_TEXT} characters, this one {len(text)}"))
            return None
        try:
            yaml = YAML(typ="safe", pure=True)
            # a later anchor of the same name replaces the earlier one (YAML 1.2.2 section 7.1); ruamel would warn on stderr
            yaml.composer.warn_double_anchors = False
            root = yaml.compose(text)
        except MarkedYAMLError as error:
            mark = error.problem_mark or error.context_mark
            reason = str(error.problem or error.context or "not YAML").splitlines()[0]
            self.problems.append(Problem(source, mark.line + 1 if mark else 0, mark.column + 1 if mark else 0, f"not YAML: {reason}"))
            return None
        except (YAMLError, ValueError, RecursionError, AttributeError, AssertionError, IndexError) as error:
            reason = "nested too deeply" if isinstance(error, RecursionError) else (str(error).splitlines() or ["unreadable"])[0]
            self.problems.append(Problem(source, 0, 0, f"not YAML: {reason[:200]}"))
            return None
        if root is None:
            self.problems.append(Problem(source, 1, 1, "the file is empty, expected `version: 1` and `rules:`"))
            return None
        self._nodes = 0
        try:
            return self._convert(source, root, 0)
        except OverflowError as error:
            self.problems.append(Problem(source, root.start_mark.line + 1, root.start_mark.column + 1, str(error)))
            return None

    def _convert(self, source: str, node: Any, depth: int) -> Node:
        self._nodes += 1
        if depth > MAX_DEPTH:
            raise OverflowError(f"nested deeper than {MAX_DEPTH}, or an alias that contains itself")
        if self._nodes > MAX_NODES:
            raise OverflowError(f"more than {MAX_NODES} values, aliases counted each time they are used")
        line, column = node.start_mark.line + 1, node.start_mark.column + 1
        tag = str(node.tag)
        if not tag.startswith(_TAG) or tag.removeprefix(_TAG) not in _TYPES:
            self.problems.append(Problem(source, line, column, f"tags such as `{tag[:40]}` mean nothing here"))
        match node:
            case ScalarNode():
                return Node(source, line, column, self._scalar(Problem(source, line, column, ""), tag.removeprefix(_TAG), node.value))
            case SequenceNode():
                return Node(source, line, column, tuple(self._convert(source, item, depth + 1) for item in node.value))
            case MappingNode():
                return self._mapping(source, node, depth)
            case _:
                raise OverflowError(f"a YAML value of kind {type(node).__name__}")

    def _mapping(self, source: str, node: Any, depth: int) -> Node:
        values: dict[str, Node] = {}
        keys: dict[str, Node] = {}
        for key_node, value_node in node.value:
            key = self._convert(source, key_node, depth + 1)
            value = self._convert(source, value_node, depth + 1)
            if value.value is None and value_node.start_mark.index == value_node.end_mark.index:
                value = replace(value, line=key.line, column=key.column)  # nothing was written: the parser is a line further
            name = key_node.value if isinstance(key_node, ScalarNode) else None
            if not isinstance(name, str):
                self.problems.append(key.problem("a key is a plain word"))
            elif name == "<<":
                self.problems.append(key.problem("merge keys (`<<`) are not supported: write the keys out"))
            elif name in values:
                self.problems.append(key.problem(f"duplicate key `{name}`, first on line {keys[name].line}"))
            else:
                values[name], keys[name] = value, key
        return Node(source, node.start_mark.line + 1, node.start_mark.column + 1, values, keys)

    def _scalar(self, place: Problem, tag: str, text: str) -> str | int | Decimal | bool | None:
        try:
            match tag:
                case "null":
                    return None
                case "bool":
                    # `yes` and `on` are booleans only under a %YAML 1.1 directive: text here
                    return _BOOLEANS.get(text.lower(), text)
                case "int":
                    return _integer(text)
                case "float":
                    return _decimal(text)
        except (ValueError, InvalidOperation):
            self.problems.append(Problem(place.source, place.line, place.column, f"not a number that can be compared: `{text[:40]}`"))
            return 0
        return text


def _integer(text: str) -> int:
    digits = text.replace("_", "").lower()
    sign = -1 if digits.startswith("-") else 1
    digits = digits.lstrip("+-")
    for prefix, base in (("0x", 16), ("0o", 8), ("0b", 2)):
        if digits.startswith(prefix):
            return sign * int(digits[2:], base)
    return sign * int(digits)


def _decimal(text: str) -> Decimal:
    number = Decimal(text.replace("_", ""))
    if not number.is_finite():
        raise ValueError(text)
    return number


def nearest(word: str, expected: Sequence[str]) -> str:
    """`, did you mean `effect`?`, or the list of what was expected."""
    close = get_close_matches(word, expected, n=1, cutoff=0.7) or [one for one in expected if len(word) > 2 and one.startswith(word)]
    if close:
        return f"did you mean `{close[0]}`?"
    return f"expected one of {', '.join(expected)}"
