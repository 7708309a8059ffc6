"""Small forms of expressions that a look at the tree tells: names, literals, casts that change nothing."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from rules.sql.lineage.carriers import LITERAL_TYPES


def names_of(nodes: Any) -> tuple[str, ...]:
    """A list of String nodes as text."""
    return tuple(node["String"].get("sval", "") for node in nodes or () if "String" in node)


def is_literal(node: Mapping[str, Any]) -> bool:
    """A constant or a parameter, perhaps as a value of a built-in type."""
    if "TypeCast" in node:
        cast = node["TypeCast"]
        names = names_of(cast.get("typeName", {}).get("names"))
        return bool(names) and names[-1] in LITERAL_TYPES and names[:-1] in ((), ("pg_catalog",)) and is_literal(cast.get("arg", {}))
    return "A_Const" in node or "ParamRef" in node


def is_integer(node: Mapping[str, Any]) -> bool:
    """An integer constant."""
    return "ival" in node.get("A_Const", {})


def is_whole_text(cast: Mapping[str, Any]) -> bool:
    """A cast to text that cuts nothing off: the value in other words."""
    kind = cast.get("typeName", {})
    names = names_of(kind.get("names"))
    return (
        names[-1:] in (("text",), ("varchar",))
        and names[:-1] in ((), ("pg_catalog",))
        and not kind.get("typmods")
        and not kind.get("arrayBounds")
    )
