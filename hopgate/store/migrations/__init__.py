"""Bringing a database to the tables of this hopgate, step by step (Alembic). The steps are in `versions`, named 0001, 0002 …

A database of a newer hopgate is refused: an older one would not know which of its rows forbid something. `meta` keeps the number of
the last step too, which is what hopgate 0.1 looked at.
"""

from __future__ import annotations

from pathlib import Path
from typing import TYPE_CHECKING, Any, Final

from sqlalchemy import Column, Connection, MetaData, Table, Text, inspect, select

from hopgate.errors import Misconfigured

if TYPE_CHECKING:
    from alembic.script import ScriptDirectory

HEAD: Final = 2  # the last step
TABLE: Final = "alembic_version"
_VERSION: Final = Table(TABLE, MetaData(), Column("version_num", Text))
_META: Final = Table("meta", MetaData(), Column("key", Text, primary_key=True), Column("value", Text, nullable=False))


def migrate(connection: Connection, where: str) -> None:
    """Bring the database to step `HEAD` in the transaction that the caller has opened. Raises Misconfigured for one from the future."""
    tables = set(inspect(connection).get_table_names())
    told = _told(connection, where) if "meta" in tables else 0
    found = _found(connection, where) if TABLE in tables else 0
    if max(told, found) > HEAD:
        raise Misconfigured(
            f"{where}: has schema {max(told, found)}, this hopgate knows up to {HEAD}: upgrade hopgate, or name another database"
        )
    if found == HEAD:
        return
    _upgrade(connection, taken_over=told if not found else 0)
    connection.execute(_META.delete().where(_META.c.key == "schema"))
    connection.execute(_META.insert().values(key="schema", value=str(HEAD)))


def script_directory() -> ScriptDirectory:
    """The steps, for Alembic."""
    from alembic.script import ScriptDirectory

    return ScriptDirectory(str(Path(__file__).parent))


def _upgrade(connection: Connection, taken_over: int) -> None:
    """`taken_over`: how far an earlier hopgate, without Alembic, had brought the tables."""
    from alembic.runtime.migration import MigrationContext  # 0.1 s that only a new or older database costs

    scripts = script_directory()

    def steps(revision: Any, _context: Any) -> Any:
        return scripts._upgrade_revs("head", revision)

    context = MigrationContext.configure(connection, opts={"fn": steps, "script": scripts, "transactional_ddl": False})
    if taken_over:
        context.stamp(scripts, f"{taken_over:04}")
    from alembic.operations import Operations

    with Operations.context(context):
        context.run_migrations()


def _told(connection: Connection, where: str) -> int:
    value = connection.execute(select(_META.c.value).where(_META.c.key == "schema")).scalar()
    return 0 if value is None else _number(value, where)


def _found(connection: Connection, where: str) -> int:
    value = connection.execute(select(_VERSION.c.version_num)).scalar()
    return 0 if value is None else _number(value, where)


def _number(value: Any, where: str) -> int:
    if not isinstance(value, str) or not value.isdecimal():
        raise Misconfigured(f"{where}: its schema version is no number: this is not a database of hopgate")
    return int(value)
