"""Places for a store: a directory, and a database of its own on a real PostgreSQL. Import `place` in a conftest.py to have both."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import Awaitable, Callable, Iterator
from pathlib import Path
from typing import LiteralString

import psycopg
import pytest

from hopgate.locks import MAX_AGE
from hopgate.store import Store
from hopgate.store.index import Index
from playground.postgres import Postgres, Unavailable

type Place = Path | str
type Cut = Callable[[], Awaitable[None]]

_numbers = itertools.count()


class Databases:
    """A server whose databases are copies of one that has been migrated."""

    def __init__(self, server: Postgres) -> None:
        self.server = server
        self._admin = psycopg.connect(server.url("owner", "postgres"), autocommit=True)
        self.query("CREATE DATABASE template_of_stores")
        asyncio.run(_migrate(self.url("template_of_stores")))

    def query(self, sql: LiteralString) -> None:
        """As the server's owner."""
        self._admin.execute(sql)

    def url(self, database: str) -> str:
        """What `store:` says; without TLS, which takes longer than most tests."""
        return self.server.url("owner", database).replace("postgresql://", "postgresql+asyncpg://").partition("?")[0] + "?sslmode=disable"

    @contextlib.contextmanager
    def fresh(self, template: LiteralString = "template_of_stores") -> Iterator[str]:
        """A database's name, for as long as it is there."""
        name = f"store_{next(_numbers)}"
        self.query(f"CREATE DATABASE {name} TEMPLATE {template}")  # type: ignore[arg-type]
        try:
            yield name
        finally:
            self.query(f"DROP DATABASE {name} WITH (FORCE)")  # type: ignore[arg-type]

    def close_to_everybody(self, name: str) -> None:
        """End what is connected to a database and let nobody in any more."""
        self.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS false")  # type: ignore[arg-type]
        self.query(f"SELECT pg_terminate_backend(pid) FROM pg_stat_activity WHERE datname = '{name}'")  # type: ignore[arg-type]

    def open_again(self, name: str) -> None:
        self.query(f"ALTER DATABASE {name} ALLOW_CONNECTIONS true")  # type: ignore[arg-type]

    def close(self) -> None:
        self._admin.close()


async def _migrate(url: str) -> None:
    await (await Store.open(url)).close()
    await (await Index.open(url)).close()


@pytest.fixture(scope="session")
def databases() -> Iterator[Databases]:
    """One server for the whole run."""
    server = Postgres(logs=False)
    try:
        server.start()
    except Unavailable as error:
        pytest.skip(str(error))
    try:
        databases = Databases(server)
        yield databases
        databases.close()
    finally:
        server.close()


@pytest.fixture(params=["sqlite", "postgres"])
def place(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Place]:
    """Where a test's store is: what holds of one kind must hold of the other."""
    if request.param == "sqlite":
        yield tmp_path
        return
    databases: Databases = request.getfixturevalue("databases")
    with databases.fresh() as name:
        yield databases.url(name)


@pytest.fixture
def cut(place: Place, request: pytest.FixtureRequest) -> Cut:
    """Takes the store away: from now on it does not answer, and what was read before is too old to be believed."""

    async def work() -> None:
        if isinstance(place, Path):
            (place / "state.db").unlink()
            return
        databases: Databases = request.getfixturevalue("databases")
        databases.close_to_everybody(place.partition("?")[0].rpartition("/")[2])
        await asyncio.sleep(MAX_AGE + 0.1)

    return work
