"""Whether a condition restricts which rows a statement changes, or holds for all of them whatever they contain.

A guard rail against the forgotten or empty WHERE, not a proof: `id > -1` restricts, as far as anybody can tell from the
text. Only constants are folded, and comparisons of a thing with itself.
"""

from __future__ import annotations

import enum
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any, Final

type Node = Mapping[str, Any]

_DEEPEST: Final = 150  # levels of conditions that are looked into


class Truth(enum.Enum):
    """What a condition is over the rows of the target."""

    ALWAYS = "true for every row"
    NEVER = "true for no row"
    SAME = "the same for every row"  # a parameter, another table's column, a function of constants
    BY_ROW = "depends on the row"


_NEGATION: Final[Mapping[Truth, Truth]] = {
    Truth.ALWAYS: Truth.NEVER,
    Truth.NEVER: Truth.ALWAYS,
    Truth.SAME: Truth.SAME,
    Truth.BY_ROW: Truth.BY_ROW,
}


@dataclass(frozen=True, slots=True)
class Target:
    """The relation that is changed: the names that its columns may be qualified with, and those of what it is joined with."""

    names: frozenset[str]
    others: frozenset[str]


_SYSTEM_COLUMNS: Final = frozenset({"ctid", "tableoid", "xmin", "xmax", "cmin", "cmax"})  # never null
_REFLEXIVE: Final = frozenset({"=", ">=", "<=", "~~", "~~*", "@>", "<@"})
_IRREFLEXIVE: Final = frozenset({"<>", "!=", "<", ">", "!~~"})
_COMPLEMENTS: Final = {"=": "<>", "<": ">=", ">": "<="}
_COMPARE: Final[Mapping[str, Callable[[Any, Any], bool]]] = {
    "=": lambda left, right: left == right,
    "<>": lambda left, right: left != right,
    "!=": lambda left, right: left != right,
    "<": lambda left, right: left < right,
    ">": lambda left, right: left > right,
    "<=": lambda left, right: left <= right,
    ">=": lambda left, right: left >= right,
}
_TRUE_WORDS: Final = frozenset({"t", "true", "y", "yes", "on", "1"})


def restricts(condition: Node | None, target: Target) -> bool:
    """Whether `condition` (a wrapped node, None for none) leaves rows of the target out because of what they contain."""
    if not condition:
        return False
    conditions = [condition]
    if condition.get("BoolExpr", {}).get("boolop") == "AND_EXPR":
        conditions = condition["BoolExpr"].get("args", [])
    return any(_truth(one, target, _DEEPEST) in (Truth.BY_ROW, Truth.NEVER) for one in conditions)


def _truth(wrapped: Node | None, target: Target, levels: int) -> Truth:
    if not wrapped or levels == 0:
        return Truth.SAME  # too deep to tell: better to call it unbounded
    kind, node = next(iter(wrapped.items()))
    fold = _FOLDS.get(kind)
    if fold is not None:
        return fold(node, target, levels - 1)
    return _by_content(wrapped, target)


def _by_content(wrapped: Node, target: Target) -> Truth:
    reference = wrapped.get("ColumnRef")
    if reference is not None and len(reference.get("fields", ())) == 1:
        return Truth.BY_ROW
    return Truth.BY_ROW if _mentions_row(wrapped, target) else Truth.SAME


def _constant(node: Node, target: Target, levels: int) -> Truth:
    if "boolval" in node:
        return Truth.ALWAYS if node["boolval"].get("boolval") else Truth.NEVER
    if "sval" in node:
        return Truth.ALWAYS if node["sval"].get("sval", "").strip().lower() in _TRUE_WORDS else Truth.NEVER
    return Truth.NEVER if node.get("isnull") else Truth.SAME


def _bool(node: Node, target: Target, levels: int) -> Truth:
    arguments = node.get("args", [])
    truths = [_truth(argument, target, levels) for argument in arguments]
    operator = node.get("boolop")
    if operator == "NOT_EXPR":
        return _NEGATION[truths[0]] if truths else Truth.SAME
    if operator == "AND_EXPR":
        order = (Truth.NEVER, Truth.BY_ROW, Truth.SAME, Truth.ALWAYS)
    else:
        if len(arguments) <= 32 and _complementary(arguments, target):
            return Truth.ALWAYS
        order = (Truth.ALWAYS, Truth.SAME, Truth.BY_ROW, Truth.NEVER)
    return next((truth for truth in order if truth in truths), Truth.SAME)


def _complementary(arguments: list[Node], target: Target) -> bool:
    """`a = 1 OR a <> 1`, `x OR NOT x`, `a IS NULL OR a IS NOT NULL`."""
    shapes = [_shape(argument, target) for argument in arguments]
    return any(_negated(shape) in shapes for shape in shapes)


def _negated(shape: Any) -> Any:
    if not isinstance(shape, dict) or not shape:
        return None
    kind, node = next(iter(shape.items()))
    if kind == "NullTest":
        other = "IS_NOT_NULL" if node.get("nulltesttype") == "IS_NULL" else "IS_NULL"
        return {kind: {**node, "nulltesttype": other}}
    if kind == "A_Expr":
        name = _operator(node)
        other = _COMPLEMENTS.get(name, "")
        return {kind: {**node, "name": [{"String": {"sval": other}}]}} if other else None
    return {"BoolExpr": {"boolop": "NOT_EXPR", "args": [shape]}}


def _expression(node: Node, target: Target, levels: int) -> Truth:
    left, right = node.get("lexpr"), node.get("rexpr")
    name = _operator(node)
    if left and right:
        kinds = left.keys() | right.keys()
        if len(kinds) == 2 and "ColumnRef" in kinds and ("A_Const" in kinds or "ParamRef" in kinds):
            return _by_content(left if "ColumnRef" in left else right, target)
        values = _value(left), _value(right)
        if values[0] is not None and values[1] is not None and type(values[0]) is type(values[1]) and name in _COMPARE:
            return Truth.ALWAYS if _COMPARE[name](*values) else Truth.NEVER
        if (
            left.keys() == right.keys()
            and _shape(left, target) == _shape(right, target)
            and node.get("kind") in ("AEXPR_OP", "AEXPR_LIKE", "AEXPR_NOT_DISTINCT")
        ):
            if name in _REFLEXIVE or node.get("kind") == "AEXPR_NOT_DISTINCT":
                return Truth.ALWAYS
            if name in _IRREFLEXIVE:
                return Truth.NEVER
    return _by_content({"A_Expr": node}, target)


def _operator(node: Node) -> str:
    names = node.get("name") or [{}]
    return str(names[-1].get("String", {}).get("sval", ""))


def _value(wrapped: Node) -> int | str | bool | None:
    while "TypeCast" in wrapped:
        wrapped = wrapped["TypeCast"].get("arg", {})
    constant = wrapped.get("A_Const", {})
    if "ival" in constant:
        return int(constant["ival"].get("ival", 0))
    if "sval" in constant:
        return str(constant["sval"].get("sval", ""))
    return bool(constant["boolval"].get("boolval")) if "boolval" in constant else None


def _null_test(node: Node, target: Target, levels: int) -> Truth:
    argument = node.get("arg", {})
    names = _names(argument.get("ColumnRef", {}))
    positive = node.get("nulltesttype") == "IS_NOT_NULL"
    if names and names[-1] in _SYSTEM_COLUMNS:
        return Truth.ALWAYS if positive else Truth.NEVER
    if _value(argument) is not None:
        return Truth.ALWAYS if positive else Truth.NEVER
    return _by_content(argument, target)


def _boolean_test(node: Node, target: Target, levels: int) -> Truth:
    inner = _truth(node.get("arg"), target, levels)
    test = node.get("booltesttype", "IS_TRUE")
    if inner in (Truth.BY_ROW, Truth.SAME):
        return inner
    if test in ("IS_TRUE", "IS_NOT_FALSE"):
        return inner
    return Truth.NEVER if inner is Truth.ALWAYS else Truth.ALWAYS


def _type_cast(node: Node, target: Target, levels: int) -> Truth:
    return _truth(node.get("arg"), target, levels)


def _coalesce(node: Node, target: Target, levels: int) -> Truth:
    truths = [_truth(argument, target, levels) for argument in node.get("args", [])]
    return truths[0] if truths and truths[0] is not Truth.NEVER else (truths[-1] if truths else Truth.SAME)


def _case(node: Node, target: Target, levels: int) -> Truth:
    results = [when.get("CaseWhen", {}).get("result") for when in node.get("args", [])]
    if "defresult" in node:
        results.append(node["defresult"])
    truths = {_truth(result, target, levels) for result in results}
    if truths <= {Truth.ALWAYS, Truth.SAME}:
        first = node.get("args", [{}])[0].get("CaseWhen", {}).get("expr")
        if "defresult" in node or _truth(first, target, levels) in (Truth.ALWAYS, Truth.SAME):
            return Truth.SAME
    return _by_content({"CaseExpr": node}, target)


_FOLDS: Final[Mapping[str, Callable[[Node, Target, int], Truth]]] = {
    "A_Const": _constant,
    "BoolExpr": _bool,
    "A_Expr": _expression,
    "NullTest": _null_test,
    "BooleanTest": _boolean_test,
    "TypeCast": _type_cast,
    "CoalesceExpr": _coalesce,
    "CaseExpr": _case,
}


# --- what an expression mentions


def _names(reference: Node) -> list[str]:
    return [field["String"].get("sval", "") for field in reference.get("fields", ()) if "String" in field]


def _mentions_row(wrapped: Node, target: Target) -> bool:
    """Whether a column of the target is used in there. A bare name may be one."""
    foreign = subquery = False
    stack: list[Any] = [wrapped]
    while stack:
        node = stack.pop()
        if isinstance(node, list):
            stack += node
            continue
        if not isinstance(node, dict):
            continue
        if "CurrentOfExpr" in node:
            return True
        subquery = subquery or "SubLink" in node
        reference = node.get("ColumnRef")
        if isinstance(reference, dict):
            names = _names(reference)
            qualifier = names[-2] if len(names) > 1 else ""
            if not qualifier or qualifier in target.names:
                return True
            foreign = foreign or qualifier not in target.others
        stack += node.values()
    return foreign and not subquery  # a subquery's own relations may be what a foreign qualifier means


def _shape(value: Any, target: Target, levels: int = _DEEPEST) -> Any:
    """A node without positions, and with the target's columns unqualified, for comparing."""
    if levels == 0:
        return object()  # equal to nothing
    if isinstance(value, list):
        return [_shape(member, target, levels - 1) for member in value]
    if not isinstance(value, dict):
        return value
    reference = value.get("ColumnRef")
    if isinstance(reference, dict):
        names = _names(reference)
        if len(names) > 1 and names[-2] in target.names:
            names = names[-1:]
        return {"ColumnRef": names}
    return {name: _shape(inner, target, levels - 1) for name, inner in value.items() if name != "location"}
