"""The index's database: a SQLite file of its own beside the store, so that the store stays small and nobody waits for the index; or
tables of the PostgreSQL database that is the store, where the gateways of several machines put what their ledgers tell.
"""

from __future__ import annotations

import contextlib
import logging
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Any, Final, Self

from sqlalchemy import URL, Connection, event, inspect, select, text
from sqlalchemy.ext.asyncio import AsyncConnection, AsyncEngine, create_async_engine

from hopgate.errors import Unavailable
from hopgate.store.index import schema
from hopgate.store.index.texts import PostgresWords, SqliteWords, Words
from hopgate.store.sqlite import private_file, told

BUSY: Final = 10.0  # seconds that the second of two writers waits
PATIENCE: Final = 60.0  # seconds that PostgreSQL may take for a batch
WRITING: Final = 0x686F70696E646578  # "hopindex": the advisory lock of whoever writes
# what a power failure takes is read from the ledgers again
_PRAGMAS: Final = (f"busy_timeout={int(BUSY * 1000)}", "journal_mode=WAL", "synchronous=NORMAL", "trusted_schema=OFF", "cache_size=-16384")

_log = logging.getLogger("hopgate.index")


class IndexDatabase:
    """Connections and transactions of the index. Every failure of the driver is Unavailable."""

    def __init__(self, where: str, engine: AsyncEngine, words: Words) -> None:
        self.where = where
        self.words = words
        self._engine = engine

    @classmethod
    async def open(cls, place: Path | str) -> Self:
        """Open `place`/index.db or the tables of a PostgreSQL database; made if missing, made anew when another hopgate made them.

        Raises Unavailable, Misconfigured.
        """
        if isinstance(place, str):
            from hopgate.store import postgres  # its driver is an extra

            address = postgres.Address.of(place)
            index = cls(address.where, postgres.engine_of(address, patience=PATIENCE), PostgresWords())
            engine = index._engine
        else:
            path = private_file(place, "index.db")
            engine = _engine(path)
            index = cls(str(path), engine, SqliteWords())
        try:
            async with index.transaction(write=True) as connection:
                await connection.run_sync(_prepare)
        except BaseException:
            await engine.dispose()
            raise
        return index

    async def close(self) -> None:
        await self._engine.dispose()

    @contextlib.asynccontextmanager
    async def transaction(self, *, write: bool = False) -> AsyncIterator[AsyncConnection]:
        """One consistent view, or, with `write`, one that alone may change it."""
        with self._told():
            async with self._engine.connect() as connection:
                if self._sqlite:
                    await connection.execution_options(begin="BEGIN IMMEDIATE" if write else "BEGIN")
                elif not write:
                    await connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
                async with connection.begin():
                    if write and not self._sqlite:
                        await connection.execute(text(f"SELECT pg_advisory_xact_lock({WRITING})"))
                    yield connection

    @property
    def _sqlite(self) -> bool:
        return isinstance(self.words, SqliteWords)

    def _told(self) -> contextlib.AbstractContextManager[None]:
        if self._sqlite:
            return told(self.where)
        from hopgate.store import postgres

        return postgres.told(self.where)

    async def rows(self, statement: Any, values: dict[str, Any] | None = None) -> list[dict[str, Any]]:
        """The rows of one statement. Raises Unavailable."""
        async with self.transaction() as connection:
            found = await connection.execute(statement, values or {})
            names = tuple(found.keys())
            return [dict(zip(names, row, strict=True)) for row in found.all()]  # half the time of mappings
        raise Unavailable(f"{self.where}: the index does not answer")  # pragma: no cover


def _prepare(connection: Connection) -> None:
    found = ""
    if inspect(connection).has_table(schema.about.name):
        found = connection.execute(select(schema.about.c.value).where(schema.about.c.key == "version")).scalar() or ""
    if found == schema.VERSION:
        return
    if found:
        _log.warning("the index is of another version and is made anew from the ledgers")
    connection.execute(text("DROP TABLE IF EXISTS index_text"))
    schema.metadata.drop_all(connection)
    schema.metadata.create_all(connection)
    for statement in (schema.SQLITE_TEXT,) if connection.dialect.name == "sqlite" else PostgresWords.SETUP:
        connection.exec_driver_sql(statement)
    connection.execute(schema.about.insert().values(key="version", value=schema.VERSION))


def _engine(path: Path) -> AsyncEngine:
    engine = create_async_engine(URL.create("sqlite+aiosqlite", database=str(path)), hide_parameters=True, pool_size=3, max_overflow=2)

    @event.listens_for(engine.sync_engine, "connect")
    def _connect(connection: Any, _record: Any) -> None:
        connection.isolation_level = None
        cursor = connection.cursor()
        for pragma in _PRAGMAS:
            cursor.execute(f"PRAGMA {pragma}")
        cursor.close()

    @event.listens_for(engine.sync_engine, "begin")
    def _begin(connection: Any) -> None:
        connection.exec_driver_sql(connection.get_execution_options().get("begin", "BEGIN"))

    return engine
