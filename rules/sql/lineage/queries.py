"""What the columns of a query carry: SELECT, VALUES, set operations, WITH, FROM, and the RETURNING of statements that write."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any, Final

from rules.sql.functions import catalog
from rules.sql.lineage.expressions import MAX_COLUMNS, Expressions, Node, TooLarge
from rules.sql.lineage.literals import names_of
from rules.sql.lineage.model import (
    NOTHING,
    SYSTEM_SCHEMAS,
    UNKNOWN_FLOW,
    UNKNOWN_RELATION,
    Flow,
    Output,
    Relation,
    derived,
    union,
)
from rules.sql.lineage.scopes import Scope, Source

type Outputs = tuple[Sequence[Output], bool]  # and whether they are all, in their order

_MOST_ROUNDS: Final = 8  # of a recursive query until what it carries no longer grows


class Queries(Expressions):
    """Reads queries of one statement."""

    def query(self, node: Node, scope: Scope | None) -> Outputs:
        """`{kind: fields}` of a SELECT or a statement with RETURNING; `scope` is the level around it."""
        self.visit()
        for kind, fields in node.items():
            if kind == "SelectStmt":
                return self.select(fields, scope)
            if kind in ("InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"):
                return self.write(kind, fields, scope)
        return ((Output("", self.unknown_code()),), False)

    def write(self, kind: str, fields: Node, scope: Scope | None) -> Outputs:
        """A statement that writes, with its RETURNING."""
        raise NotImplementedError

    # --- SELECT

    def select(self, fields: Node, outer: Scope | None) -> Outputs:
        """A SelectStmt: VALUES, a set operation or a plain one."""
        level = Scope(outer, self.ctes(fields.get("withClause"), outer))
        if fields.get("op", "SETOP_NONE") != "SETOP_NONE":
            found = self._set_operation(fields, level)
        elif "valuesLists" in fields:
            found = self._values(fields["valuesLists"], level)
        else:
            found = self._plain(fields, level)
        limits = Scope(outer, level.ctes)
        self.use("rows", self.flow(fields.get("limitCount"), limits) | self.flow(fields.get("limitOffset"), limits), "LIMIT")
        return found

    def _plain(self, fields: Node, scope: Scope) -> Outputs:
        for item in fields.get("fromClause", ()):
            scope.items.append(self.source(item, scope))
        self.condition(fields.get("whereClause"), scope)
        outputs, exact = self.targets(fields.get("targetList", ()), scope)
        for group in fields.get("groupClause", ()):
            self._group(group, scope, outputs, exact)
        if fields.get("groupDistinct"):
            self.use("group", union(output.flow for output in outputs))
        self.condition(fields.get("havingClause"), scope)
        for window in fields.get("windowClause", ()):
            self.window(window.get("WindowDef"), scope)
        self._distinct(fields.get("distinctClause"), scope, outputs, exact)
        self.order(fields.get("sortClause", ()), scope, outputs, exact)
        return outputs, exact

    def _group(self, node: Any, scope: Scope, outputs: Sequence[Output], exact: bool) -> None:
        for item in node.get("GroupingSet", {}).get("content", ()):
            self._group(item, scope, outputs, exact)
        if "GroupingSet" not in node:
            self.use("group", self.term(node, scope, outputs, exact))

    def _distinct(self, clause: Any, scope: Scope, outputs: Sequence[Output], exact: bool) -> None:
        if clause is None:
            return
        terms = [term for term in clause if term]
        carried = [self.term(term, scope, outputs, exact) for term in terms] or [output.flow for output in outputs]
        self.use("group", union(carried), "DISTINCT")

    def _values(self, rows: Sequence[Any], scope: Scope) -> Outputs:
        columns: list[Flow] = []
        for row in rows:
            for index, value in enumerate(row.get("List", {}).get("items", ())):
                constant = "A_Const" in value or "ParamRef" in value  # most are, and there may be very many
                flow = NOTHING if constant else self.flow(value, scope)
                if index == len(columns):
                    columns.append(flow)
                elif flow:
                    columns[index] |= flow
        return tuple(Output(f"column{index}", flow, True) for index, flow in enumerate(columns, 1)), True

    def _set_operation(self, fields: Node, scope: Scope) -> Outputs:
        left, left_exact = self.select(fields.get("larg", {}), scope)
        right, right_exact = self.select(fields.get("rarg", {}), scope)
        outputs, exact = _together(left, left_exact, right, right_exact)
        if not fields.get("all") or fields.get("op") != "SETOP_UNION":
            self.use("group", union(output.flow for output in outputs), "a set operation")
        self.order(fields.get("sortClause", ()), Scope(scope.outer, scope.ctes), outputs, exact)
        return outputs, exact

    def targets(self, nodes: Sequence[Any], scope: Scope) -> Outputs:
        """A target list, stars expanded."""
        outputs: list[Output] = []
        exact = True
        for node in nodes:
            target = node.get("ResTarget", {})
            value = target.get("val", {})
            starred = self._starred(value, scope)
            if starred is None:
                outputs.append(Output(target.get("name") or implied_name(value), self.flow(value, scope), bool(target.get("name"))))
                continue
            for source in starred:
                outputs += source.columns
                if source.rest is not None:
                    exact = False
                    outputs.append(Output("", source.rest))
            if len(outputs) > MAX_COLUMNS:
                raise TooLarge("it has too many columns")
        return outputs, exact

    def _starred(self, value: Node, scope: Scope) -> Sequence[Source] | None:
        """What `*`, `t.*` or `(expression).*` stands for; None when it is not a star."""
        if "ColumnRef" in value:
            parts = value["ColumnRef"].get("fields", ())
            if not any("A_Star" in part for part in parts):
                return None
            names = names_of(parts)
            if not names:
                return scope.items
            source = scope.relation(names[-1], qualified=len(names) > 1)
            return (source or Source((), UNKNOWN_FLOW),)
        if "A_Indirection" in value and any("A_Star" in part for part in value["A_Indirection"].get("indirection", ())):
            return (Source((), self.flow(value, scope)),)
        return None

    # --- WITH

    def ctes(self, clause: Any, outer: Scope | None) -> dict[str, Source]:
        """The sources that a WITH clause names, and those of the levels around it."""
        known: dict[str, Source] = dict(outer.ctes) if outer is not None else {}
        if not clause:
            return known
        recursive = bool(clause.get("recursive"))
        expressions = [cte.get("CommonTableExpr", {}) for cte in clause.get("ctes", ())]
        if recursive:  # each sees all: those further down are read as if they could carry anything
            for cte in expressions:
                known[cte.get("ctename", "")] = Source((), UNKNOWN_FLOW)
        for cte in expressions:
            known[cte.get("ctename", "")] = self._cte(cte, Scope(outer, known), recursive)
        return known

    def _cte(self, cte: Node, level: Scope, recursive: bool) -> Source:
        name = cte.get("ctename", "")
        columns = names_of(cte.get("aliascolnames"))
        query = cte.get("ctequery", {})
        select = query.get("SelectStmt", {})
        extra = bool(cte.get("search_clause") or cte.get("cycle_clause"))  # columns whose values are made of others
        if not (recursive and select.get("op") == "SETOP_UNION" and _mentions(select.get("rarg"), name)):
            return _source(*self.query(query, level), columns, extra)
        ctes = dict(level.ctes)
        scope = Scope(level.outer, ctes)
        # a WITH of the recursive query itself is read with each arm
        inner = {**select.get("withClause", {})}
        if inner:
            return Source((), self.unknown_code())
        ctes[name] = found = _source(*self.select(select.get("larg", {}), scope), columns, extra)
        for _ in range(_MOST_ROUNDS):
            grown = _source(*self.query(query, scope), columns, extra)
            if grown.whole == found.whole and [one.flow for one in grown.columns] == [one.flow for one in found.columns]:
                return grown
            ctes[name] = found = grown
        return Source((), self.unknown_code())

    # --- FROM

    def source(self, node: Node, scope: Scope) -> Source:
        """One item of FROM; its names are added to `scope`, of which it sees what stands before it."""
        self.visit()
        ((kind, fields),) = node.items()
        if kind == "RangeVar":
            return self.relation_source(fields, scope)
        if kind == "JoinExpr":
            return self._join(fields, scope)
        if kind == "RangeSubselect":
            around = scope if fields.get("lateral") else Scope(scope.outer, scope.ctes)
            found = _source(*self.query(fields.get("subquery", {}), around), (), False)
        elif kind == "RangeTableSample":
            self.use("rows", self.flows(fields.get("args", ()), scope) | self.flow(fields.get("repeatable"), scope))
            return self.source(fields.get("relation", {}), scope)
        elif kind == "RangeFunction":
            found = self._functions(fields, scope)
        else:  # XMLTABLE, JSON_TABLE
            carried = derived(self._inside({name: value for name, value in fields.items() if name != "alias"}, scope))
            self.use("rows", carried, "a table function")
            found = Source((), carried)
        return self._named(fields.get("alias"), found, "", scope)

    def relation_source(self, fields: Node, scope: Scope, *, target: bool = False) -> Source:
        """A relation's or a CTE's name."""
        name, schema = fields.get("relname", ""), fields.get("schemaname", "")
        found = None if schema or target else scope.ctes.get(name)
        if found is None:
            found = self._relation(schema, name)
        return self._named(fields.get("alias"), found, name, scope)

    def _relation(self, schema: str, name: str) -> Source:
        candidates = self.find(schema, name)
        system = schema in SYSTEM_SCHEMAS or (not schema and name in catalog().relations)
        if not candidates:
            if system:
                return Source((), NOTHING)
            self.relations.add(UNKNOWN_RELATION)
            return Source((), UNKNOWN_FLOW)
        self.relations.update(relation.oid for relation in candidates)
        sources = [_whole_relation(relation) for relation in candidates]
        if len(sources) == 1 and not (system and candidates[0].schema not in SYSTEM_SCHEMAS):
            return sources[0]
        return Source([column for source in sources for column in source.columns], union(source.whole for source in sources))

    def _named(self, alias: Any, source: Source, name: str, scope: Scope) -> Source:
        if alias:
            name = alias.get("aliasname", "") or name
            source = source.renamed(names_of(alias.get("colnames")))
        if name:
            scope.named.append((name, source))
        return source

    def _functions(self, fields: Node, scope: Scope) -> Source:
        carried: list[Flow] = []
        listed: list[str] = [column.get("ColumnDef", {}).get("colname", "") for column in fields.get("coldeflist", ())]
        for function in fields.get("functions", ()):
            items = function.get("List", {}).get("items", ()) or (function,)
            flow = derived(self.flow(items[0], scope))
            self.use("rows", flow, "a function in FROM")
            carried.append(flow)
            for item in items[1:]:
                listed += [column.get("ColumnDef", {}).get("colname", "") for column in item.get("List", {}).get("items", ())]
        whole = union(carried)
        source = Source([Output(name, whole) for name in listed], whole)
        if not fields.get("alias"):
            for function in fields.get("functions", ()):
                items = function.get("List", {}).get("items", ()) or (function,)
                names = names_of(items[0].get("FuncCall", {}).get("funcname"))
                if names:
                    scope.named.append((names[-1], source))
        return source

    def _join(self, fields: Node, scope: Scope) -> Source:
        """Both sides, what they are joined by, and the columns in the order of `*`: merged ones first (SQL:2023, 7.10)."""
        first = len(scope.named)
        left = self.source(fields.get("larg", {}), scope)
        scope.items.append(left)  # LATERAL on the right sees the left
        right = self.source(fields.get("rarg", {}), scope)
        scope.items.pop()
        inner = Scope(scope.outer, scope.ctes)
        inner.items = [left, right]
        inner.named = scope.named[first:]
        self.condition(fields.get("quals"), inner, "join")
        merged: tuple[str, ...] = names_of(fields.get("usingClause"))
        certain = left.rest is None and right.rest is None
        if fields.get("isNatural"):
            merged = tuple(column.name for column in left.columns if right.certainly_has(column.name))
            if not certain:
                self.use("join", left.whole | right.whole, "NATURAL JOIN")
        shared = [Output(name, _of(left, name) | _of(right, name), True) for name in merged]
        for column in shared:
            self.use("join", column.flow, "USING")
        if len(left.columns) + len(right.columns) > MAX_COLUMNS:
            raise TooLarge("it joins too many columns")
        others = [column for side in (left, right) for column in side.columns if column.name not in merged]
        joined = Source((*shared, *others), None if certain else left.whole | right.whole)
        if fields.get("join_using_alias"):
            scope.named.append((fields["join_using_alias"].get("aliasname", ""), Source(shared)))
        if not fields.get("alias"):
            return joined
        del scope.named[first:]  # the alias hides the names inside
        return self._named(fields["alias"], joined, "", scope)


def _of(source: Source, name: str) -> Flow:
    flow = source.column(name)
    return UNKNOWN_FLOW if flow is None else flow


def _whole_relation(relation: Relation) -> Source:
    return Source([Output(name, frozenset({(relation.oid, number)}), True) for number, name in relation.columns])


def _source(outputs: Sequence[Output], exact: bool, names: tuple[str, ...], extra: bool) -> Source:
    if exact and not extra:
        return Source(outputs).renamed(names)
    rest = union(output.flow for output in outputs)
    return Source([output for output in outputs if output.name], rest).renamed(names)


def _together(left: Sequence[Output], left_exact: bool, right: Sequence[Output], right_exact: bool) -> Outputs:
    if left_exact and right_exact and len(left) == len(right):
        return tuple(Output(one.name, one.flow | other.flow, one.certain) for one, other in zip(left, right, strict=True)), True
    whole = union(output.flow for output in (*left, *right))
    return tuple(Output(output.name, whole) for output in left) or (Output("", whole),), False


def _mentions(node: Any, name: str) -> bool:
    """Whether a tree holds a relation of this name, at any depth."""
    waiting = [node]
    while waiting:
        one = waiting.pop()
        if isinstance(one, list):
            waiting += one
        elif isinstance(one, dict):
            if one.get("relname") == name:
                return True
            waiting += one.values()
    return False


def implied_name(value: Node) -> str:
    """The name that the server gives an output without one, where that is easy to tell (FigureColname in parse_target.c)."""
    for kind, fields in value.items():
        if kind == "ColumnRef":
            names = names_of(fields.get("fields"))
            return names[-1] if names else ""
        if kind == "FuncCall":
            return names_of(fields.get("funcname"))[-1]
        if kind == "TypeCast":
            argument = fields.get("arg", {})
            if not argument.keys() <= {"ColumnRef", "FuncCall", "TypeCast", "CollateClause", "A_Indirection", "A_Const", "ParamRef"}:
                return ""
            return implied_name(argument) or names_of(fields.get("typeName", {}).get("names"))[-1]
        if kind == "CollateClause":
            return implied_name(fields.get("arg", {}))
        if kind == "A_Indirection":
            names = names_of(fields.get("indirection"))
            return names[-1] if names else implied_name(fields.get("arg", {}))
    return ""
