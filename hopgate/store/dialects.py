"""What the two kinds of database spell differently."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from functools import lru_cache
from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert_or_update(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that may go on with `on_conflict_do_update`, which both spell the same."""
    return _insert(connection.dialect.name, table)


async def upsert(connection: AsyncConnection, table: Table, values: Mapping[str, Any], key: Iterable[str]) -> None:
    """Insert a row; where one with this key is there, it gets these values."""
    await connection.execute(_upsert(connection.dialect.name, table, tuple(values), tuple(key)), dict(values))


@lru_cache(maxsize=64)  # to make a statement costs more than to run it
def _upsert(dialect: str, table: Table, names: tuple[str, ...], key: tuple[str, ...]) -> Any:
    statement = _insert(dialect, table)
    return statement.on_conflict_do_update(index_elements=key, set_={name: statement.excluded[name] for name in names if name not in key})


def _insert(dialect: str, table: Table) -> Any:
    if dialect == "postgresql":
        from sqlalchemy.dialects import postgresql  # 0.1 s

        return postgresql.insert(table)
    return sqlite.insert(table)
