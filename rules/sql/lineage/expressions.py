"""What the value of an expression may have been made from, and which uses of columns are inside it.

Written against the raw parse tree of PostgreSQL 18 (rules.sql.nodes). A node that is not in the table carries whatever is inside
it and counts as computing with it; one that cannot be read at all carries ANYTHING.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any, Final

from rules.sql.functions import DANGEROUS, READS_ANYTHING, catalog
from rules.sql.lineage.carriers import (
    ALONE,
    CARRIED_ARGUMENTS,
    CARRIERS,
    CARRYING_OPERATORS,
    LEAKING_FUNCTIONS,
    ROW_RETURNING,
    SUBSCRIPTS,
    TEXT_TYPES,
)
from rules.sql.lineage.literals import is_integer, is_literal, is_whole_text, names_of
from rules.sql.lineage.model import (
    ANYTHING,
    DERIVED,
    NOTHING,
    UNKNOWN_FLOW,
    UNKNOWN_RELATION,
    Flow,
    Output,
    Relation,
    Schema,
    Use,
    UseKind,
    derived,
    union,
)
from rules.sql.lineage.scopes import SYSTEM_COLUMNS, Scope

type Node = Mapping[str, Any]

MAX_VISITS: Final = 200_000  # nodes looked at for one statement
MAX_COLUMNS: Final = 10_000  # of one item of FROM, or one target list; the server takes 1,664 in a target list


class TooLarge(ValueError):
    """The statement takes more steps than it is given."""


class Expressions:
    """Reads expressions of one statement; `uses` and `relations` are collected on the way."""

    def __init__(self, schema: Schema, path: tuple[str, ...] | None, *, settled: bool = False, size: int = MAX_VISITS) -> None:
        """`size` is that of the text, in bytes: nested recursive CTEs are read again and again, which a short text must not use."""
        self.schema = schema
        self.path = path
        self.settled = settled
        self.uses: set[Use] = set()
        self.relations: set[int] = set()
        self.visits = min(2_000 + 4 * size, MAX_VISITS)  # that are left

    def find(self, schema: str, name: str) -> Sequence[Relation]:
        """The relations that a name may stand for."""
        return self.schema.find(schema, name, self.path, settled=self.settled)

    # --- to be given by the reader of queries

    def query(self, node: Node, scope: Scope | None) -> tuple[Sequence[Output], bool]:
        """The outputs of a nested query, and whether they are all in their order."""
        raise NotImplementedError

    # --- uses

    def use(self, kind: UseKind, flow: Flow, detail: str = "") -> None:
        if flow:
            self.uses.add(Use(kind, flow, detail))

    def unknown_code(self) -> Flow:
        """Code that may read anything runs here."""
        self.relations.add(UNKNOWN_RELATION)
        return UNKNOWN_FLOW

    def condition(self, node: Any, scope: Scope, kind: UseKind = "predicate") -> Flow:
        """A condition that rows depend on. Equality of a column with a literal or parameter tells nothing that was not guessed."""
        if not node:
            return NOTHING
        ((name, fields),) = node.items()
        if name == "BoolExpr":
            return union([self.condition(part, scope, kind) for part in fields.get("args", ())])
        guessed = self._guessed(name, fields, scope)
        if guessed is not None:
            self.use("guess", guessed)
            return derived(guessed)
        flow = self.flow(node, scope)
        self.use(kind, flow)
        return flow

    def _guessed(self, name: str, fields: Node, scope: Scope) -> Flow | None:
        """The column of `column = literal` and `column IN (literals)`; None when it is something else, or not a column's own value."""
        if name != "A_Expr" or names_of(fields.get("name")) != ("=",) or "=" in self.schema.operators:
            return None
        column, other = fields.get("lexpr", {}), fields.get("rexpr", {})
        if fields.get("kind") == "AEXPR_IN":
            guesses = other.get("List", {}).get("items", ())
        elif fields.get("kind") == "AEXPR_OP":
            column, other = (column, other) if "ColumnRef" in column else (other, column)
            guesses = (other,)
        else:
            return None
        if "ColumnRef" not in column or not all(is_literal(guess) for guess in guesses):
            return None
        flow = self.flow(column, scope)
        return None if DERIVED in flow or ANYTHING in flow else flow

    # --- flows

    def flows(self, nodes: Iterable[Any], scope: Scope) -> Flow:
        return union([self.flow(node, scope) for node in nodes])

    def visit(self) -> None:
        self.visits -= 1
        if self.visits < 0:
            raise TooLarge("it repeats too much")

    def flow(self, node: Any, scope: Scope) -> Flow:
        """What the value of an expression node (`{kind: fields}`, or a list of them) may have been made from."""
        self.visit()
        if isinstance(node, list):
            return self.flows(node, scope)
        if not isinstance(node, dict) or not node:
            return NOTHING
        kind = next(iter(node))
        read = _READERS.get(kind) if len(node) == 1 else None
        if read is not None:
            flow = read(self, node[kind], scope)
            return flow if kind in _DIRECT or (kind == "TypeCast" and is_whole_text(node[kind])) else derived(flow)
        flow = derived(self._inside(node, scope))
        self.use("compute", flow, kind)
        return flow

    def _inside(self, fields: Any, scope: Scope) -> Flow:
        """Everything inside of a node, whatever its fields are."""
        self.visit()
        if isinstance(fields, list):
            return union([self._inside(item, scope) for item in fields])
        if not isinstance(fields, dict):
            return NOTHING
        found = [NOTHING]
        for name, value in fields.items():
            if name in _READERS:
                found.append(_READERS[name](self, value, scope))
            elif name.endswith("Stmt"):
                found.append(self.unknown_code())
            else:
                found.append(self._inside(value, scope))
        return union(found)

    def _nothing(self, fields: Node, scope: Scope) -> Flow:
        return NOTHING

    def _column(self, fields: Node, scope: Scope) -> Flow:
        parts = fields.get("fields", ())
        names = [part["String"].get("sval", "") for part in parts if "String" in part]
        star = any("A_Star" in part for part in parts)
        if star and not names:
            return union(source.whole for source in scope.items)
        if not star and len(names) == 1:
            return scope.bare(names[0])
        qualifier = names if star else names[:-1]
        if not qualifier:
            return UNKNOWN_FLOW
        source = scope.relation(qualifier[-1], qualified=len(qualifier) > 1)
        if source is None:
            return UNKNOWN_FLOW
        if star:
            return source.whole
        name = names[-1]
        if source.certainly_has(name) or (source.column(name) is not None and not self._may_call(name)):
            return source.column(name) or NOTHING
        if name in SYSTEM_COLUMNS:
            return NOTHING
        # `t.length` calls length(t) where there is no such column
        return self._called((name,), source.whole)

    def _children(self, fields: Node, scope: Scope) -> Flow:
        """A node that only puts values together or hands one on."""
        return union([self.flow(value, scope) for value in fields.values() if isinstance(value, dict | list)])

    def _cast(self, fields: Node, scope: Scope) -> Flow:
        flow = self.flow(fields.get("arg"), scope)
        if flow:
            kind = fields.get("typeName", {})
            if names_of(kind.get("names"))[-1:] == () or names_of(kind.get("names"))[-1] not in TEXT_TYPES or kind.get("arrayBounds"):
                self.use("compute", flow, "a cast")
        return flow

    def _indirection(self, fields: Node, scope: Scope) -> Flow:
        flow = self.flow(fields.get("arg"), scope)
        for part in fields.get("indirection", ()):
            if "A_Indices" in part:
                index = self.flows(part["A_Indices"].values(), scope)
                self.use("compute", index, "a subscript")  # NULL where there is no such element
                flow |= index
            elif "String" in part:
                name = part["String"].get("sval", "")
                if self._may_call(name) or (flow and name in catalog().functions):  # `(x).f` calls f(x) where x has no such field
                    flow |= self._called((name,), flow)
        return flow

    def _may_call(self, name: str) -> bool:
        """Whether a field's name may be that of a function which reads more than its argument."""
        return name in self.schema.functions or name in DANGEROUS or name in LEAKING_FUNCTIONS

    def _json_object(self, fields: Node, scope: Scope) -> Flow:
        flow = self._children(fields, scope)
        if fields.get("unique"):
            self.use("compute", flow, "unique keys")  # it fails where two are the same
        return flow

    def _list(self, fields: Node, scope: Scope) -> Flow:
        return self.flows(fields.get("items", ()), scope)

    def _boolean(self, fields: Node, scope: Scope) -> Flow:
        return self.flows(fields.get("args", ()), scope)

    def _operator(self, fields: Node, scope: Scope) -> Flow:
        guessed = self._guessed("A_Expr", fields, scope)
        if guessed is not None:
            self.use("guess", guessed)
            return guessed
        flow = self.flow(fields.get("lexpr"), scope) | self.flow(fields.get("rexpr"), scope)
        name = names_of(fields.get("name"))
        operator = name[-1] if name else ""
        if operator in self.schema.operators or (len(name) > 1 and name[0] != "pg_catalog") or not self._known_operator(fields, operator):
            self.use("compute", flow, f"operator {operator}")
            return flow | self.unknown_code()
        if fields.get("kind") == "AEXPR_OP" and operator in CARRYING_OPERATORS:
            if operator in SUBSCRIPTS:
                self._member(fields, scope)
            return flow
        self.use("compute", flow, f"operator {operator}")
        return flow

    def _member(self, fields: Node, scope: Scope) -> None:
        """`document -> key`: that it is NULL tells whether the key is there. Of a column's own value that is a guess of the caller's."""
        self.use("compute", self.flow(fields.get("rexpr"), scope), "a key")
        document = fields.get("lexpr", {})
        if SUBSCRIPTS.intersection(names_of(document.get("A_Expr", {}).get("name"))):
            return  # told where the first key is taken
        flow = self.flow(document, scope)
        self.use("guess" if "ColumnRef" in document and DERIVED not in flow else "compute", flow, "a key")

    def _known_operator(self, fields: Node, operator: str) -> bool:
        return fields.get("kind") not in ("AEXPR_OP", "AEXPR_OP_ANY", "AEXPR_OP_ALL") or operator in catalog().operators

    def _case(self, fields: Node, scope: Scope) -> Flow:
        argument = self.flow(fields.get("arg"), scope)
        found = [argument, self.flow(fields.get("defresult"), scope)]
        self.use("predicate", argument, "CASE")
        for arm in fields.get("args", ()):
            when = arm.get("CaseWhen", {})
            found += [self.condition(when.get("expr"), scope), self.flow(when.get("result"), scope)]
        return union(found)

    def _subquery(self, fields: Node, scope: Scope) -> Flow:
        outputs, _ = self.query(fields.get("subselect", {}), scope)
        kind = fields.get("subLinkType")
        if kind == "EXISTS_SUBLINK":
            return NOTHING  # the rows decide, and what they depend on is a use of its own
        carried = union(output.flow for output in outputs)
        if kind in ("ANY_SUBLINK", "ALL_SUBLINK"):
            carried |= self.flow(fields.get("testexpr"), scope)
            self.use("join", carried)
        return carried

    def _function(self, fields: Node, scope: Scope) -> Flow:
        each = [self.flow(argument, scope) for argument in fields.get("args", ())]
        arguments = union(each)
        if arguments:
            self._told(names_of(fields.get("funcname"))[-1:], fields.get("args", ()), each)
        if fields.get("agg_distinct"):
            self.use("group", arguments, "DISTINCT")
        within = self.order(fields.get("agg_order", ()), scope)
        flow = arguments | (within if fields.get("agg_within_group") else NOTHING)
        self.condition(fields.get("agg_filter"), scope)
        self.window(fields.get("over"), scope)
        return self._called(names_of(fields.get("funcname")), flow)

    def _told(self, name: Sequence[str], arguments: Sequence[Node], flows: Sequence[Flow]) -> None:
        """A function that carries its first arguments along may fail, or give NULL, because of the others."""
        function = name[0] if name else ""
        carried = CARRIED_ARGUMENTS.get(function)
        if carried is None or len(arguments) < 2:
            return
        if function in ALONE or any("NamedArgExpr" in argument for argument in arguments):
            carried = 0
        if function == "substring" and not all(is_integer(argument) for argument in arguments[1:]):
            carried = 0  # `substring(secret from '^a')` is NULL where the pattern does not match
        self.use("compute", union(flows[carried:]), f"function {function}")

    def _called(self, name: Sequence[str], arguments: Flow) -> Flow:
        function = name[-1] if name else ""
        built_in = len(name) == 1 or name[0] == "pg_catalog"
        if not built_in or (len(name) == 1 and function in self.schema.functions) or not is_known(function):
            # what runs a text of the caller's may fail because of any value, as DO may
            self.use("code", UNKNOWN_FLOW if function in READS_ANYTHING else arguments, f"function {function}")
            return arguments | self.unknown_code()
        if function in ROW_RETURNING:
            self.use("rows", arguments, f"function {function}")
        elif function not in CARRIERS:
            self.use("compute", arguments, f"function {function}")
        return arguments

    # --- clauses that expressions and queries share

    def order(self, clauses: Iterable[Any], scope: Scope, outputs: Sequence[Output] = (), exact: bool = True) -> Flow:
        """ORDER BY: the rows come in an order that tells of what they are sorted by."""
        found = [self.term(clause.get("SortBy", {}).get("node", {}), scope, outputs, exact) for clause in clauses]
        for flow in found:
            self.use("sort", flow)
        return union(found)

    def term(self, node: Node, scope: Scope, outputs: Sequence[Output], exact: bool) -> Flow:
        """A member of ORDER BY, GROUP BY or DISTINCT ON: an output's name or number, or an expression."""
        if outputs and "A_Const" in node and "ival" in node["A_Const"]:
            number = node["A_Const"]["ival"].get("ival", 0)
            return outputs[number - 1].flow if exact and 0 < number <= len(outputs) else union(output.flow for output in outputs)
        names = names_of(node.get("ColumnRef", {}).get("fields"))
        if len(names) == 1:
            meant = [output.flow for output in outputs if output.name == names[0]]
            if meant:
                column = scope.bare(names[0])
                return union(meant) | (NOTHING if column is UNKNOWN_FLOW else column)
            unnamed = [output.flow for output in outputs if not output.name]
            return self.flow(node, scope) | union(unnamed)
        return self.flow(node, scope)

    def window(self, window: Node | None, scope: Scope) -> None:
        """OVER (…) or a member of WINDOW."""
        if not window:
            return
        self.use("group", self.flows(window.get("partitionClause", ()), scope), "PARTITION BY")
        self.order(window.get("orderClause", ()), scope)
        self.use("rows", self.flow(window.get("startOffset"), scope) | self.flow(window.get("endOffset"), scope))


def is_known(function: str) -> bool:
    """Whether pg_catalog has a function of this name, and it reads nothing but its arguments."""
    known = catalog()
    if function in LEAKING_FUNCTIONS:
        return False
    return function in CARRIERS or any(known.is_harmless(function, count) for count in (0, 1, 2, 3, 4, 5, 6))


type _Reader = Callable[[Expressions, Any, Scope], Flow]

_DIRECT: Final = frozenset({"ColumnRef", "SubLink", "List", "ResTarget", "CollateClause"})  # what hands the value itself on
_READERS: Final[Mapping[str, _Reader]] = {
    **dict.fromkeys(
        (
            *("A_Const", "ParamRef", "SQLValueFunction", "SetToDefault", "CurrentOfExpr", "GroupingFunc", "MergeSupportFunc"),
            *("Integer", "Float", "Boolean", "String", "BitString", "A_Star", "TypeName", "JsonFormat", "JsonReturning"),
        ),
        Expressions._nothing,
    ),
    **dict.fromkeys(
        (
            *("CoalesceExpr", "MinMaxExpr", "RowExpr", "A_ArrayExpr", "CollateClause", "NamedArgExpr", "NullTest", "BooleanTest"),
            *("MultiAssignRef", "JsonArrayConstructor", "JsonKeyValue", "JsonValueExpr", "JsonOutput"),
            *("ResTarget", "JsonArrayAgg", "JsonAggConstructor"),
        ),
        Expressions._children,
    ),
    "ColumnRef": Expressions._column,
    "JsonObjectConstructor": Expressions._json_object,
    "JsonObjectAgg": Expressions._json_object,
    "TypeCast": Expressions._cast,
    "A_Indirection": Expressions._indirection,
    "List": Expressions._list,
    "BoolExpr": Expressions._boolean,
    "A_Expr": Expressions._operator,
    "CaseExpr": Expressions._case,
    "SubLink": Expressions._subquery,
    "FuncCall": Expressions._function,
}
