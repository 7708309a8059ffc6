"""tree-sitter-bash, loaded with the first command; and where in a tree the expansions are."""

from __future__ import annotations

import functools
import re
from typing import Final

from tree_sitter import Language, Node, Parser

from rules.shell.words import Misread
from rules.shell.wrappers import meaningful

HOLES: Final = {
    "simple_expansion": "expansion",
    "expansion": "expansion",
    "arithmetic_expansion": "expansion",
    "command_substitution": "substitution",
    "process_substitution": "substitution",
}
_OPENS: Final = re.compile(rb"[$`<>]")
_SIMPLE: Final = re.compile(rb"\$(?:[A-Za-z_][A-Za-z0-9_]*|[0-9@*#?$!-])")
_NAME_BYTE: Final = re.compile(rb"[A-Za-z0-9_]")
_BRACED: Final = re.compile(
    rb"\$\{(?:[A-Za-z_]\w*|[0-9]+|[@*#?$!-])(?::?[-+?=]|##?|%%?|\^\^?|,,?)"
    rb"""(?:[^$`\\'"{}<>();|&\[\n]|"[^$`\\"]*")*\}|\$\{#(?:[A-Za-z_]\w*|[0-9@*])\}"""
)
_PLAIN_BRACED: Final = re.compile(rb"\$\{(?:[A-Za-z_]\w*|[0-9]+|[@*#?$!-])\}")
_SETS: Final = re.compile(rb"\$\{([A-Za-z_]\w*):?=")
_NUMBERS: Final = re.compile(rb"\$\(\([0-9 \t+*/%()<>=!&|^~?:,-]*\)\)")


@functools.cache
def _parser() -> Parser:
    import tree_sitter_bash

    return Parser(Language(tree_sitter_bash.language()))


def parse(text: bytes) -> Node:
    """The root of the tree of a text within the bounds."""
    return _parser().parse(text).root_node


_ONLY_BASH: Final = frozenset({"process_substitution", "ansi_c_string", "translated_string", "array", "brace_expression", "subscript"})


def only_bash(nodes: list[Node]) -> bool:
    """Whether some word has what other shells read otherwise: `$'…'`, `<(…)`, arrays, `${x^^}`, `$[…]`."""
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node.type in _ONLY_BASH or (node.type in ("^", "^^", ",", ",,", "$[") and not node.is_named):
            return True
        stack.extend(node.children)
    return False


type Hole = tuple[int, int, Node]  # start, end


def holes_in(nodes: list[Node], source: bytes) -> list[Hole]:
    """The outermost expansions and substitutions under `nodes`, in no order. A node may begin with the blank before it."""
    found = []
    stack = list(nodes)
    while stack:
        node = stack.pop()
        if node.type in HOLES:
            opens = _OPENS.search(source, node.start_byte, node.end_byte)
            if opens is None or source[node.start_byte : opens.start()].strip(b" \t\n"):
                raise Misread("an expansion begins where the grammar sees none")
            found.append((opens.start(), node.end_byte, node))
        elif node.child_count:
            stack.extend(node.children)
    return found


def check_hole(start: int, end: int, node: Node, source: bytes) -> str:
    """Why an expansion is more than its value, or nothing. What is substituted in it is judged apart."""
    text = source[start:end]
    if node.type == "simple_expansion":
        if not _SIMPLE.fullmatch(text):
            return "an expansion that is not understood"
        if text[1:2].isalpha() or text[1:2] == b"_":
            return "an expansion that is not understood" if _NAME_BYTE.match(source, end) else ""
        return ""
    if node.type == "expansion":
        if _PLAIN_BRACED.fullmatch(text):
            return ""
        sets = _SETS.match(text)
        if sets and meaningful(sets[1].decode()):
            return f"it sets {sets[1].decode()}"
        return "" if _BRACED.fullmatch(_without_inner(start, end, node, source)) else "an expansion that may evaluate what it is given"
    if node.type == "arithmetic_expansion":
        return "" if _NUMBERS.fullmatch(text) and _balanced(text) else "arithmetic may evaluate what it is given"
    if text[:1] == b"`" and b"\\" in text:
        return "a backslash between backquotes"
    return ""


def _without_inner(start: int, end: int, node: Node, source: bytes) -> bytes:
    """The text of `${name:-word}` without the plain expansions and the substitutions in its word."""
    out = b""
    at = start
    for inner_start, inner_end, inner in sorted(holes_in(node.children, source), key=lambda hole: hole[0]):
        if inner.type == "expansion" and not _PLAIN_BRACED.fullmatch(source[inner_start:inner_end]):
            return b""
        out += source[at:inner_start]
        at = inner_end
    return out + source[at:end]


def _balanced(text: bytes) -> bool:
    depth = 0
    for byte in text:
        depth += (byte == 0x28) - (byte == 0x29)
        if depth < 0:
            return False
    return depth == 0
