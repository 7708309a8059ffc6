"""Real clients through the gateway to a real PostgreSQL."""

from __future__ import annotations

import asyncio
import shutil
import threading
import time
from pathlib import Path
from typing import Any

import asyncpg
import psycopg
import pytest

from playground.postgres import Postgres
from tests.relays.postgres.live import MASKS, REVIEWER, RULES, gateway

pytestmark = pytest.mark.peer


def sqlstate(connection: psycopg.Connection[Any], sql: str, *values: object) -> str:
    """The SQLSTATE that a statement fails with; "" when it does not."""
    try:
        connection.execute(sql, values or None)  # type: ignore[call-overload]
    except psycopg.Error as error:
        return error.sqlstate or "?"
    return ""


def one(connection: psycopg.Connection[Any], sql: str, *values: object) -> Any:
    row = connection.execute(sql, values or None).fetchone()  # type: ignore[call-overload]
    return None if row is None else row[0]


@pytest.mark.parametrize("connection", ["db", "secure"])
async def test_psycopg_text_binary_prepared_and_pipelines(postgres: Postgres, tmp_path: Path, connection: str) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        assert found.execute("SELECT %s::int + 1, %s::text", (41, "hé")).fetchall() == [(42, "hé")]
        with found.cursor(binary=True) as cursor:
            assert cursor.execute("SELECT %b::int8, %s::jsonb", (5, '{"a": 1}')).fetchall() == [(5, {"a": 1})]
        for number in range(7):
            assert found.execute("SELECT %s::int", (number,), prepare=True).fetchone() == (number,)
        with found.transaction():
            found.execute("CREATE TEMP TABLE t (a int, b text)")
            with found.pipeline():
                for number in range(30):
                    found.execute("INSERT INTO t VALUES (%s, %s)", (number, "x"))
            assert one(found, "SELECT count(*) FROM t") == 30
            with found.cursor("named") as cursor:
                cursor.execute("SELECT a FROM t ORDER BY a")
                assert cursor.fetchmany(4) == [(0,), (1,), (2,), (3,)]
                assert len(cursor.fetchall()) == 26

    async with gateway(tmp_path, postgres) as world:
        await world.client(work, connection)


async def test_copy_in_and_out(postgres: Postgres, tmp_path: Path) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        found.execute("CREATE TEMP TABLE t (a int, b text)")
        with found.cursor().copy("COPY t FROM STDIN") as copy:
            for number in range(5000):
                copy.write_row((number, "z" * 50))
        assert one(found, "SELECT count(*) FROM t") == 5000
        with found.cursor().copy("COPY t TO STDOUT") as copy:
            assert sum(data.tobytes().count(b"\n") if isinstance(data, memoryview) else bytes(data).count(b"\n") for data in copy) == 5000
        with pytest.raises(psycopg.errors.InvalidTextRepresentation), found.cursor().copy("COPY t FROM STDIN") as copy:
            for _ in range(5000):
                copy.write_row(("no number", "z" * 50))
        assert one(found, "SELECT 1") == 1

    async with gateway(tmp_path, postgres) as world:
        await world.client(work)


async def test_asyncpg(postgres: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, postgres) as world:
        found = await asyncpg.connect(
            host="127.0.0.1", port=world.listener.address.port, user="db", password=world.token(), database="db", ssl=False
        )
        assert await found.fetchval("SELECT $1::int + 1", 4) == 5
        async with found.transaction():
            await found.execute("CREATE TEMP TABLE t (a int)")
            await found.executemany("INSERT INTO t VALUES ($1)", [(number,) for number in range(50)])
            assert [row["a"] async for row in found.cursor("SELECT a FROM t ORDER BY a", prefetch=7)] == list(range(50))
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="nothing is dropped here"):
            await found.execute("DROP TABLE customers")
        with pytest.raises(asyncpg.InsufficientPrivilegeError, match="nothing is dropped here"):
            await found.fetch("DROP TABLE customers")
        with pytest.raises(asyncio.TimeoutError):
            await asyncio.wait_for(found.execute("SELECT pg_sleep(30)"), 0.3)
        assert await found.fetchval("SELECT 7") == 7
        await found.close()


async def test_psql(postgres: Postgres, tmp_path: Path) -> None:
    if shutil.which("psql") is None:
        pytest.skip("psql is not installed")
    script = b"""
\\set ON_ERROR_STOP 0
BEGIN; INSERT INTO audit (what) VALUES ('psql'); DROP TABLE customers; SELECT 'after'; ROLLBACK;
SELECT count(*) FROM audit WHERE what = 'psql';
\\dt
SELECT 1 \\; SELECT 2;
\\copy (SELECT id FROM customers ORDER BY id LIMIT 1) TO STDOUT
"""
    async with gateway(tmp_path, postgres) as world:
        status, out, err = await world.run("psql", "-XAtq", "-v", "VERBOSITY=verbose", stdin=script)
    assert status == 0, err
    assert out.splitlines()[0] == "0"
    assert "public|customers|table|app" in out
    assert out.splitlines()[-3:] == ["1", "2", "1"]
    assert "ERROR:  42501: nothing is dropped here" in err
    assert "DETAIL:  rule: no-drop; operation: s" in err
    assert "HINT:" in err
    assert "25P02" in err


async def test_pg_dump_of_the_same_version(postgres: Postgres, tmp_path: Path) -> None:
    (program,) = postgres.home.parent.glob("postgresql-*/bin/pg_dump")
    async with gateway(tmp_path, postgres) as world:
        status, out, err = await world.run(str(program), "-t", "orders")
    assert status == 0, err
    assert "CREATE TABLE public.orders" in out
    assert out.count("\tpaid\n") + out.count("\tcancelled\n") == 20


@pytest.mark.parametrize("mode", ["simple", "extended", "prepared"])
async def test_pgbench(postgres: Postgres, tmp_path: Path, mode: str) -> None:
    if shutil.which("pgbench") is None:
        pytest.skip("pgbench is not installed")
    script = tmp_path / "script.sql"
    script.write_text("\\set n random(14, 20)\nSELECT amount FROM orders WHERE id = :n;\nINSERT INTO audit (what) VALUES ('bench');\n")
    async with gateway(tmp_path, postgres) as world:
        status, out, err = await world.run("pgbench", "-n", "-M", mode, "-c", "4", "-t", "25", "-f", str(script))
        assert status == 0, err
        assert "number of transactions actually processed: 100/100" in out
        decided = [line for line in await world.ledger() if line["event"] == "decided" and line["kind"] == "sql"]
        assert sum("orders" in line["title"] for line in decided) == 100
        assert sum("audit" in line["title"] for line in decided) == 100


# --- what may not be


async def test_a_denied_statement_rolls_back_the_pipeline_before_it(postgres: Postgres, tmp_path: Path) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        found.execute("CREATE TABLE IF NOT EXISTS kept (a int)")
        found.execute("TRUNCATE kept")
        with pytest.raises(psycopg.errors.InsufficientPrivilege), found.pipeline():
            found.execute("INSERT INTO kept VALUES (1)")
            found.execute("DROP TABLE kept")
            found.execute("INSERT INTO kept VALUES (2)")
        assert one(found, "SELECT count(*) FROM kept") == 0
        with pytest.raises(psycopg.errors.InsufficientPrivilege), found.transaction():
            found.execute("INSERT INTO kept VALUES (3)")
            assert sqlstate(found, "DROP TABLE kept") == "42501"
            assert found.info.transaction_status == psycopg.pq.TransactionStatus.INERROR
            assert sqlstate(found, "SELECT 1") == "25P02"
            raise psycopg.errors.InsufficientPrivilege
        assert one(found, "SELECT count(*) FROM kept") == 0
        assert sqlstate(found, "DROP TABLE kept") == "42501"
        assert found.info.transaction_status == psycopg.pq.TransactionStatus.IDLE

    async with gateway(tmp_path, postgres) as world:
        await world.client(work)
    assert not any("drop table kept" in statement.lower() for statement in postgres.statements())


async def test_values_decide_when_they_are_bound(postgres: Postgres, tmp_path: Path) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        sql = "SELECT id FROM orders WHERE id = %s"
        for prepare in (False, True):
            assert found.execute(sql, (12,), prepare=prepare).fetchone() == (12,)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not thirteen"):
                found.execute(sql, (13,), prepare=prepare)
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="not thirteen"):
                found.cursor(binary=True).execute("SELECT id FROM orders WHERE id = %b", (13,), prepare=prepare)
            assert found.execute(sql, (14,), prepare=prepare).fetchone() == (14,)

    async with gateway(tmp_path, postgres) as world:
        await world.client(work)


async def test_a_held_statement_runs_when_it_is_approved_and_only_once(postgres: Postgres, tmp_path: Path) -> None:
    notices: list[str] = []

    def work(found: psycopg.Connection[Any]) -> int:
        found.add_notice_handler(lambda diagnostic: notices.append(diagnostic.message_primary or ""))
        found.execute("INSERT INTO audit (what) VALUES ('held'), ('held')")
        return found.execute("DELETE FROM audit WHERE what = %s", ("held",)).rowcount

    async with gateway(tmp_path, postgres) as world:
        running = asyncio.ensure_future(world.client(work))
        approval = await world.pending()
        assert "DELETE FROM audit" in approval.text
        assert "$1 = 'held'" in approval.text
        assert not any("delete" in statement.lower() for statement in postgres.statements() if "held" in statement)
        await world.services.approvals.decide(approval.id, REVIEWER, "approve")
        assert await running == 2
    assert approval.id in notices[0]


async def test_a_held_statement_that_is_denied(postgres: Postgres, tmp_path: Path) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        for sql in ("DELETE FROM orders", "DELETE FROM orders WHERE id = 1"):
            with pytest.raises(psycopg.errors.InsufficientPrivilege, match="a reviewer denied this: too much"):
                found.execute(sql)
            assert one(found, "SELECT count(*) FROM orders") == 20

    async with gateway(tmp_path, postgres) as world:
        running = asyncio.ensure_future(world.client(work))
        for _ in range(2):
            await world.services.approvals.decide((await world.pending()).id, REVIEWER, "deny", comment="too much")
        await running


@pytest.mark.parametrize("values", [(), ("nobody",)], ids=["simple", "extended"])
async def test_cancel(postgres: Postgres, tmp_path: Path, values: tuple[str, ...]) -> None:
    def work(found: psycopg.Connection[Any]) -> None:
        started = time.monotonic()
        for sql in ("SELECT pg_sleep(30)", f"DELETE FROM audit WHERE what = {'%s' if values else repr('nobody')}"):
            timer = threading.Timer(0.4, found.cancel_safe)  # cancel() keeps the interpreter's lock, and the gateway is in here
            timer.start()
            assert sqlstate(found, sql, *(values if "%s" in sql else ())) == "57014"
            timer.join()
            assert one(found, "SELECT 1") == 1
        assert time.monotonic() - started < 25

    async with gateway(tmp_path, postgres) as world:
        await world.client(work)
        await world.quiet()
        assert not await world.services.store.list_approvals("pending")


# --- the session


async def test_names_mean_what_the_session_makes_of_them(postgres: Postgres, tmp_path: Path) -> None:
    rules = RULES + "  - {id: no-orders, on: sql, match: {reads: [public.orders]}, effect: deny, message: not the orders}\n"

    def work(found: psycopg.Connection[Any]) -> None:
        assert sqlstate(found, "SELECT * FROM orders") == "42501"
        found.execute("SET search_path = pg_catalog")
        assert sqlstate(found, "SELECT * FROM customers") == "42P01"
        assert sqlstate(found, "SELECT * FROM orders") == "42501"  # which one that would be is not certain
        found.execute("RESET search_path")
        assert sqlstate(found, "SELECT * FROM orders") == "42501"
        found.execute("PREPARE one (int) AS SELECT $1 + 1")
        assert one(found, "EXECUTE one(4)") == 5
        found.execute("PREPARE two AS SELECT * FROM customers")
        found.execute("EXECUTE two")
        found.execute("SET search_path = pg_catalog, public")
        found.execute("EXECUTE two")
        found.execute("RESET search_path")
        found.execute("DEALLOCATE one")
        assert sqlstate(found, "EXECUTE one(4)") == "42501"
        with found.transaction(force_rollback=True):
            found.execute("SET search_path = pg_catalog")
            assert sqlstate(found, "SELECT 1 FROM public.customers") == ""
        assert sqlstate(found, "SELECT * FROM orders") == "42501"
        assert sqlstate(found, "SET standard_conforming_strings = off") == ""
        assert sqlstate(found, r"SELECT 'a\' ; DROP TABLE customers; --'") == "42501"
        assert found.info.parameter_status("standard_conforming_strings") == "off"

    async with gateway(tmp_path, postgres, rules) as world:
        await world.client(work)


async def test_masked_columns_do_not_come_back(postgres: Postgres, tmp_path: Path) -> None:
    emails = [row.split("|")[0] for row in postgres.query("SELECT email FROM customers ORDER BY id").splitlines() if "@" in row]
    assert emails

    def work(found: psycopg.Connection[Any]) -> str:
        seen = []
        for binary in (False, True):
            for values in ((), (5,)):
                where = " WHERE id < %s" if values else ""
                with found.cursor(binary=binary) as cursor:
                    seen += cursor.execute(f"SELECT *, email AS x, customers FROM customers{where}", values or None).fetchall()
        with found.transaction(), found.cursor("c") as cursor:
            seen += cursor.execute("SELECT max(email) OVER (), row_to_json(customers)::text FROM customers").fetchall()
        with found.cursor().copy("COPY customers TO STDOUT") as copy:
            seen += [bytes(data) for data in copy]  # type: ignore[misc]
        for sql in ("SELECT * FROM customers ORDER BY email", "SELECT 1 FROM customers WHERE email LIKE 'a%'"):
            assert sqlstate(found, sql) == "42501"
        try:
            found.execute("INSERT INTO customers SELECT id + 100, name, 'a', phone, ssn FROM customers")
        except psycopg.Error as error:
            seen.append(str(error))  # type: ignore[arg-type]
        assert one(found, "SELECT count(*) FROM customers WHERE email = %s", emails[0]) == 1
        return repr(seen)

    async with gateway(tmp_path, postgres, RULES + MASKS) as world:
        seen = await world.client(work)
        assert "[redacted]" in seen
        assert not [email for email in emails if email in seen]
        assert any(line["event"] == "masked" for line in await world.ledger())


async def test_the_injected_password_does_not_come_back(postgres: Postgres, tmp_path: Path) -> None:
    secret = postgres.password()

    def work(found: psycopg.Connection[Any]) -> None:
        rows = found.execute(f"SELECT g, '{secret[:10]}' || '{secret[10:]}' FROM generate_series(1, 3) g").fetchall()
        assert [row[0] for row in rows] == [1, 2, 3]
        assert secret not in repr(rows)
        assert "[redacted]" in repr(rows)
        with pytest.raises(psycopg.Error) as error:
            found.execute(f"SELECT ('{secret[:10]}' || '{secret[10:]}')::int")
        assert secret not in str(error.value)

    async with gateway(tmp_path, postgres) as world:
        await world.client(work)


OPERANDS = 1500


async def test_long_statements_are_read_elsewhere_and_do_not_crash_it(postgres: Postgres, tmp_path: Path) -> None:
    long = "SELECT " + " + ".join(["1"] * OPERANDS) + " AS n, '" + "x" * 40_000 + "' AS x"
    chain = "SELECT 1" + "+1" * 70_000
    deep = "SELECT " + "(" * 5000 + "1" + ")" * 5000

    def work(found: psycopg.Connection[Any]) -> None:
        assert one(found, long) == OPERANDS
        assert found.execute(long.replace(" AS n", "+ 1 AS n"), prepare=True).fetchone() is not None
        for sql in (chain, deep, "SELECT '" + "x" * (2 << 20) + "'"):
            assert sqlstate(found, sql) == "42501"
        assert one(found, "SELECT 1") == 1

    async with gateway(tmp_path, postgres) as world:
        await world.client(work)


async def test_limits_end_a_result_that_goes_over_them(postgres: Postgres, tmp_path: Path) -> None:
    rules = RULES.replace("effect: allow}\n  - {id: most", "effect: allow, limits: {rows: 1000}}\n  - {id: most")

    def work(found: psycopg.Connection[Any]) -> list[str]:
        found.execute("SELECT generate_series(1, 900)")
        return [sqlstate(found, "SELECT generate_series(1, 1000000)"), str(found.closed)]

    async with gateway(tmp_path, postgres, rules) as world:
        assert await world.client(work) == ["53400", "True"]


# --- who, and how it ends


async def test_logins_that_fail(postgres: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, postgres) as world:
        for expected, connection, more in (
            ("the token is malformed", "db", {"password": "nonsense"}),
            ("no rule allows this", "closed", {}),
            ("no rule allows this", "unheard-of", {}),
            ("must be the name of a connection", "no such", {}),
            ("could not log in|refuses the gateway's login", "wrong", {}),
            ("leads to the database", "db", {"dbname": "postgres"}),
            ("replication does not go", "db", {"replication": "database"}),
            ("cannot be set at start-up", "db", {"options": "-c role=owner"}),
        ):
            with pytest.raises(psycopg.OperationalError, match=expected):
                await world.client(lambda found: None, connection, **more)


async def test_scram_with_a_short_token(postgres: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, postgres) as world:
        short = await world.services.identity.exchange(world.token(), peer="127.0.0.1")
        user = f"db+{short.principal.token_id}"
        more = {"password": short.access_token, "dbname": "db", "require_auth": "scram-sha-256"}
        assert await world.client(lambda found: one(found, "SELECT 1"), user, **more) == 1
        assert await world.client(lambda found: one(found, "SELECT 1"), password=short.access_token) == 1
        with pytest.raises(psycopg.OperationalError, match="the token is wrong"):
            await world.client(lambda found: None, user, **{**more, "password": short.access_token[:-1] + "_"})
        with pytest.raises(psycopg.OperationalError, match="the token is wrong"):
            await world.client(lambda found: None, f"db+{'0' * 64}", **more)


async def test_a_killed_session_is_told_and_the_target_forgets_it(postgres: Postgres, tmp_path: Path) -> None:
    async with gateway(tmp_path, postgres) as world:

        def work(found: psycopg.Connection[Any]) -> str:
            (session,) = world.services.sessions._live
            world.listener._loop.call_soon_threadsafe(session.end, "killed by an operator")
            deadline = time.monotonic() + 10
            while time.monotonic() < deadline:
                if state := sqlstate(found, "SELECT 1"):
                    return state
            return ""

        assert await world.client(work) == "57P01"


async def test_a_target_that_dies_in_the_middle(postgres: Postgres, tmp_path: Path) -> None:
    def work(found: psycopg.Connection[Any]) -> str:
        pid = one(found, "SELECT pg_backend_pid()")
        timer = threading.Timer(0.3, lambda: postgres.query(f"SELECT pg_terminate_backend({pid})", user="owner"))
        timer.start()
        state = sqlstate(found, "SELECT pg_sleep(20)")
        timer.join()
        return state

    async with gateway(tmp_path, postgres) as world:
        assert await world.client(work) in ("57P01", "08006")
        await world.quiet()
        assert any(line["event"] == "session_closed" for line in await world.ledger())
