"""Databases of earlier hopgates become those of this one, and are what the code takes them for."""

from __future__ import annotations

import sqlite3
from pathlib import Path

import pytest
from alembic.autogenerate import compare_metadata
from alembic.runtime.migration import MigrationContext
from sqlalchemy import Connection

from hopgate.errors import Misconfigured
from hopgate.store import Lock, Store, schema
from hopgate.store.migrations import HEAD, TABLE, script_directory
from tests.hopgate.people import opened
from tests.hopgate.places import Place

# what hopgate 0.1 made, before there were steps
FIRST = (Path(__file__).parent / "schema_1.sql").read_text()


def _old(state: Path) -> None:
    with sqlite3.connect(state / "state.db") as connection:
        connection.executescript(FIRST)
        connection.execute("INSERT INTO locks VALUES ('run', 'r', 'ops', 'before', 1.0)")
    connection.close()


async def test_a_database_without_steps_is_taken_over(tmp_path: Path) -> None:
    _old(tmp_path)
    async with opened(tmp_path) as store:
        assert await store.list_locks() == (Lock("run", "r", "ops", "before", 1.0),)
        assert await store.read(lambda connection: connection.run_sync(_differences)) == []
    with sqlite3.connect(tmp_path / "state.db") as connection:
        assert connection.execute(f"SELECT version_num FROM {TABLE}").fetchall() == [(f"{HEAD:04}",)]
        # an earlier hopgate looks here, and must refuse what it does not know
        assert connection.execute("SELECT value FROM meta WHERE key = 'schema'").fetchall() == [(str(HEAD),)]
    connection.close()


async def test_the_steps_lead_to_the_tables_of_the_code(place: Place) -> None:
    async with opened(place) as store:
        assert await store.read(lambda connection: connection.run_sync(_differences)) == []


async def test_a_step_of_the_future_is_refused(tmp_path: Path) -> None:
    async with opened(tmp_path):
        pass
    with sqlite3.connect(tmp_path / "state.db") as connection:
        connection.execute(f"UPDATE {TABLE} SET version_num = '9999'")
    connection.close()
    with pytest.raises(Misconfigured, match="has schema 9999"):
        await Store.open(tmp_path)


def test_the_last_step_is_known_without_looking_for_it() -> None:
    steps = script_directory()
    assert steps.get_heads() == [f"{HEAD:04}"]
    assert len(list(steps.walk_revisions())) == HEAD


def _differences(connection: Connection) -> list[object]:
    context = MigrationContext.configure(
        connection, opts={"compare_type": connection.dialect.name == "postgresql", "include_object": _is_ours}
    )
    return list(compare_metadata(context, schema.metadata))


def _is_ours(_object: object, name: str | None, kind: str, _reflected: bool, _compared: object) -> bool:
    return not (kind == "table" and name is not None and name.startswith(("index_", "alembic_")))
