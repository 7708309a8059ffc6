"""INSERT, UPDATE, DELETE, MERGE: what a statement changes, and whether it bounds the rows that it changes."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rules.sql.queries import from_clause, with_clause
from rules.sql.scopes import Mode, Parts, Scope, Source
from rules.sql.unbounded import Target, restricts
from rules.sql.walk import Handler, Node, Walk

_MERGE_VERBS: Final = {"CMD_INSERT": "insert", "CMD_UPDATE": "update", "CMD_DELETE": "delete"}


def _target(walk: Walk, node: Node, scope: Scope, *, written: bool = True) -> Parts:
    relation = node.get("relation", {})
    base = walk.relation(relation)
    if written:
        walk.writes_relation(scope, base)
    else:
        walk.reads_relation(scope, base)
    alias = relation.get("alias", {}).get("aliasname") or relation.get("relname", "")
    scope.add(alias, Source((base,)))
    return base


def _assigned(walk: Walk, targets: Sequence[Node], base: Parts, scope: Scope) -> None:
    """Columns that get values, and the expressions of the values."""
    for target in targets:
        result = target.get("ResTarget", {})
        if "name" in result:
            walk.columns[(*base, result["name"])] = None
        walk.push("ResTarget", result, scope)


def _returning(walk: Walk, node: Node, base: Parts, scope: Scope) -> None:
    clause = node.get("returningClause")
    if clause is None:
        return
    walk.does(scope, "", "read")
    walk.reads_relation(scope, base)
    for name in ("old", "new"):
        scope.add(name, Source((base,)))
    for option in clause.get("options", ()):
        scope.add(option.get("ReturningOption", {}).get("value", ""), Source((base,)))
    walk.rest("ReturningClause", clause, scope)


def _insert(walk: Walk, node: Node, scope: Scope) -> None:
    own = scope.inside()
    walk.does(own, "insert", "write")
    with_clause(walk, node, own)
    base = _target(walk, node, own)
    query = node.get("selectStmt")
    if "cols" in node:
        _assigned(walk, node["cols"], base, own)
    elif query:
        walk.columns[(*base, "*")] = None
    if query:
        values = query.get("SelectStmt", {})
        if "valuesLists" in values and not {"withClause", "sortClause", "limitCount", "limitOffset", "lockingClause"} & values.keys():
            walk.push_all(values["valuesLists"], own.beside())  # VALUES alone reads nothing
        else:
            walk.push_wrapped(query, own.beside())
    if "onConflictClause" in node:
        _on_conflict(walk, node["onConflictClause"], base, own)
    _returning(walk, node, base, own)
    walk.rest("InsertStmt", node, own, ("relation", "cols", "selectStmt", "onConflictClause", "returningClause", "withClause"))


def _on_conflict(walk: Walk, node: Node, base: Parts, scope: Scope) -> None:
    if node.get("action") == "ONCONFLICT_UPDATE":
        walk.does(scope, "update")
    scope.add("excluded", Source((base,)))
    for element in node.get("infer", {}).get("indexElems", ()):
        name = element.get("IndexElem", {}).get("name")
        if name:
            walk.columns[(*base, name)] = None
    _assigned(walk, node.get("targetList", ()), base, scope)
    walk.rest("OnConflictClause", node, scope, ("targetList",))


def _update(walk: Walk, node: Node, scope: Scope) -> None:
    own = scope.inside()
    walk.does(own, "update", "write")
    with_clause(walk, node, own)
    base = _target(walk, node, own)
    _assigned(walk, node.get("targetList", ()), base, own)
    _others(walk, node.get("fromClause", ()), own)
    _bounded_by(walk, node.get("whereClause"), own)
    _returning(walk, node, base, own)
    walk.rest("UpdateStmt", node, own, ("relation", "targetList", "fromClause", "returningClause", "withClause"))


def _delete(walk: Walk, node: Node, scope: Scope) -> None:
    own = scope.inside()
    walk.does(own, "delete", "write")
    with_clause(walk, node, own)
    base = _target(walk, node, own)
    _others(walk, node.get("usingClause", ()), own)
    _bounded_by(walk, node.get("whereClause"), own)
    _returning(walk, node, base, own)
    walk.rest("DeleteStmt", node, own, ("relation", "usingClause", "returningClause", "withClause"))


def _others(walk: Walk, items: Sequence[Node], scope: Scope) -> None:
    if items:
        walk.does(scope, "", "read")
        from_clause(walk, items, scope)


def _bounded_by(walk: Walk, where: Node | None, scope: Scope) -> None:
    if scope.mode is Mode.NOW and not restricts(where, _target_of(scope)):
        walk.unbounded = True


def _target_of(scope: Scope) -> Target:
    """The target is the first source of its statement; the others are what it is joined with."""
    (name, source), *others = scope.sources
    names = {name} | {base[-1] for base in source.bases if name == base[-1]}
    return Target(frozenset(names), frozenset(alias for alias, _ in others))


def _merge(walk: Walk, node: Node, scope: Scope) -> None:
    own = scope.inside()
    walk.does(own, "merge", "read")
    with_clause(walk, node, own)
    clauses = [item["MergeWhenClause"] for item in node.get("mergeWhenClauses", ())]
    commands = {clause.get("commandType", "") for clause in clauses}
    if not commands <= {*_MERGE_VERBS, "CMD_NOTHING"}:
        walk.incomplete("the gateway does not know a branch of this MERGE")
    base = _target(walk, node, own, written=not _MERGE_VERBS.keys().isdisjoint(commands))
    for command in sorted(commands & _MERGE_VERBS.keys()):
        walk.does(own, _MERGE_VERBS[command], "write")
    from_clause(walk, [node.get("sourceRelation", {})], own)
    for clause in clauses:
        _assigned(walk, clause.get("targetList", ()), base, own)
        if clause.get("commandType") == "CMD_INSERT" and "targetList" not in clause:
            walk.columns[(*base, "*")] = None
        walk.rest("MergeWhenClause", clause, own, ("targetList",))
    if own.mode is Mode.NOW and _merges_everything(node, clauses, _target_of(own)):
        walk.unbounded = True
    _returning(walk, node, base, own)
    walk.rest("MergeStmt", node, own, ("relation", "sourceRelation", "mergeWhenClauses", "returningClause", "withClause"))


def _merges_everything(node: Node, clauses: Sequence[Node], target: Target) -> bool:
    """Whether a branch updates or deletes rows that neither the join condition nor its own restricts.

    Rows that the source does not have are in no way restricted by the join.
    """
    joined = restricts(node.get("joinCondition"), target)
    for clause in clauses:
        if clause.get("commandType") not in ("CMD_UPDATE", "CMD_DELETE"):
            continue
        by_source = clause.get("matchKind") == "MERGE_WHEN_NOT_MATCHED_BY_SOURCE"
        if not restricts(clause.get("condition"), target) and (by_source or not joined):
            return True
    return False


def _multi_assign(walk: Walk, node: Node, scope: Scope) -> None:
    """`SET (a, b) = source`: the tree holds the source once for each column."""
    if node.get("colno", 1) == 1:
        walk.rest("MultiAssignRef", node, scope)


HANDLERS: Final[Mapping[str, Handler]] = {
    "InsertStmt": _insert,
    "UpdateStmt": _update,
    "DeleteStmt": _delete,
    "MergeStmt": _merge,
    "MultiAssignRef": _multi_assign,
}
