"""Facts of an operation in tests: one verb, and everything else that rules may name."""

from __future__ import annotations

from typing import Any

_EMPTY: dict[str, Any] = {
    "dialect": "postgres",
    "database": "",
    "verbs": [],
    "effects": [],
    "reads": [],
    "writes": [],
    "functions": [],
    "settings": [],
    "columns": [],
    "params": [],
    "unbounded": False,
    "complete": True,
    "reason": "",
}


class Facts:
    """Facts by name."""

    def __init__(self, **facts: Any) -> None:
        self._facts = {**_EMPTY, **facts}

    def get(self, name: str) -> Any:
        return self._facts[name]


def sql_facts_of(verb: str) -> Facts:
    """What a line of the plain protocol asks for, in words of SQL."""
    known = {"get": ("select", "read"), "put": ("insert", "write"), "drop": ("drop", "ddl"), "ask": ("delete", "write")}
    name, effect = known.get(verb, ("other", "write"))
    return Facts(verbs=[name], effects=[effect])
