"""One pass over a statement's parse tree that collects its facts. Iterative: a tree may be thousands of levels deep.

A node kind or a field that `rules.sql.nodes` does not list leaves the statement incomplete. What each kind means is in the
modules whose handlers are joined in `rules.sql.postgres`.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping, Sequence
from typing import Any

from rules.sql import scopes
from rules.sql.calls import call_by_name
from rules.sql.facts import SqlFacts, dotted, sql_facts, union
from rules.sql.functions import RELATION_EFFECTS, catalog
from rules.sql.nodes import FIELDS
from rules.sql.scopes import Mode, Parts, Scope
from rules.sql.session import SessionState

type Node = Mapping[str, Any]
type Handler = Callable[[Walk, Node, Scope], None]

_NOTHING: Mapping[str, str] = {}


class Walk:
    """What was found so far, and what is still to be looked at. Ordered sets are dicts."""

    __slots__ = (
        "_columns",
        "_handlers",
        "_leaves",
        "_stack",
        "columns",
        "effects",
        "executes",
        "functions",
        "has_params",
        "included",
        "read_again",
        "reads",
        "reason",
        "settings",
        "state",
        "unbounded",
        "verbs",
        "writes",
    )

    def __init__(
        self, state: SessionState, handlers: Mapping[str, Handler], leaves: frozenset[str], read_again: Callable[[bytes], SqlFacts]
    ) -> None:
        self.state = state
        self.read_again = read_again  # the facts of a prepared statement in the present state
        self._handlers = handlers
        self._leaves = leaves
        self._stack: list[tuple[str, Node, Scope]] = []
        self._columns: list[tuple[Scope, list[str], bool, str]] = []  # scope, names, star, field
        self.verbs: dict[str, None] = {}
        self.effects: dict[str, None] = {}
        self.reads: dict[Parts, None] = {}
        self.writes: dict[Parts, None] = {}
        self.functions: dict[Parts, None] = {}
        self.settings: dict[str, None] = {}
        self.columns: dict[Parts, None] = {}
        self.executes: dict[str, None] = {}
        self.included: list[SqlFacts] = []
        self.has_params = False
        self.unbounded = False
        self.reason = ""

    # --- going on

    def push(self, kind: str, node: Node, scope: Scope) -> None:
        self._stack.append((kind, node, scope))

    def push_wrapped(self, wrapped: Node | None, scope: Scope) -> None:
        """A node in its wrapping `{kind: fields}`; `{}` stands for none."""
        if wrapped:
            for kind, node in wrapped.items():
                if kind == "ColumnRef":  # most of all nodes that are no leaves
                    self.column_ref(node, scope)
                elif kind not in self._leaves:
                    self._stack.append((kind, node, scope))

    def push_all(self, wrapped: Iterable[Node], scope: Scope) -> None:
        for one in wrapped:
            self.push_wrapped(one, scope)

    def statement(self, wrapped: Node, scope: Scope) -> None:
        """A statement as a whole: at the top, and inside EXPLAIN, PREPARE, COPY, a cursor. Subqueries are none."""
        if "SelectStmt" in wrapped:
            self.does(scope, "select")
        self.push_wrapped(wrapped, scope)

    def run(self) -> None:
        stack, handlers = self._stack, self._handlers
        while stack:
            kind, node, scope = stack.pop()
            handler = handlers.get(kind)
            if handler is None:
                self.rest(kind, node, scope)
            else:
                handler(self, node, scope)
        for scope, names, star, field in self._columns:
            if field or (len(names) > 1 and not star):
                call_by_name(self, scope, names, field)
            if len(names) == 1 and not star and not field and (base := scope.only_base(names[0])):
                self.columns[(*base, names[0])] = None
                continue
            found = scopes.field_of(scope, names[0], field) if field else scopes.resolve(scope, names, star=star)
            for column in found:
                self.columns[column] = None

    def rest(self, kind: str, node: Node, scope: Scope, skip: Sequence[str] = ()) -> None:
        """Push what is inside a node, but for the fields in `skip`, which the caller has dealt with."""
        fields = FIELDS.get(kind)
        if fields is None:
            self.incomplete(f"the gateway does not know the node {kind}")
            fields = _NOTHING
        for name, value in node.items():
            if value.__class__ is dict:
                if name in skip:
                    continue
                inside = fields.get(name)
                if inside is None:
                    self.incomplete(f"the gateway does not know the field {name} of {kind}")
                elif inside:
                    if inside not in self._leaves:
                        self._stack.append((inside, value, scope))
                else:
                    self.push_wrapped(value, scope)
            elif value.__class__ is list and name not in skip:
                if name not in fields:
                    self.incomplete(f"the gateway does not know the field {name} of {kind}")
                else:
                    self.push_all(value, scope)

    # --- finding

    def incomplete(self, reason: str) -> None:
        self.reason = self.reason or reason

    def does(self, scope: Scope, verb: str, *effects: str) -> None:
        """A statement with that verb and effects. What is only planned has none, what is stored has effects without being done."""
        if scope.mode is Mode.PLAN:
            return
        if scope.mode is Mode.NOW and verb:
            self.verbs[verb] = None
        for effect in effects:
            self.effects[effect] = None

    def affects(self, effects: Iterable[str]) -> None:
        """Effects of a function: the planner may run it, too."""
        for effect in effects:
            self.effects[effect] = None

    def relation(self, range_var: Node) -> Parts:
        """The name of a relation as the server resolves it, with as many parts as are certain."""
        name = range_var.get("relname", "")
        schema = range_var.get("schemaname", "")
        if not name:
            self.incomplete("a relation without a name")
        if not schema:
            # temporary relations come before all others, and those of pg_catalog before the search path
            if range_var.get("relpersistence") == "t":
                schema = "pg_temp"
            elif name in catalog().relations and self.state.built_in_first:
                schema = "pg_catalog"
            else:
                schema = self.state.path
        database = range_var.get("catalogname", "")
        if database and database != self.state.database:
            return (database, schema, name)
        return (schema, name) if schema else (name,)

    def named(self, names: Sequence[str]) -> Parts:
        """A relation's name that the grammar gives as a list."""
        keys = ("relname", "schemaname", "catalogname")
        return self.relation(dict(zip(keys, reversed(names), strict=False)))

    def reads_relation(self, scope: Scope, name: Parts) -> None:
        self.reads[name] = None
        if name[0] == "pg_catalog" or len(name) == 1:
            self.affects(RELATION_EFFECTS.get(name[-1], ()))

    def writes_relation(self, scope: Scope, name: Parts) -> None:
        """A relation that is written, changed or dropped; where that is only planned, it is looked at."""
        if scope.mode is Mode.PLAN:
            self.reads[name] = None
            return
        self.writes[name] = None
        if name[-1] in RELATION_EFFECTS:
            self.affects(RELATION_EFFECTS[name[-1]])
        if name[0] == "pg_catalog" or (len(name) == 1 and name[-1] in catalog().relations):
            self.affects(("ddl", "access_control"))
            if name[-1] == "pg_settings":  # its rules turn an UPDATE into set_config
                self.affects(("settings", "lexer_state", "identity_change"))
                self.settings["*"] = None

    def column_ref(self, node: Node, scope: Scope) -> None:
        """`a`, `t.a`, `*`, `t.*`: looked up when the scopes are complete."""
        names = [field["String"]["sval"] for field in node["fields"] if "String" in field]
        self._columns.append((scope, names, len(names) < len(node["fields"]), ""))

    def column(self, scope: Scope, names: list[str], *, star: bool = False, field: str = "") -> None:
        self._columns.append((scope, names, star, field))

    def include(self, facts: SqlFacts) -> None:
        """The facts of a prepared statement that this one runs."""
        self.included.append(facts)

    # --- telling

    def facts(self) -> SqlFacts:
        facts = sql_facts(
            dialect="postgres",
            database=self.state.database,
            verbs=self.verbs,
            effects=self.effects,
            reads=map(dotted, self.reads),
            writes=map(dotted, self.writes),
            functions=map(dotted, self.functions),
            settings=self.settings,
            columns=map(dotted, self.columns),
            has_params=self.has_params,
            unbounded=self.unbounded,
            reason=self.reason,
            executes=self.executes,
        )
        return union((facts, *self.included)) if self.included else facts


def strings(wrapped: Iterable[Node]) -> list[str]:
    """The texts of a list of String nodes; what is no String is left out."""
    return [node["String"].get("sval", "") for node in wrapped if "String" in node]
