"""Everything that is neither query, change nor definition: EXPLAIN, COPY, PREPARE, cursors, SET, transactions, maintenance."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Final

from rules.sql import settings
from rules.sql.calls import call
from rules.sql.facts import ANYTHING, SqlFacts, sql_facts
from rules.sql.scopes import Mode, Scope, Source
from rules.sql.walk import Handler, Node, Walk, strings

_TRANSACTIONS: Final[Mapping[str, tuple[str, str]]] = {
    "TRANS_STMT_BEGIN": ("begin", "read"),
    "TRANS_STMT_START": ("begin", "read"),
    "TRANS_STMT_COMMIT": ("commit", "read"),
    "TRANS_STMT_ROLLBACK": ("rollback", "read"),
    "TRANS_STMT_SAVEPOINT": ("savepoint", "read"),
    "TRANS_STMT_RELEASE": ("savepoint", "read"),
    "TRANS_STMT_ROLLBACK_TO": ("rollback", "read"),
    # two-phase commit: the prepared transaction and its locks outlive the session, and any session may end it
    "TRANS_STMT_PREPARE": ("other", "write lock"),
    "TRANS_STMT_COMMIT_PREPARED": ("commit", "write"),
    "TRANS_STMT_ROLLBACK_PREPARED": ("rollback", "write"),
}
_FALSE: Final = frozenset({"false", "off"})
_SAFE_LANGUAGES: Final = frozenset({"plpgsql", "sql"})


# --- statements in statements


def _explain(walk: Walk, node: Node, scope: Scope) -> None:
    """EXPLAIN plans; with ANALYZE it also runs. Of several ANALYZE options any that is not false counts."""
    walk.does(scope, "explain", "read")
    runs = any(_is_on(item.get("DefElem", {})) for item in node.get("options", ()) if _names_analyze(item))
    query = node.get("query", {})
    if runs:
        walk.statement(query, scope.inside())
    else:
        walk.push_wrapped(query, scope.inside(Mode.PLAN))
    walk.rest("ExplainStmt", node, scope, ("query", "options"))


def _names_analyze(item: Node) -> bool:
    return str(item.get("DefElem", {}).get("defname", "")).lower() in ("analyze", "analyse")


def _is_on(option: Node) -> bool:
    argument = option.get("arg")
    if not argument:
        return True
    kind, value = next(iter(argument.items()))
    if kind == "Integer":
        return bool(value.get("ival", 0))
    if kind == "Boolean":
        return bool(value.get("boolval"))
    return not (kind == "String" and value.get("sval", "").lower() in _FALSE)


def _copy(walk: Walk, node: Node, scope: Scope) -> None:
    incoming = bool(node.get("is_from"))
    walk.does(scope, "copy_in" if incoming else "copy_out", *(("bulk_import", "write") if incoming else ("bulk_export", "read")))
    if node.get("is_program"):
        walk.does(scope, "", "os_command")
    elif node.get("filename"):
        walk.does(scope, "", "server_file_read" if incoming else "server_file_write")
    inner = scope.inside()
    if "relation" in node:
        base = walk.relation(node["relation"])
        if incoming:
            walk.writes_relation(scope, base)
        else:
            walk.reads_relation(scope, base)
        for column in strings(node.get("attlist", ())) or ["*"]:
            walk.columns[(*base, column)] = None
        inner.add(base[-1], Source((base,)))
    walk.statement(node.get("query", {}), inner)
    walk.rest("CopyStmt", node, inner, ("relation", "attlist", "query", "options"))


def _prepare(walk: Walk, node: Node, scope: Scope) -> None:
    """Decided as if it ran: what it does is what its statement does. EXECUTE is decided again."""
    walk.does(scope, "prepare")
    walk.statement(node.get("query", {}), scope.inside())
    walk.rest("PrepareStmt", node, scope, ("query",))


def _cursor(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "cursor", "read")
    walk.statement(node.get("query", {}), scope.inside())
    walk.rest("DeclareCursorStmt", node, scope, ("query",))


def _execute(walk: Walk, node: Node, scope: Scope) -> None:
    name = node.get("name", "")
    walk.does(scope, "execute")
    walk.executes[name] = None
    prepared = walk.state.prepared.get(name)
    if prepared is None:
        walk.affects(("dynamic_sql",))
        walk.incomplete("EXECUTE of a statement that this session is not known to have prepared")
    else:
        facts = prepared.facts if prepared.meaning == walk.state.meaning else walk.read_again(prepared.text)
        walk.include(_planned(facts) if scope.mode is Mode.PLAN else facts)
    walk.rest("ExecuteStmt", node, scope)


def _planned(facts: SqlFacts) -> SqlFacts:
    """What planning a prepared statement does: it looks at its relations, and may run its functions."""
    return sql_facts(
        dialect=facts.get("dialect"),
        database=facts.get("database"),
        effects=[effect for effect in facts.get("effects") if effect != "write"],
        reads=[*facts.get("reads"), *facts.get("writes")],
        functions=facts.get("functions"),
        settings=facts.get("settings"),
        columns=facts.get("columns"),
        reason=facts.get("reason"),
    )


def _do(walk: Walk, node: Node, scope: Scope) -> None:
    """Code in a string: it may read and write anything."""
    walk.does(scope, "do", "dynamic_sql")
    _anything(walk, scope)
    for item in node.get("args", ()):
        option = item.get("DefElem", {})
        if option.get("defname") == "language" and not {*strings([option.get("arg", {})])} <= _SAFE_LANGUAGES:
            walk.does(scope, "", "code_load")
    walk.rest("DoStmt", node, scope)


def _call(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "call", "dynamic_sql")
    _anything(walk, scope)
    function = node.get("funccall", {})
    call(walk, strings(function.get("funcname", ())), -1)  # no procedure comes with the server
    walk.rest("FuncCall", function, scope, ("funcname",))
    walk.rest("CallStmt", node, scope, ("funccall",))


def _anything(walk: Walk, scope: Scope) -> None:
    walk.reads[(ANYTHING,)] = None
    walk.writes_relation(scope, (ANYTHING,))


# --- the session


def _set(walk: Walk, node: Node, scope: Scope) -> None:
    kind, name = node.get("kind", ""), node.get("name", "")
    verb = "reset" if kind in ("VAR_RESET", "VAR_RESET_ALL") else "set"
    if kind == "VAR_RESET_ALL":
        walk.settings["*"] = None
        walk.does(scope, verb, *sorted(settings.ALL))
    elif kind == "VAR_SET_MULTI":
        walk.does(scope, verb, "read")
        _transaction_options(walk, node.get("args", ()), scope, stays=name == "SESSION CHARACTERISTICS")
    else:
        walk.settings[name.lower()] = None
        walk.does(scope, verb, *sorted(settings.effects_of(name, _value(kind, node.get("args", ())))))
        if settings.is_role(name):
            walk.does(scope, "role_change")
    walk.rest("VariableSetStmt", node, scope)


def _value(kind: str, arguments: Sequence[Node]) -> str | None:
    if kind != "VAR_SET_VALUE" or len(arguments) != 1:
        return None
    constant = arguments[0].get("A_Const", {})
    if "ival" in constant:
        return str(constant["ival"].get("ival", 0))
    if "boolval" in constant:
        return "true" if constant["boolval"].get("boolval") else "false"
    return str(constant["sval"].get("sval", "")) if "sval" in constant else None


def _transaction_options(walk: Walk, options: Sequence[Node], scope: Scope, *, stays: bool = False) -> None:
    """Giving up READ ONLY is more than transaction control: it is told among the settings."""
    for item in options:
        option = item.get("DefElem", {})
        if option.get("defname") == settings.READ_ONLY:
            walk.settings[settings.READ_ONLY] = None
            if not option.get("arg", {}).get("A_Const", {}).get("ival", {}).get("ival") and (stays or "set" in walk.verbs):
                walk.does(scope, "", "settings")


def _transaction(walk: Walk, node: Node, scope: Scope) -> None:
    found = _TRANSACTIONS.get(node.get("kind", ""))
    if found is None:
        walk.incomplete("the gateway does not know this transaction command")
        return
    verb, effects = found
    walk.does(scope, verb, *effects.split())
    _transaction_options(walk, node.get("options", ()), scope)
    walk.rest("TransactionStmt", node, scope)


def _discard(walk: Walk, node: Node, scope: Scope) -> None:
    """DISCARD ALL also resets the role and every setting; TEMP drops tables of the session's own."""
    target = node.get("target", "DISCARD_ALL")
    if target == "DISCARD_ALL":
        walk.settings["*"] = None
        walk.does(scope, "reset", *sorted(settings.ALL))
        walk.does(scope, "role_change")
    else:
        walk.does(scope, "reset", "ddl" if target == "DISCARD_TEMP" else "read")


def _constraints(walk: Walk, node: Node, scope: Scope) -> None:
    walk.settings["constraints"] = None
    walk.does(scope, "set", "read")  # when they are checked, not whether


# --- relations as a whole


def _truncate(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "truncate", "write")
    _write_all(walk, node.get("relations", ()), scope)
    if node.get("behavior") == "DROP_CASCADE":
        walk.writes_relation(scope, (ANYTHING,))  # every table with a foreign key to one of these
    if node.get("restart_seqs"):
        walk.does(scope, "", "sequence")
    walk.rest("TruncateStmt", node, scope, ("relations",))


def _write_all(walk: Walk, relations: Sequence[Node], scope: Scope) -> None:
    for item in relations:
        walk.writes_relation(scope, walk.relation(item.get("RangeVar", {})))


def _vacuum(walk: Walk, node: Node, scope: Scope) -> None:
    walk.does(scope, "maintenance", "maintenance")
    relations = [item.get("VacuumRelation", {}) for item in node.get("rels", ())]
    for relation in relations:
        walk.push("RangeVar", relation.get("relation", {}), scope)
    walk.rest("VacuumStmt", node, scope, ("rels", "options"))


def _maintained(kind: str) -> Handler:
    def maintain(walk: Walk, node: Node, scope: Scope) -> None:
        walk.does(scope, "maintenance", "maintenance")
        walk.rest(kind, node, scope)

    return maintain


def _refresh(walk: Walk, node: Node, scope: Scope) -> None:
    """Runs the view's query, which the text does not show, as the view's owner."""
    walk.does(scope, "maintenance", "maintenance", "write")
    walk.writes_relation(scope, walk.relation(node.get("relation", {})))
    walk.rest("RefreshMatViewStmt", node, scope, ("relation",))


# --- the rest: kind: verb, effects


_PLAIN: Final[Mapping[str, tuple[str, str]]] = {
    "VariableShowStmt": ("show", "read"),
    "DeallocateStmt": ("deallocate", "read"),
    "FetchStmt": ("fetch", "read"),
    "ClosePortalStmt": ("cursor", "read"),
    "ListenStmt": ("listen", "messaging"),
    "UnlistenStmt": ("listen", "messaging"),
    "NotifyStmt": ("notify", "messaging"),
    "LockStmt": ("lock", "lock"),
    "CheckPointStmt": ("maintenance", "maintenance server_control"),
    "LoadStmt": ("load", "code_load"),
}


def _plain(kind: str, verb: str, effects: Sequence[str]) -> Handler:
    def command(walk: Walk, node: Node, scope: Scope) -> None:
        walk.does(scope, verb, *effects)
        walk.rest(kind, node, scope)

    return command


HANDLERS: Final[Mapping[str, Handler]] = {
    **{kind: _plain(kind, verb, effects.split()) for kind, (verb, effects) in _PLAIN.items()},
    "ExplainStmt": _explain,
    "CopyStmt": _copy,
    "PrepareStmt": _prepare,
    "DeclareCursorStmt": _cursor,
    "ExecuteStmt": _execute,
    "DoStmt": _do,
    "CallStmt": _call,
    "VariableSetStmt": _set,
    "TransactionStmt": _transaction,
    "DiscardStmt": _discard,
    "ConstraintsSetStmt": _constraints,
    "TruncateStmt": _truncate,
    "VacuumStmt": _vacuum,
    "ClusterStmt": _maintained("ClusterStmt"),
    "ReindexStmt": _maintained("ReindexStmt"),
    "RefreshMatViewStmt": _refresh,
}
