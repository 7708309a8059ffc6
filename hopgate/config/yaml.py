"""YAML text to plain data that remembers where each key and value stood, for errors that name line and column."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Any, Final

from ruamel.yaml import YAML
from ruamel.yaml.error import MarkedYAMLError, YAMLError
from ruamel.yaml.nodes import MappingNode, Node, ScalarNode, SequenceNode

type Location = tuple[str | int, ...]
type Position = tuple[int, int]  # line and column, counted from 1

MAX_NODES: Final = 100_000  # aliases of aliases grow without bound ("billion laughs"); PyYAML and ruamel set no limit
_TAG: Final = "tag:yaml.org,2002:"


@dataclass(frozen=True, slots=True)
class Problem:
    """One mistake of a file, told in one line."""

    file: str
    position: Position
    key: str
    message: str

    def __str__(self) -> str:
        where = f"{self.file}:{self.position[0]}:{self.position[1]}"
        return f"{where}: {self.key}: {self.message}" if self.key else f"{where}: {self.message}"


@dataclass(slots=True)
class Document:
    """Plain data (dict, list, str, int, float, bool, None) of one YAML document, with positions and the mistakes of its syntax."""

    file: str
    data: Any = None
    problems: list[Problem] = field(default_factory=list)
    _keys: dict[Location, Position] = field(default_factory=dict)
    _values: dict[Location, Position] = field(default_factory=dict)
    _nodes: int = 0

    def problem(self, location: Location, message: str, *, value: bool = False) -> Problem:
        return Problem(self.file, self.position(location, value=value), dotted(location), message)

    def position(self, location: Location, *, value: bool = False) -> Position:
        """Where the key (or the value) of `location` is written; for what is not there, the nearest thing around it."""
        while location:
            found = self._values.get(location) if value else None
            found = found or self._keys.get(location) or self._values.get(location)
            if found is not None:
                return found
            location = location[:-1]
        return (1, 1)


def dotted(location: Location) -> str:
    """`("connections", 0, "kind")` as `connections[0].kind`."""
    text = ""
    for part in location:
        text += f"[{part}]" if isinstance(part, int) else f".{part}" if text else part
    return text


def read(text: str, file: str) -> Document:
    """Parse YAML 1.2. Never raises: mistakes are in `problems`, and `data` is None when nothing could be read."""
    document = Document(file)
    try:
        node = YAML(typ="safe", pure=True).compose(text)
        if node is not None:
            document.data = _build(node, (), document)
    except MarkedYAMLError as error:
        mark = error.problem_mark or error.context_mark
        position = (mark.line + 1, mark.column + 1) if mark is not None else (1, 1)
        document.problems.append(Problem(file, position, "", f"not YAML: {error.problem or error.context or 'cannot be read'}"))
    except YAMLError:
        document.problems.append(Problem(file, (1, 1), "", "not YAML: holds a character that YAML does not permit"))
    except (RecursionError, _TooLarge):
        document.problems.append(Problem(file, (1, 1), "", "nested too deep or too large for a configuration"))
    return document


class _TooLarge(Exception):
    """More nodes than `MAX_NODES`, aliases counted each time."""


def _build(node: Node, location: Location, document: Document) -> Any:
    document._nodes += 1
    if document._nodes > MAX_NODES:
        raise _TooLarge
    document._values.setdefault(location, _position(node))
    if isinstance(node, MappingNode):
        return {key: _build(value, (*location, key), document) for key, value in _entries(node, location, document)}
    if isinstance(node, SequenceNode):
        return [_build(item, (*location, index), document) for index, item in enumerate(node.value)]
    assert isinstance(node, ScalarNode)
    return _scalar(node, location, document)


def _entries(node: MappingNode, location: Location, document: Document) -> Iterator[tuple[str, Node]]:
    seen: set[str] = set()
    for key_node, value in node.value:
        key = key_node.value if isinstance(key_node, ScalarNode) else None
        if key is None or str(key_node.tag) == _TAG + "merge":
            document.problems.append(Problem(document.file, _position(key_node), dotted(location), "a key must be plain text"))
        elif key in seen:
            first = document.position((*location, key))
            document.problems.append(
                Problem(document.file, _position(key_node), dotted((*location, key)), f"is written twice; first in line {first[0]}")
            )
        else:
            seen.add(key)
            document._keys[*location, key] = _position(key_node)
            yield key, value


def _scalar(node: ScalarNode, location: Location, document: Document) -> Any:
    text, tag = str(node.value), str(node.tag)
    try:
        match tag.removeprefix(_TAG):
            case "str" | "timestamp":  # a bare date stays the text that was written
                return text
            case "null":
                return None
            case "bool":
                return text.lower() == "true"
            case "int":
                return int(text.replace("_", ""), 0 if text.lower().lstrip("+-").startswith(("0x", "0o", "0b")) else 10)
            case "float":
                return float(text.lower().replace("_", "").replace(".inf", "inf").replace(".nan", "nan"))
    except ValueError:
        pass
    document.problems.append(Problem(document.file, _position(node), dotted(location), f"the tag {tag} is not read here; write plain text"))
    return None


def _position(node: Node) -> Position:
    return (node.start_mark.line + 1, node.start_mark.column + 1)
