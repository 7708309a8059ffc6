"""What the two kinds of database spell differently."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Table
from sqlalchemy.dialects import sqlite
from sqlalchemy.ext.asyncio import AsyncConnection


def insert_or_update(connection: AsyncConnection, table: Table) -> Any:
    """An INSERT that may go on with `on_conflict_do_update`, which both spell the same."""
    if connection.dialect.name == "postgresql":
        from sqlalchemy.dialects import postgresql  # 0.1 s

        return postgresql.insert(table)
    return sqlite.insert(table)
