"""Which numbers of a statement decide nothing: those that a column is compared with.

A statement that differs from another in such numbers alone has the same facts and the same lineage, so it need not be read again. Why
that holds: the lexer goes from left to right, so behind the same bytes it stands in the same state; there it makes an integer constant
of any digits that are delimited as `runs` are and fit an int4 (ICONST of PostgreSQL's scan.l); a tree with another integer in that place
is the same tree; and no fact looks at a constant that a column is compared with, whatever it is.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any, Final

from rules.sql.libpg_query import LibraryMissing, SyntaxRefused, parse

_COMPARISONS: Final = frozenset({"=", "<>", "!=", "<", ">", "<=", ">="})
_LISTS: Final = frozenset({"AEXPR_IN", "AEXPR_BETWEEN", "AEXPR_NOT_BETWEEN"})


def free_runs(text: bytes, runs: Sequence[tuple[int, int]]) -> bytes:
    """For each run of digits, [start, end) in bytes, 1 where it may be any other number, else 0. Never raises for a text.

    A run must be one to nine digits; before it white space, `(`, `,`, `=`, `<` or `>`, and behind it white space, `)`, `,`, `;` or the end.
    """
    try:
        free = _compared(parse(text))
    except (SyntaxRefused, LibraryMissing):
        free = frozenset()
    return bytes([start in free for start, _ in runs])


def with_others(text: bytes, runs: Sequence[tuple[int, int]], free: bytes) -> bytes:
    """The text with another number in each free run, to see that nothing depends on them."""
    pieces = []
    at = 0
    for (start, end), is_free in zip(runs, free, strict=True):
        if is_free:
            pieces += [text[at:start], b"31" if text[start:end] != b"31" else b"7"]
            at = end
    return b"".join(pieces) + text[at:]


def _compared(trees: list[dict[str, Any]]) -> frozenset[int]:
    """Where the integer constants begin that a column is compared with."""
    found = set()
    stack: list[Any] = list(trees)
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
        elif isinstance(node, dict):
            expression = node.get("A_Expr")
            if isinstance(expression, dict):
                found.update(_constants(expression))
            stack += node.values()
    return frozenset(found)


def _constants(expression: Mapping[str, Any]) -> list[int]:
    kind, left, right = expression.get("kind"), expression.get("lexpr", {}), expression.get("rexpr", {})
    if kind in _LISTS and _is_column(left):
        items = right.get("List", {}).get("items", ())
        return [at for item in items if (at := _integer_at(item)) is not None]
    names = [part.get("String", {}).get("sval") for part in expression.get("name", ())]
    if kind != "AEXPR_OP" or len(names) != 1 or names[0] not in _COMPARISONS:
        return []
    for one, other in ((left, right), (right, left)):
        if _is_column(one) and (at := _integer_at(other)) is not None:
            return [at]
    return []


def _is_column(node: Mapping[str, Any]) -> bool:
    fields = node.get("ColumnRef", {}).get("fields", ())
    return bool(fields) and all("String" in part for part in fields)


def _integer_at(node: Mapping[str, Any]) -> int | None:
    constant = node.get("A_Const")
    if constant is None or "ival" not in constant:
        return None
    found: int = constant.get("location", 0)
    return found
