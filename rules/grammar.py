"""The small grammar that rule files are checked with: keys, texts, lists. Every mistake becomes a Problem; nothing raises."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from typing import Final

from rules.document import Node, Problem, nearest
from rules.match import describe

MAX_PATTERNS: Final = 1000  # in one list


class Grammar:
    """Checks nodes and collects what is wrong with them."""

    def __init__(self, problems: list[Problem]) -> None:
        self.problems = problems

    def wrong(self, node: Node, text: str) -> None:
        self.problems.append(node.problem(text))

    def mapping(self, node: Node, what: str, keys: Sequence[str] | None = None, *, some: bool = False) -> dict[str, Node]:
        """The entries of a mapping, without keys that are not among `keys`; {} when it is none. With `some` there must be one."""
        if not isinstance(node.value, dict):
            self.wrong(node, f"{what} is a mapping, got {describe(node.value)}")
            return {}
        found: dict[str, Node] = node.value
        if some and not found:
            # a template that lost its lines must not widen a rule to everybody and everything
            self.wrong(node, f"{what} is empty: leave the key out, or say something")
        if keys is None:
            return found
        for name in found:
            if name not in keys:
                self.wrong(node.keys[name], f"unknown key `{name}` in {what}, {nearest(name, keys)}")
        return {name: value for name, value in found.items() if name in keys}

    def text(self, node: Node, what: str) -> str | None:
        if not isinstance(node.value, str):
            self.wrong(node, f"{what} is text, got {describe(node.value)}" + self._quotes(node))
            return None
        return node.value

    def _quotes(self, node: Node) -> str:
        return "" if isinstance(node.value, dict | tuple) else ": write it in quotes"

    def items(self, node: Node, what: str) -> tuple[Node, ...]:
        """The members of a list; a single value stands for a list of one. Empty lists are wrong."""
        if not isinstance(node.value, tuple):
            return (node,)
        if not node.value:
            self.wrong(node, f"{what} is an empty list, which matches nothing: leave the key out, or name something")
        if len(node.value) > MAX_PATTERNS:
            self.wrong(node, f"{what} has more than {MAX_PATTERNS} members")
            return ()
        return node.value

    def texts(self, node: Node, what: str, check: Callable[[str], object] | None = None) -> tuple[str, ...]:
        """A list of texts, each passed to `check`, whose ValueError is the mistake."""
        found = []
        for item in self.items(node, what):
            text = self.text(item, what)
            if text is not None and self.passes(item, text, check):
                found.append(text)
        return tuple(found)

    def passes(self, node: Node, text: str, check: Callable[[str], object] | None) -> bool:
        if check is None:
            return True
        try:
            check(text)
        except ValueError as error:
            self.wrong(node, str(error))
            return False
        return True

    def word(self, node: Node, what: str, words: Sequence[str]) -> str | None:
        """One word of a closed list."""
        text = self.text(node, what)
        if text is None:
            return None
        if text not in words:
            self.wrong(node, f"unknown {what} `{text[:60]}`, {nearest(text, words)}")
            return None
        return text

    def number(self, node: Node, what: str, least: int, most: int) -> int | None:
        value = node.value
        if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
            self.wrong(node, f"{what} is a whole number from {least} to {most}, got {describe(value)}")
            return None
        return value

    def quantity[T](self, node: Node, what: str, parse: Callable[[str], T]) -> T | None:
        """A duration or a size, written as text or as a bare number."""
        value = node.value
        if isinstance(value, bool) or not isinstance(value, str | int):
            self.wrong(node, f"{what}: {_expected(parse)}, got {describe(value)}")
            return None
        try:
            return parse(str(value))
        except ValueError as error:
            self.wrong(node, f"{what}: {error}")
            return None


def _expected(parse: Callable[[str], object]) -> str:
    return f"expected a {parse.__name__.removeprefix('parse_')}"
