"""The facts of one SQL statement, as rules read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

import msgspec

from rules.model import UNKNOWN, Unknown

type Name = str | tuple[str, ...]  # dotted, or its parts where one of them contains a dot

ANYTHING: Final = "*"  # as a relation: some that the text does not name (CASCADE, DO, a function that reads what it is told)


def dotted(parts: Sequence[str]) -> Name:
    """`("public", "orders")` as `public.orders`, and as a tuple where a part contains a dot."""
    name = ".".join(parts)
    return name if name.count(".") == len(parts) - 1 else tuple(parts)


class SqlFacts:
    """What one statement does. Lists are tuples without repetition; `params` are unknown until they are bound."""

    __slots__ = ("_values", "executes")

    def __init__(self, values: Mapping[str, Any], executes: tuple[str, ...] = ()) -> None:
        self._values = values
        self.executes = executes  # names of prepared statements whose facts are part of these

    def get(self, name: str) -> Any:
        return self._values.get(name)

    def bound(self, params: Sequence[Any]) -> SqlFacts:
        """These facts with the values of `$1`, `$2` … in order; None is NULL, UNKNOWN a value that could not be decoded."""
        return SqlFacts({**self._values, "params": tuple(params)}, self.executes)

    def as_dict(self) -> dict[str, Any]:
        """For the ledger, the card and `explain --json`: names as text, unknown facts as None."""
        return {name: _shown(value) for name, value in self._values.items()}


def _shown(value: Any) -> Any:
    if isinstance(value, Unknown):
        return None
    if isinstance(value, tuple):
        return [".".join(member) if isinstance(member, tuple) else member for member in value]
    return value


def sql_facts(
    *,
    dialect: str,
    database: str,
    verbs: Iterable[str] = (),
    effects: Iterable[str] = (),
    reads: Iterable[Name] = (),
    writes: Iterable[Name] = (),
    functions: Iterable[Name] = (),
    settings: Iterable[str] = (),
    columns: Iterable[Name] = (),
    has_params: bool = False,
    unbounded: bool = False,
    reason: str = "",
    executes: Iterable[str] = (),
) -> SqlFacts:
    """Facts from what a reader of one dialect collected."""
    values = {
        "dialect": dialect,
        "database": database,
        "verbs": tuple(verbs),
        "effects": tuple(effects),
        "reads": tuple(reads),
        "writes": tuple(writes),
        "functions": tuple(functions),
        "settings": tuple(settings),
        "columns": tuple(columns),
        "params": UNKNOWN if has_params else (),
        "unbounded": unbounded,
        "complete": not reason,
        "reason": reason,
    }
    return SqlFacts(values, tuple(executes))


class Wire(msgspec.Struct, array_like=True):
    """Facts on their way between two processes of the gateway."""

    dialect: str
    database: str
    verbs: list[str]
    effects: list[str]
    reads: list[str | list[str]]
    writes: list[str | list[str]]
    functions: list[str | list[str]]
    settings: list[str]
    columns: list[str | list[str]]
    has_params: bool
    unbounded: bool
    reason: str
    executes: list[str]


def to_wire(facts: SqlFacts) -> Wire:
    get = facts.get
    names = [[list(name) if isinstance(name, tuple) else name for name in get(key)] for key in ("reads", "writes", "functions", "columns")]
    reads, writes, functions, columns = names
    return Wire(
        get("dialect"),
        get("database"),
        list(get("verbs")),
        list(get("effects")),
        reads,
        writes,
        functions,
        list(get("settings")),
        columns,
        get("params") is UNKNOWN,
        get("unbounded"),
        get("reason"),
        list(facts.executes),
    )


def from_wire(wire: Wire) -> SqlFacts:
    def named(names: Iterable[str | list[str]]) -> list[Name]:
        return [name if isinstance(name, str) else tuple(name) for name in names]

    return sql_facts(
        dialect=wire.dialect,
        database=wire.database,
        verbs=wire.verbs,
        effects=wire.effects,
        reads=named(wire.reads),
        writes=named(wire.writes),
        functions=named(wire.functions),
        settings=wire.settings,
        columns=named(wire.columns),
        has_params=wire.has_params,
        unbounded=wire.unbounded,
        reason=wire.reason,
        executes=wire.executes,
    )


_LISTS: Final = ("verbs", "effects", "reads", "writes", "functions", "settings", "columns")


def union(facts: Sequence[SqlFacts]) -> SqlFacts:
    """What several statements do together."""
    lists = {name: dict.fromkeys(member for one in facts for member in one.get(name)) for name in _LISTS}
    return sql_facts(
        dialect=facts[0].get("dialect"),
        database=facts[0].get("database"),
        has_params=any(one.get("params") is UNKNOWN for one in facts),
        unbounded=any(one.get("unbounded") for one in facts),
        reason=next((one.get("reason") for one in facts if one.get("reason")), ""),
        executes=dict.fromkeys(name for one in facts for name in one.executes),
        **lists,
    )
