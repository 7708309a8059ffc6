"""Lineage of whole statements: what their result sets carry, what they write, define and run."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from typing import Any, Final

from rules.sql import bounds
from rules.sql.functions import words
from rules.sql.libpg_query import LibraryMissing, SyntaxRefused, parse
from rules.sql.lineage.expressions import Node, TooLarge, is_known
from rules.sql.lineage.literals import names_of
from rules.sql.lineage.model import NOTHING, UNKNOWN_FLOW, UNKNOWN_RELATION, Lineage, Output, Schema, derived, union
from rules.sql.lineage.queries import Outputs, Queries
from rules.sql.lineage.scopes import Scope, Source

_WRITING: Final = frozenset({"InsertStmt", "UpdateStmt", "DeleteStmt", "MergeStmt"})
# they give no rows, read no column's values into anything, and define nothing
_HARMLESS: Final = words(
    """
    TransactionStmt VariableSetStmt DeallocateStmt ClosePortalStmt DiscardStmt LockStmt NotifyStmt ListenStmt UnlistenStmt
    CheckPointStmt TruncateStmt DropStmt CommentStmt GrantStmt GrantRoleStmt VacuumStmt ReindexStmt ConstraintsSetStmt RefreshMatViewStmt
    CreateRoleStmt AlterRoleStmt DropRoleStmt CreateSeqStmt AlterSeqStmt CreatedbStmt DropdbStmt
    """
)
_SHOWING: Final = frozenset({"VariableShowStmt"})
# a body of code that this cannot look into, or a new name for what masks know by its old one
_DEFINING: Final = words(
    """
    DoStmt CreateFunctionStmt AlterFunctionStmt CreateTrigStmt CreateEventTrigStmt RuleStmt DefineStmt CreateCastStmt CreateTransformStmt
    CreateOpClassStmt CreateOpFamilyStmt CreateConversionStmt CreatePLangStmt CreateExtensionStmt CreatePolicyStmt AlterPolicyStmt
    CreateForeignTableStmt ImportForeignSchemaStmt CreateSubscriptionStmt CreatePublicationStmt AlterPublicationStmt LoadStmt
    CreateDomainStmt AlterDomainStmt SecLabelStmt
    """
)


@dataclass(frozen=True, slots=True)
class Context:
    """What a session has that a statement may name: prepared statements with their lineage, cursors with that of their DECLARE."""

    schema: Schema
    path: tuple[str, ...] | None = ("public",)
    prepared: Mapping[str, Lineage] = field(default_factory=dict)
    cursors: Mapping[str, Lineage] = field(default_factory=dict)
    settled: bool = False  # the catalogue is of the very moment in which names are looked up: definitions that it holds


def lineage_of_text(text: bytes, context: Context) -> tuple[Lineage, ...]:
    """One for each statement of `text`; a single unknown one where it cannot be read."""
    try:
        bounds.measure(text)
        statements = parse(text)
        return tuple(lineage(node, context, len(text) // len(statements)) for node in statements)
    except (bounds.Exceeded, SyntaxRefused, LibraryMissing) as error:
        return (Lineage.unknown(str(error)),)


def lineage(statement: Node, context: Context, size: int) -> Lineage:
    """The lineage of one statement, `{kind: fields}` as libpg_query gives it, of `size` bytes of text.

    Never raises: what cannot be told is unknown.
    """
    reader = _Statements(context, size)
    try:
        found = reader.statement(statement)
    except TooLarge as error:
        return Lineage.unknown(f"the statement takes too long to read: {error}")
    except RecursionError:
        return Lineage.unknown("the statement is nested too deeply to tell what its results are made from")
    except (KeyError, IndexError, TypeError, ValueError, AttributeError):
        return Lineage.unknown("the statement's form is not known")
    return replace(found, uses=found.uses | reader.uses, relations=found.relations | reader.relations, writes=found.writes or reader.writes)


class _Statements(Queries):
    """Reads one statement."""

    def __init__(self, context: Context, size: int) -> None:
        super().__init__(context.schema, context.path, settled=context.settled, size=size)
        self.context = context
        self.writes = False

    def statement(self, node: Node) -> Lineage:
        if not node:
            return Lineage("nothing")
        ((kind, fields),) = node.items()
        if kind == "SelectStmt":
            outputs, exact = self.query(node, None)
            return self._defined(outputs) if _has_into(fields) else Lineage("rows", tuple(outputs), exact)
        if kind in _WRITING:
            outputs, exact = self.query(node, None)
            return Lineage("rows", tuple(outputs), exact)
        if kind in _HARMLESS:
            self.writes = True  # COMMIT runs what was deferred
            return Lineage("nothing", relations=self._touched(fields))
        if kind in _SHOWING:
            return Lineage("rows", (Output("", NOTHING),), False)
        read = _READERS.get(kind)
        if read is not None:
            found: Lineage = read(self, fields)
            return found
        return self._other(kind, fields)

    # --- writing

    def write(self, kind: str, fields: Node, scope: Scope | None) -> Outputs:
        self.writes = True
        level = Scope(scope, self.ctes(fields.get("withClause"), scope))
        target = self.relation_source(fields.get("relation", {}), level, target=True)
        if kind == "InsertStmt":
            self._insert(fields, level, target)
        elif kind == "MergeStmt":
            self._merge(fields, level, target)
        else:
            level.items.append(target)
            for item in fields.get("fromClause") or fields.get("usingClause") or ():
                level.items.append(self.source(item, level))
            self._assigned(fields.get("targetList", ()), level)
            self.condition(fields.get("whereClause"), level)
        return self._returning(fields.get("returningClause"), level, target, exact=kind != "MergeStmt")

    def _assigned(self, targets: Sequence[Any], scope: Scope) -> None:
        for node in targets:
            target = node.get("ResTarget", {})
            self.use("write", self.flow(target.get("val"), scope))
            for part in target.get("indirection", ()):
                self.use("write", self._inside(part, scope))

    def _insert(self, fields: Node, level: Scope, target: Source) -> None:
        select = fields.get("selectStmt")
        if select:
            outputs, _ = self.query(select, Scope(level.outer, level.ctes))
            self.use("write", union(output.flow for output in outputs))
        level.items.append(target)
        conflict = fields.get("onConflictClause")
        if conflict:
            inside = Scope(level.outer, level.ctes)
            inside.items = [target]
            inside.named = [*level.named, ("excluded", target.clean())]
            self._assigned(conflict.get("targetList", ()), inside)
            self.condition(conflict.get("whereClause"), inside)
            self.use("predicate", self._inside(conflict.get("infer", {}).get("whereClause", {}), inside))
            elements = conflict.get("infer", {}).get("indexElems", ())
            self.use("compute", union(self.flow(element.get("IndexElem", {}).get("expr"), inside) for element in elements))

    def _merge(self, fields: Node, level: Scope, target: Source) -> None:
        level.items.append(target)
        level.items.append(self.source(fields.get("sourceRelation", {}), level))
        self.condition(fields.get("joinCondition"), level, "join")
        for node in fields.get("mergeWhenClauses", ()):
            clause = node.get("MergeWhenClause", {})
            self.condition(clause.get("condition"), level)
            self._assigned(clause.get("targetList", ()), level)
            self.use("write", self.flows(clause.get("values", ()), level))

    def _returning(self, clause: Any, level: Scope, target: Source, *, exact: bool) -> Outputs:
        if not clause:
            return ((), True)
        names = {"old": "old", "new": "new"}
        for node in clause.get("options", ()):
            option = node.get("ReturningOption", {})
            names["old" if option.get("option") == "RETURNING_OPTION_OLD" else "new"] = option.get("value", "")
        level.named += [(name, target) for name in names.values()]
        outputs, certain = self.targets(clause.get("exprs", ()), level)
        return outputs, certain and exact

    # --- defining

    def _defined(self, outputs: Sequence[Output]) -> Lineage:
        """A query whose results become a relation: they would lose the names that masks know them by."""
        self.writes = True
        self.use("write", union(output.flow for output in outputs))
        return Lineage("nothing")

    def _create_as(self, fields: Node) -> Lineage:
        query = fields.get("query", {})
        if "ExecuteStmt" in query:
            return self._defined(self._execute(query["ExecuteStmt"]).outputs)
        return self._defined(self.query(query, None)[0])

    def _view(self, fields: Node) -> Lineage:
        return self._defined(self.query(fields.get("query", {}), None)[0])

    def _other(self, kind: str, fields: Node) -> Lineage:
        """A statement that is not read in full: masked relations in it are to be refused, and so is code."""
        self.writes = True
        touched = self._touched(fields) | self._moved(kind, fields)
        columns = frozenset(
            (oid, number) for oid in touched if oid in self.schema.relations for number, _ in self.schema.relations[oid].columns
        )
        self.use("define", columns | (UNKNOWN_FLOW if UNKNOWN_RELATION in touched and kind not in _PLAIN else NOTHING))
        if kind in _DEFINING or self._calls_unknown(fields):  # a default may be such a call
            self.use("code", UNKNOWN_FLOW, kind.removesuffix("Stmt"))
        if kind == "CallStmt":
            return Lineage("rows", (Output("", self.unknown_code()),), False)
        return Lineage("nothing" if kind in _DEFINING or kind in _PLAIN else "unknown", (Output("", UNKNOWN_FLOW),), False)

    def _touched(self, fields: Any) -> frozenset[int]:
        """The relations that are named anywhere inside."""
        found: set[int] = set()
        for one in self._nodes(fields):
            if "relname" in one:
                known = self.find(one.get("schemaname", ""), one["relname"])
                found.update(relation.oid for relation in known)
                if not known:
                    found.add(UNKNOWN_RELATION)
        return frozenset(found)

    def _moved(self, kind: str, fields: Node) -> frozenset[int]:
        """Relations that get another name without being named: with their schema, or with their extension, whatever is in that."""
        if kind == "AlterObjectSchemaStmt" and fields.get("objectType") == "OBJECT_EXTENSION":
            return frozenset(self.schema.relations)
        if kind != "RenameStmt" or fields.get("renameType") != "OBJECT_SCHEMA":
            return frozenset()
        return frozenset(oid for oid, relation in self.schema.relations.items() if relation.schema == fields.get("subname", ""))

    def _calls_unknown(self, fields: Any) -> bool:
        """Whether a function that may read anything is called anywhere inside."""
        for one in self._nodes(fields):
            names = names_of(one.get("funcname"))
            if names and (names[:-1] not in ((), ("pg_catalog",)) or names[-1] in self.schema.functions or not is_known(names[-1])):
                return True
        return False

    def _nodes(self, fields: Any) -> Iterator[Node]:
        """Every node inside."""
        waiting = [fields]
        while waiting:
            one = waiting.pop()
            self.visit()
            if isinstance(one, list):
                waiting += one
            elif isinstance(one, dict):
                yield one
                waiting += one.values()

    # --- statements around others

    def _copy(self, fields: Node) -> Lineage:
        options = tuple((option.get("defname", "").lower(), _option(option)) for option in map(_element, fields.get("options", ())))
        if fields.get("is_from"):
            self.writes = True
            level = Scope()
            level.items.append(self.relation_source(fields.get("relation", {}), level, target=True))
            self.condition(fields.get("whereClause"), level)
            return Lineage("copy_in", options=options)
        if "query" in fields:
            outputs, exact = self.query(fields["query"], None)
        else:
            source = self.relation_source(fields.get("relation", {}), Scope(), target=True)
            chosen = names_of(fields.get("attlist"))
            outputs = [Output(name, source.column(name) or source.whole, True) for name in chosen] or list(source.columns)
            exact = source.rest is None
            if not exact:
                outputs = [*outputs, Output("", source.whole)]
        if fields.get("filename") or fields.get("is_program"):
            self.use("write", union(output.flow for output in outputs))
            return Lineage("nothing", options=options)
        return Lineage("copy_out", tuple(outputs), exact, options=options)

    def _explain(self, fields: Node) -> Lineage:
        inner = self.statement(fields.get("query", {}))
        # the planner shows constants that it worked out: with functions that read tables they may be anything
        shown = UNKNOWN_FLOW if UNKNOWN_RELATION in self.relations | inner.relations else NOTHING
        return replace(inner, shape="explain", outputs=(Output("QUERY PLAN", shown),), exact=False)

    def _prepare(self, fields: Node) -> Lineage:
        inner = self.statement(fields.get("query", {}))
        return replace(inner, shape="nothing", outputs=())

    def _execute(self, fields: Node) -> Lineage:
        self.use("compute", derived(self.flows(fields.get("params", ()), Scope())))
        found = self.context.prepared.get(fields.get("name", ""))
        return found if found is not None else Lineage.unknown("it runs a prepared statement that is not known")

    def _declare(self, fields: Node) -> Lineage:
        """It gives no rows itself: the outputs are those of FETCH from the cursor."""
        outputs, exact = self.query(fields.get("query", {}), None)
        return Lineage("nothing", tuple(outputs), exact)

    def _fetch(self, fields: Node) -> Lineage:
        if fields.get("ismove"):
            return Lineage("nothing")
        found = self.context.cursors.get(fields.get("portalname", ""))
        if found is None:
            self.relations.add(UNKNOWN_RELATION)  # its query runs now, and its errors may quote anything
            return Lineage("rows", (Output("", UNKNOWN_FLOW),), False, reason="it fetches from a cursor that is not known")
        return Lineage("rows", found.outputs, found.exact, relations=found.relations, writes=found.writes)


_PLAIN: Final = words(
    "CreateStmt CreateSchemaStmt IndexStmt AlterTableStmt RenameStmt AlterObjectSchemaStmt AlterOwnerStmt CreateStatsStmt"
)
_READERS: Final[Mapping[str, Any]] = {
    "CreateTableAsStmt": _Statements._create_as,
    "ViewStmt": _Statements._view,
    "CopyStmt": _Statements._copy,
    "ExplainStmt": _Statements._explain,
    "PrepareStmt": _Statements._prepare,
    "ExecuteStmt": _Statements._execute,
    "DeclareCursorStmt": _Statements._declare,
    "FetchStmt": _Statements._fetch,
}


def _has_into(select: Node) -> bool:
    """SELECT … INTO: in a set operation it stands in the leftmost arm."""
    while "intoClause" not in select and "larg" in select:
        select = select["larg"]
    return "intoClause" in select


def _element(node: Node) -> Node:
    found: Node = node.get("DefElem", {})
    return found


def _option(option: Node) -> str:
    """The value of an option as text; "true" where only its name is given."""
    value = option.get("arg")
    if value is None:
        return "true"
    if "String" in value:
        return str(value["String"].get("sval", ""))
    if "Boolean" in value:
        return str(value["Boolean"].get("boolval", False)).lower()
    if "Integer" in value:
        return str(value["Integer"].get("ival", 0))
    return "?"
