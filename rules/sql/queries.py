"""SELECT, FROM, WITH: what a query reads."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping, Sequence
from typing import Any, Final

from rules.sql.scopes import Ctes, Mode, Scope, Source, output_names
from rules.sql.walk import Handler, Node, Walk, strings

_SAMPLERS: Final = frozenset({"system", "bernoulli"})


def _select(walk: Walk, node: Node, scope: Scope) -> None:
    own = scope.inside()
    walk.does(own, "", "read")
    with_clause(walk, node, own)
    if "larg" in node:
        walk.push("SelectStmt", node["larg"], own.beside())
        walk.push("SelectStmt", node.get("rarg", {}), own.beside())
    if "fromClause" in node:
        from_clause(walk, node["fromClause"], own)
    if "intoClause" in node:
        into(walk, node["intoClause"], own, "create")
    if "sortClause" in node:
        _sort_clause(walk, node, own)
    if "lockingClause" in node:  # its relations are aliases of those in FROM
        walk.does(own, "", "lock")
    walk.rest("SelectStmt", node, own, ("withClause", "larg", "rarg", "fromClause", "intoClause", "sortClause", "lockingClause"))


def _sort_clause(walk: Walk, node: Node, scope: Scope) -> None:
    """A bare name in a query's own ORDER BY is first looked for among its results; after UNION it can be nothing else."""
    outputs = output_names(node)
    for item in node["sortClause"]:
        reference = item.get("SortBy", {}).get("node", {}).get("ColumnRef")
        names = strings(reference["fields"]) if reference else []
        if len(names) != 1 or ("larg" not in node and names[0] not in outputs):
            walk.push_wrapped(item, scope)


def into(walk: Walk, node: Node, scope: Scope, verb: str) -> None:
    """The new relation of SELECT INTO and CREATE TABLE AS."""
    walk.does(scope, verb, "ddl", "write")
    walk.writes_relation(scope, walk.relation(node.get("rel", {})))
    walk.rest("IntoClause", node, scope, ("rel", "colNames"))


# --- WITH


def with_clause(walk: Walk, node: Node, scope: Scope) -> None:
    """Give `scope` the names of the statement's WITH clause and push its queries."""
    clause = node.get("withClause")
    if clause is None:
        return
    queries = [item["CommonTableExpr"] for item in clause.get("ctes", ())]
    table: dict[str, tuple[int, Source]] = {}
    for index, query in enumerate(queries):
        table.setdefault(query.get("ctename", ""), (index, _named_query(query)))
    everything = Ctes(scope.ctes, table, len(queries))
    for index, query in enumerate(queries):
        visible = everything if clause.get("recursive") else Ctes(scope.ctes, table, index)
        inner = Scope(scope.outer, visible, scope.mode)
        walk.push_wrapped(query.get("ctequery"), inner)
        walk.rest("CommonTableExpr", query, inner, ("ctequery", "aliascolnames"))
    scope.ctes = everything


def _named_query(query: Node) -> Source:
    if "aliascolnames" in query:
        names = frozenset(strings(query["aliascolnames"]))
        return Source(outputs=lambda: names)
    return Source(outputs=_outputs(query.get("ctequery", {})))


def _outputs(wrapped: Node) -> Callable[[], frozenset[str]] | None:
    query = wrapped.get("SelectStmt")
    return None if query is None else lambda: output_names(query)


# --- FROM


def from_clause(walk: Walk, items: Sequence[Node], scope: Scope) -> None:
    """Give `scope` what stands in FROM. Joins are flattened: a chain of them is as deep as it is long."""
    stack = [item for item in reversed(items) if item]
    while stack:
        item = stack.pop()
        for kind, node in item.items():
            if kind == "JoinExpr":
                stack += _join(walk, node, scope)
            elif kind == "RangeVar":
                _relation(walk, node, scope)
            elif kind == "RangeTableSample":
                stack.append(_sample(walk, node, scope))
            else:
                _derived(walk, kind, node, scope)


def _relation(walk: Walk, node: Node, scope: Scope) -> None:
    alias = node.get("alias", {})
    name = node.get("relname", "")
    source = scope.cte(name) if "schemaname" not in node else None
    if source is None:
        base = walk.relation(node)
        walk.reads_relation(scope, base)
        source = Source((base,), renamed="colnames" in alias)
    elif "colnames" in alias:
        source = _renamed(alias)
    scope.add(alias.get("aliasname") or name, source)


def _renamed(alias: Node) -> Source:
    names = frozenset(strings(alias["colnames"]))
    return Source(outputs=lambda: names)


def _derived(walk: Walk, kind: str, node: Node, scope: Scope) -> None:
    """A subquery, function or table expression: the columns that it uses are found inside it."""
    alias = node.get("alias", {})
    outputs = None
    if kind == "RangeSubselect":
        subquery = node.get("subquery", {})
        outputs = _outputs(subquery)
        walk.push_wrapped(subquery, scope if node.get("lateral") else scope.beside())
        walk.rest(kind, node, scope, ("subquery", "alias"))
    else:
        walk.rest(kind, node, scope, ("alias",))
    if kind == "RangeFunction":
        names = frozenset((*strings(alias.get("colnames", ())), *_defined(node)))
        scope.add(alias.get("aliasname") or _name_of_call(node), Source(outputs=lambda: names, called=True))
        return
    scope.add(alias.get("aliasname", ""), _renamed(alias) if "colnames" in alias else Source(outputs=outputs))


def _defined(node: Node) -> Iterator[str]:
    """The columns of a function in FROM that the statement itself defines: `AS t(a int, …)`."""
    for item in (*node.get("coldeflist", ()), *(one for call in node.get("functions", ()) for one in call["List"]["items"][1:])):
        for column in (item, *item.get("List", {}).get("items", ())):
            if "ColumnDef" in column:
                yield column["ColumnDef"].get("colname", "")


def _name_of_call(node: Node) -> str:
    """What a function in FROM is called without an alias; "" where that is not plain."""
    calls = [call["List"]["items"][0] for call in node.get("functions", ())]
    names = strings(calls[0].get("FuncCall", {}).get("funcname", ())) if len(calls) == 1 else []
    return names[-1] if names else ""


def _sample(walk: Walk, node: Node, scope: Scope) -> dict[str, Any]:
    method = strings(node.get("method", ()))
    if method[-1:] and (method[-1] not in _SAMPLERS or method[:-1] not in ([], ["pg_catalog"])):
        walk.functions[tuple(method)] = None
        walk.affects(("calls_unknown_function",))
    walk.rest("RangeTableSample", node, scope, ("relation", "method"))
    relation: dict[str, Any] = node.get("relation", {})
    return relation


def _join(walk: Walk, node: Node, scope: Scope) -> list[Node]:
    """Push a join's conditions; its two sides are given back, or dealt with here when an alias hides their names."""
    sides = [side for side in (node.get("rarg"), node.get("larg")) if side]
    alias = node.get("alias")
    inner = scope.inside() if alias else scope
    if "usingClause" in node:
        _using(walk, strings(node["usingClause"]), sides, inner)
    if node.get("isNatural"):
        walk.column(inner, [], star=True)  # joins on columns that the text does not name
    if "join_using_alias" in node:
        inner.add(node["join_using_alias"].get("aliasname", ""), Source())
    walk.rest("JoinExpr", node, inner, ("larg", "rarg", "usingClause", "join_using_alias", "alias"))
    if alias is None:
        return sides
    from_clause(walk, sides[::-1], inner)
    bases = [base for _, source in inner.sources for base in source.bases]
    renamed = "colnames" in alias or any(source.renamed for _, source in inner.sources)
    scope.add(alias.get("aliasname", ""), Source(bases, renamed=renamed))
    return []


def _using(walk: Walk, names: Sequence[str], sides: Sequence[Node], scope: Scope) -> None:
    for name in names:
        for side in sides:
            relation = side.get("RangeVar")
            if relation is None:
                walk.column(scope, [name])
            elif "schemaname" in relation or scope.cte(relation.get("relname", "")) is None:
                renamed = "colnames" in relation.get("alias", {})
                walk.columns[(*walk.relation(relation), "*" if renamed else name)] = None


def _range_var(walk: Walk, node: Node, scope: Scope) -> None:
    """A relation outside FROM: in a definition, in a command."""
    walk.reads_relation(scope, walk.relation(node))


def stored(scope: Scope) -> Scope:
    """The scope of a definition that others will run later."""
    return scope.inside(Mode.LATER if scope.mode is Mode.NOW else scope.mode)


HANDLERS: Final[Mapping[str, Handler]] = {
    "SelectStmt": _select,
    "RangeVar": _range_var,
}
