"""What the tests of SQL facts share."""

from __future__ import annotations

from typing import Any

from rules.model import Operation
from rules.sql.postgres import operation_of, statements
from rules.sql.session import SessionState

STATE = SessionState(database="shop", user="app", schemas=("public",))


def read(sql: str | bytes, state: SessionState = STATE) -> Operation:
    return operation_of(sql.encode() if isinstance(sql, str) else sql, state)


def fact(sql: str | bytes, name: str, state: SessionState = STATE) -> Any:
    """One fact of the only statement of `sql`."""
    (statement,) = statements(read(sql, state))
    return statement.facts.get(name)


def names(sql: str | bytes, name: str, state: SessionState = STATE) -> set[Any]:
    return set(fact(sql, name, state))
