"""PostgreSQL: the text of a simple query or Parse message -> an operation, one part a statement.

The text is read by PostgreSQL's own grammar. What the grammar, the bounds or the tables of this package do not cover is
incomplete, with the reason; nothing in here raises for a text, whatever it is.
"""

from __future__ import annotations

import sys
from collections.abc import Callable, Mapping, Sequence
from dataclasses import replace
from typing import Any, Final

from rules.model import UNKNOWN, Exact, Operation
from rules.sql import changes, commands, definitions, expressions, privileges, queries
from rules.sql.bounds import Exceeded, Measure, measure, names_beyond_ascii
from rules.sql.facts import SqlFacts, sql_facts, union
from rules.sql.libpg_query import LibraryMissing, SyntaxRefused, parse
from rules.sql.nodes import FIELDS
from rules.sql.scopes import Mode, Scope
from rules.sql.session import SessionState
from rules.sql.walk import Handler, Node, Walk

HANDLERS: Final[Mapping[str, Handler]] = {
    **expressions.HANDLERS,
    **queries.HANDLERS,
    **changes.HANDLERS,
    **definitions.HANDLERS,
    **privileges.HANDLERS,
    **commands.HANDLERS,
}
LEAVES: Final = frozenset(kind for kind, fields in FIELDS.items() if not fields and kind not in HANDLERS) | {"A_Const"}

INLINE_BYTES: Final = 32 << 10  # longer or deeper ones take long, or more stack than a thread has
INLINE_DEPTH: Final = 4_000 if sys.version_info >= (3, 13) else 700  # deeper trees are decoded slowly there: rules.sql.deep_json
MAX_STATEMENTS: Final = 10_000


def is_small(text: bytes) -> bool:
    """Whether `operation_of` may run on any thread: it takes little time and little stack, or is refused before the parser runs."""
    if len(text) > INLINE_BYTES:
        return False
    try:
        measured = measure(text)
    except Exceeded:
        return True
    return _is_shallow(measured)


def _is_shallow(measured: Measure) -> bool:
    return measured.depth <= INLINE_DEPTH and measured.repeated <= 5_000


def operation_of(text: bytes, state: SessionState, params: Sequence[Any] | None = None, binding: bytes = b"") -> Operation:
    """The operation that `text` asks for. With several statements each is a part; one alone is the operation itself.

    `params` are the decoded values of `$1` … when they are bound, `binding` the exact bytes that bind them.
    """
    return operation_from(facts_of(text, state), text, state, params, binding)


def facts_of(text: bytes, state: SessionState) -> list[SqlFacts]:
    """The facts of each statement of `text`, at least one. Parameters are left unknown."""
    try:
        return _read(text, state)
    except Exception as error:  # a tree of a shape that no table foresaw
        return [not_read(state, f"the gateway could not read it ({type(error).__name__})")]


def operation_from(
    facts: Sequence[SqlFacts],
    text: bytes,
    state: SessionState,
    params: Sequence[Any] | None = None,
    binding: bytes = b"",
    shown: Callable[[], Sequence[str]] | None = None,
) -> Operation:
    """The operation of a text whose statements have these facts, read here or elsewhere.

    `shown` gives the values for reviewers, those too that rules do not know.
    """
    if params is not None:
        facts = [statement.bound(params) if statement.get("params") is UNKNOWN else statement for statement in facts]

    def exact() -> Exact:
        values = () if not params else shown() if shown is not None else [repr(value) for value in params]
        return _exact(facts, text, state, None if params is None else values, binding)

    if len(facts) == 1:
        return _operation(facts[0], exact)
    parts = tuple(_operation(statement) for statement in facts)
    reason = next((part.reason for part in parts if not part.complete), "")
    return Operation(
        kind="sql",
        facts=union(facts),
        complete=not reason,
        reason=reason,
        writes=any(part.writes for part in parts),
        parts=parts,
        exact=exact,
        title="; ".join(part.title for part in parts[:8])[:512],
    )


def statements(operation: Operation) -> tuple[Operation, ...]:
    """The operation of each statement."""
    return operation.parts or (operation,)


def _operation(facts: SqlFacts, exact: Callable[[], Exact] | None = None) -> Operation:
    get = facts.get
    reason = get("reason")
    return Operation(
        kind="sql",
        facts=facts,
        complete=not reason,
        reason=reason,
        writes=get("effects") != ("read",) or bool(reason),
        exact=exact,
        title=_title(facts),
    )


def _title(facts: SqlFacts) -> str:
    verbs = " ".join(facts.get("verbs"))
    names = facts.get("writes") or facts.get("reads")
    shown = ", ".join(".".join(name) if isinstance(name, tuple) else name for name in names[:4])
    if not shown.isprintable():
        shown = "".join(character if character.isprintable() else "?" for character in shown)
    return f"{verbs} {shown}".strip()[:256]


# --- reading


def _read(text: bytes, state: SessionState) -> list[SqlFacts]:
    reason = _unreadable(text, state)
    if reason:
        return [not_read(state, reason)]
    try:
        measure(text)
        trees = parse(text)
    except (Exceeded, SyntaxRefused, LibraryMissing) as error:
        return [not_read(state, str(error))]
    encoding = next((value for name, value in state.settings if name == "server_encoding"), "")
    if encoding and names_beyond_ascii(text):
        return [not_read(state, f"the database's encoding is {encoding[:32]}, which folds and cuts names beyond ASCII otherwise")]
    if len(trees) > MAX_STATEMENTS:
        return [not_read(state, f"more than {MAX_STATEMENTS} statements")]
    if not trees:  # the empty statement, and comments alone
        return [sql_facts(dialect="postgres", database=state.database, verbs=("other",), effects=("read",))]
    found = []
    for tree in trees:
        facts = _statement(tree, state)
        found.append(facts)
        if len(trees) > 1 and not _MOVES_NAMES.isdisjoint(facts.get("effects")):
            state = replace(state, schemas=None)  # the text was lexed as a whole, but names are looked up statement by statement
    return found


_MOVES_NAMES: Final = frozenset({"lexer_state", "identity_change", "dynamic_sql", "calls_unknown_function"})


def _unreadable(text: bytes, state: SessionState) -> str:
    """Why the server would not read the text as the grammar here does."""
    if not state.standard_conforming_strings and b"\\" in text:
        return "standard_conforming_strings is off and the statement contains a backslash"
    if not text.isascii() and state.client_encoding.upper().replace("-", "") not in ("UTF8", "UNICODE"):
        return f"the client encoding is {state.client_encoding[:32]}, not UTF8"
    return ""


def _statement(tree: Node, state: SessionState) -> SqlFacts:
    def read_again(text: bytes) -> SqlFacts:
        if not is_small(text):
            return not_read(state, "EXECUTE of a long statement that was prepared before the search path or the role changed")
        return union(facts_of(text, replace(state, prepared={})))

    walk = Walk(state, HANDLERS, LEAVES, read_again)
    try:
        walk.statement(tree, Scope(None, None, Mode.NOW))
        walk.run()
    except Exception as error:
        walk.incomplete(f"the gateway could not read it ({type(error).__name__})")
    if not walk.verbs:
        walk.verbs["unknown"] = None
    if not walk.effects and not any(facts.get("effects") for facts in walk.included):
        walk.incomplete("the gateway does not know what this statement does")
    return walk.facts()


def not_read(state: SessionState, reason: str) -> SqlFacts:
    """The facts of a text that was not read at all."""
    return sql_facts(dialect="postgres", database=state.database, verbs=("unknown",), reason=reason)


# --- what a reviewer sees, and what the fingerprint covers


def _exact(facts: Sequence[SqlFacts], text: bytes, state: SessionState, values: Sequence[str] | None, binding: bytes) -> Exact:
    """Raises ValueError when a prepared statement that it runs is not known: nobody can approve that."""
    prepared = []
    for name in dict.fromkeys(name for one in facts for name in one.executes):
        if name not in state.prepared:
            raise ValueError("the prepared statement is not known, so that nobody can approve it")
        prepared += [name.encode("utf-8", "surrogateescape"), state.prepared[name].text]
    parts = [b"hopgate-sql-v1", b"postgres", state.meaning.encode(), text, b"" if values is None else b"bound", binding, *prepared]
    payload = b"".join(len(part).to_bytes(8, "big") + part for part in parts)
    shown = text.decode("utf-8", "backslashreplace")
    for name, one in state.prepared.items():
        if any(name in statement.executes for statement in facts):
            shown += f"\n-- prepared as {name}:\n{one.text.decode('utf-8', 'backslashreplace')}"
    if values:
        shown += "\n" + "\n".join(f"-- ${number} = {value}"[:1000] for number, value in enumerate(values, 1))
    return Exact("; ".join(_title(one) for one in facts[:8])[:512], shown, payload)
