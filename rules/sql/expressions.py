"""Expressions: columns, functions, operators, parameters."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rules.sql import settings
from rules.sql.calls import call
from rules.sql.functions import DANGEROUS, catalog
from rules.sql.scopes import Scope
from rules.sql.walk import Handler, Node, Walk, strings

_OPERATORS: Final = frozenset({"AEXPR_OP", "AEXPR_OP_ANY", "AEXPR_OP_ALL"})


def _column_ref(walk: Walk, node: Node, scope: Scope) -> None:
    walk.column_ref(node, scope)


def _indirection(walk: Walk, node: Node, scope: Scope) -> None:
    """`(relation).field` is a column of the relation; `(relation).*` its whole row, which the reference alone stands for."""
    reference = node.get("arg", {}).get("ColumnRef")
    first = node["indirection"][0].get("String") if node.get("indirection") else None
    if reference and first and len(reference["fields"]) == 1 and "String" in reference["fields"][0]:
        walk.column(scope, strings(reference["fields"]), field=first.get("sval", ""))
        walk.rest("A_Indirection", node, scope, ("arg",))
        if first.get("sval") in catalog().row_functions:  # `(t).row_to_json`
            walk.push_wrapped(node["arg"], scope)
        fields = strings(node["indirection"][1:])
    else:
        walk.rest("A_Indirection", node, scope)
        fields = strings(node.get("indirection", ()))
    result = catalog().results if "FuncCall" in node.get("arg", {}) else frozenset[str]()
    for name in fields:  # `(value).name` is a call of that function where the value has no such field
        if name not in result or name in DANGEROUS:
            call(walk, [name], 1)


def _a_expr(walk: Walk, node: Node, scope: Scope) -> None:
    if node.get("kind") in _OPERATORS:
        operator(walk, node.get("name", ()))
    walk.push_wrapped(node.get("lexpr"), scope)
    walk.push_wrapped(node.get("rexpr"), scope)
    if not node.keys() <= _A_EXPR:
        walk.rest("A_Expr", node, scope, ("name", "lexpr", "rexpr"))


_A_EXPR: Final = frozenset({"kind", "name", "lexpr", "rexpr", "rexpr_list_start", "rexpr_list_end", "location"})
_RESULT: Final = frozenset({"name", "val", "location"})


def _res_target(walk: Walk, node: Node, scope: Scope) -> None:
    if node.keys() <= _RESULT:
        walk.push_wrapped(node.get("val"), scope)
    else:
        walk.rest("ResTarget", node, scope)


def operator(walk: Walk, names: Sequence[Node]) -> None:
    """An operator runs a function; one that the server does not bring may run anything."""
    if len(names) == 1 and walk.state.built_in_first and names[0]["String"]["sval"] in catalog().operators:
        return
    parts = strings(names)
    if parts and (len(parts) == 1 or parts[-2] != "pg_catalog" or parts[-1] not in catalog().operators):
        walk.functions[tuple(parts)] = None
        walk.affects(("calls_unknown_function",))


def _sub_link(walk: Walk, node: Node, scope: Scope) -> None:
    if "operName" in node:
        operator(walk, node["operName"])
    walk.push_wrapped(node.get("testexpr"), scope)
    walk.push_wrapped(node.get("subselect"), scope.inside())
    walk.rest("SubLink", node, scope, ("operName", "testexpr", "subselect"))


def _sort_by(walk: Walk, node: Node, scope: Scope) -> None:
    if "useOp" in node:
        operator(walk, node["useOp"])
    walk.rest("SortBy", node, scope, ("useOp",))


def _param_ref(walk: Walk, node: Node, scope: Scope) -> None:
    walk.has_params = True


def _type_name(walk: Walk, node: Node, scope: Scope) -> None:
    """Type modifiers are constants or names; the names are no columns."""
    for modifier in node.get("typmods", ()):
        if "ColumnRef" not in modifier:
            walk.push_wrapped(modifier, scope)
    walk.rest("TypeName", node, scope, ("names", "typmods", "arrayBounds"))


def _func_call(walk: Walk, node: Node, scope: Scope) -> None:
    names = strings(node.get("funcname", ()))
    arguments = node.get("args", [])
    count = len(arguments) + (len(node.get("agg_order", ())) if node.get("agg_within_group") else 0)
    call(walk, names, count, variadic=bool(node.get("func_variadic")))
    if names and names[-1] == "set_config":
        _set_config(walk, arguments)
    walk.rest("FuncCall", node, scope, ("funcname",))


def _set_config(walk: Walk, arguments: list[Node]) -> None:
    """`set_config(name, value, local)`: what SET would do, when the text tells the name."""
    name, value = (_constant(argument) for argument in [*arguments, {}, {}][:2])
    if name is None:
        walk.settings["*"] = None
        walk.affects(settings.ALL)
    else:
        walk.settings[name.lower()] = None
        walk.affects(settings.effects_of(name, value))


def _constant(node: Node) -> str | None:
    while "TypeCast" in node:
        node = node["TypeCast"].get("arg", {})
    constant = node.get("A_Const", {})
    text = constant.get("sval")
    return None if text is None else text.get("sval", "")


HANDLERS: Final[Mapping[str, Handler]] = {
    "ColumnRef": _column_ref,
    "A_Indirection": _indirection,
    "A_Expr": _a_expr,
    "ResTarget": _res_target,
    "SubLink": _sub_link,
    "SortBy": _sort_by,
    "ParamRef": _param_ref,
    "TypeName": _type_name,
    "FuncCall": _func_call,
}
