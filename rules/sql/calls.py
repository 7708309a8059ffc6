"""Calls of functions: what one does, and where a name that looks like a column's is one."""

from __future__ import annotations

from collections.abc import Sequence
from typing import TYPE_CHECKING, Final

from rules.sql.facts import ANYTHING
from rules.sql.functions import DANGEROUS, READS_ANYTHING, catalog

if TYPE_CHECKING:
    from rules.sql.scopes import Scope
    from rules.sql.walk import Walk


def call(walk: Walk, names: list[str], arguments: int, *, variadic: bool = False) -> None:
    """A call of the function `names`. What is not known to be harmless has the effect that its table says, or is unknown."""
    if not names:
        walk.incomplete("a function without a name")
        return
    name = names[-1]
    schema = names[-2] if len(names) > 1 else ""
    dangerous = DANGEROUS.get(name)
    if dangerous is not None:
        walk.affects(dangerous)
        if name in READS_ANYTHING:
            walk.reads[(ANYTHING,)] = None
    built_in = schema == "pg_catalog" or (not schema and walk.state.built_in_first)
    functions = catalog().functions
    if built_in and (catalog().is_harmless(name, arguments) or (variadic and name in functions and dangerous is None)):
        walk.functions[("pg_catalog", name)] = None
        return
    if dangerous is not None and built_in:
        walk.functions[("pg_catalog", name) if schema or name.startswith(_BUILT_IN) else (name,)] = None
        return
    walk.functions[tuple(names[-2:])] = None
    walk.affects(("calls_unknown_function",))


_BUILT_IN: Final = ("pg_", "lo_", "binary_upgrade_", "nextval", "setval", "set_config", "query_to", "table_to", "schema_to", "database_to")


def call_by_name(walk: Walk, scope: Scope, names: Sequence[str], field: str = "") -> None:
    """The calls that `a.name`, or `(a).field`, may be: `('/etc/passwd').pg_read_file` runs it (ParseFuncOrColumn in parse_func.c).

    A relation's name in front of a column is not taken for one: only a function of the database's own that takes its rows could be.
    """
    if field:
        source = scope.find(names)
        # a column comes before an alias of the same name, which anybody may give
        if source is None or not any(base[-1] == names[0] for base in source.bases):
            call(walk, [field], 1)
    elif len(names) == 2:
        source = scope.find(names[:1])
        if source.called if source is not None else any(one.called for alias, one in scope.in_sight() if not alias):
            given = source.outputs() if source is not None and source.outputs is not None else ()
            # one value has the alias for its column's name, where the statement gives it no other
            known = names[1] in given or (names[1] == names[0] and not given)
            if not known and (names[1] in DANGEROUS or names[1] not in catalog().results):
                call(walk, [names[1]], 1)
