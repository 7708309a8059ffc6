"""The facts of one SQL statement, as rules read them."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any, Final

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
