"""SQL facts against a real PostgreSQL: what is called reading runs in a read-only transaction, what is called writing does not."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator

import psycopg
import pytest

from playground.postgres import Postgres
from rules.sql.functions import catalog
from tests.rules.sql.reading import names
from tests.rules.sql.test_statements import ROWS

READ_ONLY = "25006"  # read_only_sql_transaction
COLUMNS = "(id int primary key, a int, b int, c int, x int, y int, z int, n int, customer int, ssn text, name text, email text, age int)"
TABLES = "; ".join(f"create table {name} {COLUMNS}" for name in ("a", "b", "t", "u", "s", "customers", "orders"))
OBJECTS = f"create schema facts; set search_path = facts; {TABLES}; create schema sales; create table sales.orders (id int, customer int)"
# these end the transaction, or say themselves what kind it is
TRANSACTIONS = {"begin", "commit", "rollback", "savepoint", "other"}


@pytest.fixture(scope="module")
def session(postgres: Postgres) -> Iterator[psycopg.Connection]:
    with psycopg.connect(postgres.url("owner", "postgres"), autocommit=True) as connection:
        connection.execute("create database facts")
    with contextlib.ExitStack() as stack:
        connection = stack.enter_context(psycopg.connect(postgres.url("owner", "facts"), autocommit=True))
        connection.execute(OBJECTS)
        yield connection


def sqlstate(connection: psycopg.Connection, sql: str) -> str:
    """What a read-only transaction says to the statement; "" for nothing."""
    connection.execute("rollback; set search_path = facts; set statement_timeout = '500ms'; begin read only")
    try:
        if "copy_in" in names(sql, "verbs") or "stdout" in sql:
            with connection.cursor().copy(sql):
                return ""
        connection.execute(sql)
    except psycopg.Error as error:
        return error.sqlstate or "?"
    finally:
        connection.execute("rollback")
    return ""


READING = [row[0] for row in ROWS if row[2] == "read" and not TRANSACTIONS & set(row[1].split())]
CHANGING = [row[0] for row in ROWS if {"insert", "update", "delete", "merge", "truncate"} & set(row[1].split()) and "write" in row[2]]


@pytest.mark.peer
@pytest.mark.parametrize("sql", READING)
def test_what_reads_is_let_through_by_a_read_only_transaction(session: psycopg.Connection, sql: str) -> None:
    assert sqlstate(session, sql) != READ_ONLY


@pytest.mark.peer
def test_what_changes_rows_is_refused_by_a_read_only_transaction(session: psycopg.Connection) -> None:
    """The oracle of the test above has teeth: most of the table's writes get that far on the tables here."""
    refused = [sql for sql in CHANGING if sqlstate(session, sql) == READ_ONLY]
    assert len(refused) > len(CHANGING) * 0.6


@pytest.mark.peer
def test_the_shipped_functions_and_operators_are_those_of_the_server(session: psycopg.Connection) -> None:
    functions = session.execute("select proname from pg_proc where pronamespace = 'pg_catalog'::regnamespace").fetchall()
    assert catalog().functions.keys() <= {row[0] for row in functions}
    operators = session.execute("select oprname from pg_operator where oprnamespace = 'pg_catalog'::regnamespace").fetchall()
    assert {row[0] for row in operators} == catalog().operators


@pytest.mark.peer
@pytest.mark.parametrize("column", ["row_to_json", "to_jsonb", "quote_literal", "concat", "array_agg", "max", "record_out"])
def test_a_row_function_reads_like_a_column(session: psycopg.Connection, column: str) -> None:
    """The trap that the facts answer with the whole row."""
    session.execute("set search_path = facts; delete from customers; insert into customers (id, ssn) values (1, '078-05-1120')")
    row = session.execute(f"select (c.{column})::text from customers c").fetchone()
    assert row is not None
    assert "078-05-1120" in row[0]
    assert "public.customers.*" in names(f"select c.{column} from customers c", "columns")
    assert "public.customers.*" in names(f"select (c).{column} from customers c", "columns")
