"""Columns of SQL facts against a real PostgreSQL: where the server says that a result comes from a column, the facts name it."""

from __future__ import annotations

import random
from collections.abc import Iterator

import psycopg
import pytest

from playground.postgres import Postgres
from rules.sql.session import SessionState
from tests.rules.sql.reading import names

STATE = SessionState(database="columns", schemas=("public",))
TABLES = {"customers": ("id", "ssn", "name"), "orders": ("id", "customer", "name"), "cards": ("number", "customer")}


@pytest.fixture(scope="module")
def session(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.url("owner", "postgres"), autocommit=True) as connection:
        connection.execute("create database columns")
    with psycopg.connect(postgres.url("owner", "columns"), autocommit=True) as connection:
        for table, columns in TABLES.items():
            connection.execute(f"create table {table} ({', '.join(f'{column} text' for column in columns)})")
        yield connection


class Queries:
    """Random queries; the server refuses most."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)

    def pick(self, *choices: str) -> str:
        return self.random.choice(choices)

    def column(self) -> str:
        return self.pick("id", "ssn", "name", "customer", "number", "x")

    def alias(self) -> str:
        return self.pick("a", "b", "c", "customers", "orders", "ssn", "x")

    def source(self, depth: int) -> str:
        if depth and self.random.random() < 0.4:
            lateral = self.pick("", "lateral ")
            names = self.pick("", "", f" ({self.column()})", f" ({self.column()}, {self.column()})")
            return f"{lateral}({self.select(depth - 1)}) {self.alias()}{names}"
        if depth and self.random.random() < 0.15:
            return f"({self.joined(depth - 1)}) as {self.alias()}"
        names = self.pick("", "", "", f" ({self.column()})")
        return f"{self.pick(*TABLES)} as {self.alias()}{names}" if self.random.random() < 0.6 else self.pick(*TABLES, "w")

    def joined(self, depth: int) -> str:
        join = self.pick("cross join", "natural join", "join")
        condition = "" if join != "join" else self.pick(" on true", f" using ({self.column()})")
        return f"{self.source(depth)} {join} {self.source(depth)}{condition}"

    def target(self, depth: int) -> str:
        plain = self.pick(
            self.column(),
            self.column(),
            f"{self.alias()}.{self.column()}",
            "*",
            "*",
            f"{self.alias()}.*",
            f"({self.alias()}).{self.column()}",
        )
        if depth and self.random.random() < 0.2:
            plain = f"({self.select(depth - 1, one=True)})"
        return plain if "*" in plain or self.random.random() < 0.6 else f"{plain} as {self.column()}"

    def select(self, depth: int, *, one: bool = False) -> str:
        sources = self.pick(self.source(depth), self.source(depth), self.joined(depth), f"{self.source(depth)}, {self.source(depth)}")
        targets = ", ".join(self.target(depth) for _ in range(1 if one else self.random.choice((1, 1, 2))))
        query = f"select {targets} from {sources}" if self.random.random() < 0.95 else f"select {targets}"
        if depth and self.random.random() < 0.25:
            return f"with w as ({self.select(depth - 1)}) {query}"
        if depth and self.random.random() < 0.1:
            return f"{query} union all {self.select(0)}"
        return query + (f" limit {self.random.randint(1, 3)}" if one else "")


def origins(session: psycopg.Connection, sql: str, known: dict[tuple[int, int], tuple[str, str]]) -> set[tuple[str, str]] | None:
    """Relation and column of each result that is a column's, as RowDescription tells; None where the server refuses the statement."""
    prepared = session.pgconn.prepare(b"", sql.encode())
    if prepared.error_message:
        return None
    described = session.pgconn.describe_prepared(b"")
    found = [(described.ftable(index), described.ftablecol(index)) for index in range(described.nfields)]
    return {known[one] for one in found if one[0] and one[1]}


def covered(relation: str, column: str, columns: set[object]) -> bool:
    """Whether a rule or mask about the column meets one of these: by its full name, as part of a row, or as a bare name."""
    return not columns.isdisjoint({f"public.{relation}.{column}", f"public.{relation}.*", column})


@pytest.mark.peer
@pytest.mark.parametrize("seed", range(4))
def test_no_column_of_a_result_is_hidden(session: psycopg.Connection, seed: int) -> None:
    queries = Queries(seed)
    accepted = 0
    rows = session.execute("select attrelid, attnum, relname, attname from pg_attribute join pg_class c on c.oid = attrelid").fetchall()
    known = {(row[0], row[1]): (row[2], row[3]) for row in rows}
    for number in range(1_500):
        sql = queries.select(number % 3)
        found = origins(session, sql, known)
        if found is None:
            continue
        accepted += 1
        columns, reads = names(sql, "columns", STATE), names(sql, "reads", STATE)
        for relation, column in found:
            assert f"public.{relation}" in reads, sql
            assert covered(relation, column, columns), (sql, relation, column, columns)
    assert accepted > 100
