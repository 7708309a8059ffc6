"""What somebody tried against the relay who wanted a denied statement to run, or a masked value to come out, and once could."""

from __future__ import annotations

from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from playground.postgres import Postgres
from relays.postgres import codec
from tests.relays.postgres.live import MASKS, RULES, gateway
from tests.relays.postgres.test_conversations_live import raw_login, until
from tests.relays.postgres.test_live import sqlstate

pytestmark = pytest.mark.peer

SECRET = "zoe.quartz@example.net"


def mask(strategy: str = "redact", predicates: str = "deny") -> str:
    columns = f"columns: [hidden.t.x], strategy: {strategy}, predicates: {predicates}"
    return f"{RULES}  - {{id: hide, on: sql, effect: mask, mask: {{{columns}}}}}\n"


@pytest.fixture(scope="module", autouse=True)
def schemas(postgres: Postgres) -> Iterator[None]:
    """The same table twice: what is in one is masked, what is in the other is not."""
    postgres.query(f"""
        CREATE SCHEMA hidden; CREATE TABLE hidden.t (id int, x text); INSERT INTO hidden.t VALUES (1, '{SECRET}');
        CREATE SCHEMA shown; CREATE TABLE shown.t (id int, x text); INSERT INTO shown.t VALUES (1, 'open');
        CREATE SCHEMA empty;
    """)
    yield
    postgres.query("DROP SCHEMA hidden, shown, empty CASCADE")


async def test_a_decision_is_not_taken_for_another_statement(postgres: Postgres, tmp_path: Path) -> None:
    """A statement that is allowed with masks, and is dropped because an earlier one fails, left its decision for the next."""
    first = codec.Parse(b"", b"SELECT 1 / (id - id) FROM customers").build() + codec.Bind(b"", b"").build() + codec.Execute(b"").build()
    # a value for a statement without parameters: its types are asked for, and meanwhile the first one fails
    second = codec.Parse(b"s", b"SELECT name FROM customers").build() + codec.Bind(b"", b"s", (), (b"1",)).build()
    async with gateway(tmp_path, postgres, RULES + MASKS) as world:
        reader, writer = await raw_login(world)
        await until(reader, "Z")
        for denied in (b"DROP TABLE customers", b"DROP TABLE customers CASCADE"):
            writer.write(first + second + codec.SYNC)
            assert [codec.Report.parse(body).get(b"C") for kind, body in await until(reader, "Z") if kind == "E"] == [b"22012"]
            writer.write(codec.Query(denied).build())
            (error,) = [codec.Report.parse(body) for kind, body in await until(reader, "Z") if kind == "E"]
            assert error.get(b"M") == b"nothing is dropped here"
    assert not any("drop table customers" in statement.lower() for statement in postgres.statements())


def tried(connection: psycopg.Connection[Any], *texts: str) -> str:
    """Everything that comes back from texts that are sent one after the other."""
    heard: list[str] = []
    connection.add_notice_handler(lambda notice: heard.append(str(notice.message_primary)))
    seen: list[Any] = heard  # type: ignore[assignment]
    for text in texts:
        try:
            cursor: Any = connection.execute(text)
            while cursor is not None:
                seen += cursor.fetchall() if cursor.description else [cursor.statusmessage]
                cursor = cursor if cursor.nextset() else None
        except psycopg.Error as error:
            seen.append(f"{error.sqlstate} {error}")
    for name in (b"application_name", b"search_path"):
        seen.append(str(connection.pgconn.parameter_status(name)))
    seen += [notify.payload for notify in connection.notifies(timeout=0.05)]
    for text in ("ROLLBACK", "RESET search_path", "RESET application_name"):
        connection.execute(text)
    return repr(seen)


# names that mean the masked table when the server looks, and meant the other when the gateway did
MOVING = [
    ["SET search_path = shown", "SET search_path = hidden; SELECT upper(x) FROM t"],
    ["SET search_path = shown", "BEGIN; SET LOCAL search_path = hidden; SELECT upper(x) FROM t"],
    ["SET search_path = shown", "SELECT set_config('search_path', 'hidden', false); SELECT upper(x) FROM t"],
    ["SET search_path = shown", "SET search_path = hidden; PREPARE p AS SELECT upper(x) FROM t", "EXECUTE p", "DEALLOCATE p"],
    ["SET search_path = shown", "BEGIN; SET LOCAL search_path = hidden; DECLARE c CURSOR FOR SELECT upper(x) FROM t", "FETCH ALL FROM c"],
    ["BEGIN", "ALTER SCHEMA shown RENAME TO gone", "ALTER SCHEMA hidden RENAME TO shown", "SELECT upper(x) FROM shown.t"],
    ["BEGIN", "ALTER SCHEMA hidden RENAME TO another", "SELECT x, upper(x) FROM another.t"],
    ["SET search_path = shown, hidden", "BEGIN", "DROP TABLE shown.t", "SELECT upper(x) FROM t"],
    ["SET search_path = shown, hidden", "BEGIN", "ALTER TABLE shown.t RENAME TO u", "SELECT upper(x) FROM t"],
    ["SET search_path = shown, hidden", "BEGIN", "ALTER TABLE shown.t SET SCHEMA empty", "SELECT upper(x) FROM t"],
    ["SET search_path = shown, hidden", "BEGIN; DROP TABLE shown.t; SELECT upper(x) FROM t"],
    ["BEGIN", "ALTER TABLE shown.t SET SCHEMA empty", "ALTER TABLE hidden.t SET SCHEMA shown", "SELECT upper(x) FROM shown.t"],
    ["BEGIN", "ALTER TABLE hidden.t RENAME COLUMN x TO y", "SELECT upper(y) FROM hidden.t"],
    ["BEGIN", "CREATE TEMP TABLE t (x text)", "DROP TABLE pg_temp.t", "SELECT upper(x) FROM hidden.t"],
]


async def test_names_that_move_between_looking_and_running(postgres: Postgres, tmp_path: Path) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        for texts in MOVING:
            assert SECRET not in tried(found, *texts).lower(), texts
        # and what has not moved is still to be had
        assert "OPEN" in tried(found, "SET search_path = shown", "SELECT upper(x) FROM t")

    async with gateway(tmp_path, postgres, mask()) as world:
        await world.client(work)


async def test_another_session_that_moves_names(postgres: Postgres, tmp_path: Path) -> None:
    """The catalogue is asked again only now and then."""

    def work(found: psycopg.Connection[Any]) -> None:
        found.execute("SET search_path = shown, hidden")
        assert SECRET not in repr(found.execute("SELECT upper(x) FROM t").fetchall()).lower()
        postgres.query("ALTER TABLE shown.t SET SCHEMA empty")
        try:
            assert SECRET not in repr(found.execute("SELECT upper(x) FROM t").fetchall()).lower()
        finally:
            postgres.query("ALTER TABLE empty.t SET SCHEMA shown")

    async with gateway(tmp_path, postgres, mask()) as world:
        await world.client(work)


@pytest.mark.parametrize("strategy", ["partial, keep: 4", "hash"])
async def test_parts_of_a_value_are_not_hidden_by_their_own_ends(postgres: Postgres, tmp_path: Path, strategy: str) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        plain = found.execute("SELECT x, x::text, CAST(x AS varchar) FROM hidden.t").fetchone()
        assert plain is not None
        assert len(set(plain)) == 1  # the strategy's own, whatever ORMs put around it
        assert plain[0] != "[redacted]"
        for expression in ("left(x, 9)", "substr(x, 4, 8)", "reverse(x)", "x::varchar(9)", "x::char(9)", "x::name", "x || 'a'", "max(x)"):
            assert found.execute(f"SELECT {expression} FROM hidden.t").fetchone() == ("[redacted]",), expression
        assert found.execute("SELECT s FROM (SELECT left(x, 9) AS s FROM hidden.t) q").fetchone() == ("[redacted]",)

    async with gateway(tmp_path, postgres, mask(strategy)) as world:
        await world.client(work)


# where a rule lets predicates use a column, its values must not be carried off, nor be told by an error
CARRIED_OFF = [
    ["SELECT x::regclass FROM hidden.t"],
    ["SELECT has_schema_privilege(x, 'usage') FROM hidden.t"],
    ["SELECT query_to_xml(x, true, true, '') FROM hidden.t"],
    ["SELECT set_config('application_name', x, false) FROM hidden.t", "SHOW application_name"],
    ["SELECT set_config('search_path', quote_ident(x), false) FROM hidden.t"],
    ["SELECT set_config('my.x', x, false) FROM hidden.t", "SELECT current_setting('my.x')"],
    ["BEGIN", "INSERT INTO shown.t SELECT 5, x FROM hidden.t", "SELECT x FROM shown.t"],
    ["BEGIN", "UPDATE shown.t SET x = hidden.t.x FROM hidden.t", "SELECT x FROM shown.t"],
    ["BEGIN", "CREATE TEMP TABLE stolen AS SELECT x FROM hidden.t", "SELECT * FROM stolen"],
    ["BEGIN", "CREATE VIEW shown.v AS SELECT x FROM hidden.t", "SELECT x FROM shown.v"],
    ["BEGIN", "ALTER TABLE hidden.t RENAME COLUMN x TO y", "SELECT y FROM hidden.t"],
    ["LISTEN c", "SELECT pg_notify('c', x) FROM hidden.t", "SELECT 1"],
    ["DO $$BEGIN RAISE NOTICE '%', (SELECT x FROM hidden.t); END$$"],
    ["SELECT x::int FROM hidden.t"],
    ["SELECT to_tsvector(x::regconfig, 'a') FROM hidden.t"],
    ["SELECT current_setting(x) FROM hidden.t"],
    ["SELECT nextval(x) FROM hidden.t"],
]


async def test_predicates_that_are_allowed_carry_nothing_off(postgres: Postgres, tmp_path: Path) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        assert sqlstate(found, "SELECT id FROM hidden.t WHERE x LIKE 'z%' ORDER BY x") == ""
        assert sqlstate(found, "SELECT no_such_column FROM hidden.t") == "42703"
        for texts in CARRIED_OFF:
            assert "quartz" not in tried(found, *texts), texts

    async with gateway(tmp_path, postgres, mask(predicates="allow")) as world:
        await world.client(work)


async def test_names_that_the_server_takes_for_the_same(postgres: Postgres, tmp_path: Path) -> None:
    """It tells names apart by their first 63 bytes: what was judged under one would run under the other."""
    one, other = b"n" * 63 + b"1", b"n" * 63 + b"2"
    parse = (
        codec.Parse(one, b"SELECT 1").build() + codec.CloseTarget(b"S", other).build() + codec.Parse(other, b"DELETE FROM orders").build()
    )
    bind = codec.Parse(b"s", b"SELECT 1").build() + codec.Bind(one, b"s").build() + codec.CloseTarget(b"P", other).build()
    async with gateway(tmp_path, postgres) as world:
        for messages, then in (
            (parse, codec.Bind(b"", one).build() + codec.Execute(b"").build()),
            (bind, codec.Bind(other, b"s").build() + codec.Execute(one).build()),
            (codec.Describe(b"P", one).build(), b""),
            (codec.Execute(one).build(), b""),
        ):
            reader, writer = await raw_login(world)
            await until(reader, "Z")
            writer.write(messages + then + codec.SYNC)
            error = codec.Report.parse((await until(reader, "E"))[-1][1])
            assert error.get(b"C") == b"42622"
            writer.close()
    assert postgres.query("SELECT count(*) FROM orders").strip() == "20"
    assert not any("delete from orders" in statement.lower() for statement in postgres.statements())


async def test_values_in_another_encoding_are_not_known(postgres: Postgres, tmp_path: Path) -> None:
    """In LATIN1 these two bytes are other characters than in UTF-8, and the gateway reads UTF-8."""
    rules = RULES + "  - {id: no-a, on: sql, match: {reads: [public.customers], params: ['Ã©']}, effect: deny, message: not that}\n"

    def work(found: psycopg.Connection[Any]) -> None:
        sql = b"SELECT id FROM customers WHERE $1::text = '\\303'"
        assert found.pgconn.exec_params(sql, [b"\xc3\xa9"]).status == psycopg.pq.ExecStatus.TUPLES_OK
        assert found.pgconn.exec_params(sql, ["Ã©".encode()]).status == psycopg.pq.ExecStatus.FATAL_ERROR
        found.execute("SET client_encoding = LATIN1")
        assert found.pgconn.exec_params(sql, [b"\xc3\xa9"]).status == psycopg.pq.ExecStatus.FATAL_ERROR
        assert found.pgconn.exec_params(sql, [b"ascii"]).status == psycopg.pq.ExecStatus.TUPLES_OK

    async with gateway(tmp_path, postgres, rules) as world:
        await world.client(work)
