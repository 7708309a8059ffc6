"""The fast path before a real PostgreSQL: what repeats passes, what would show a secret does not, and a table that changes is noticed."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from playground.postgres import Postgres
from tests.peers.test_masking import ALLOWED, SHOWING, TELLING, Server, leaks, server
from tests.relays.postgres.live import gateway
from tests.relays.postgres.test_masked_live import RULES, connection_of, results

__all__ = ["server"]

pytestmark = pytest.mark.peer

TIMES = 3


def prepared(connection: psycopg.Connection[Any], name: bytes, sql: str) -> list[list[bytes | None]] | str:
    """As `results`, of a statement that has a name."""
    bare = connection.pgconn
    found = bare.prepare(name, sql.encode())
    if found.status == psycopg.pq.ExecStatus.COMMAND_OK:
        for _ in range(TIMES):
            found = bare.exec_prepared(name, [], result_format=0)
    if found.status not in (psycopg.pq.ExecStatus.TUPLES_OK, psycopg.pq.ExecStatus.COMMAND_OK):
        return f"{(found.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b'').decode()} {found.error_message.decode()}"
    return [[found.get_value(row, column) for column in range(found.nfields)] for row in range(found.ntuples)]


def passed(ledger: list[dict[str, Any]]) -> int:
    return sum(line["count"] for line in ledger if line["event"] == "decided" and "count" in line)


async def test_no_secret_reaches_a_client_that_asks_again(postgres: Postgres, server: Server, tmp_path: Path) -> None:
    def work(connection: psycopg.Connection[Any]) -> None:
        for number, sql in enumerate(SHOWING):
            for _ in range(TIMES):
                found = results(connection, sql, "simple")
                assert isinstance(found, str) or leaks(found) == [], sql
            again = prepared(connection, b"s%d" % number, sql)
            assert isinstance(again, str) or leaks(again) == [], sql
        for sql in TELLING:
            for _ in range(2):
                assert str(results(connection, sql, "simple")).startswith("42501"), sql
        for number, (sql, expected) in enumerate(ALLOWED):
            wanted = [[None if value is None else value.encode() for value in row] for row in expected]
            assert all(results(connection, sql, "simple") == wanted for _ in range(TIMES)), sql
            assert prepared(connection, b"a%d" % number, sql) == wanted, sql

    async with gateway(tmp_path, postgres, RULES, connections=[connection_of(postgres)]) as world:
        await world.client(work)
    assert passed(await world.ledger()) > len(ALLOWED) / 4


async def test_a_column_that_takes_the_place_of_another_is_noticed(postgres: Postgres, server: Server, tmp_path: Path) -> None:
    """Somebody else renames columns while the session knows the statement: the very next answer is masked."""
    with psycopg.connect(postgres.url("owner", "masking"), autocommit=True) as owner:
        owner.execute("CREATE TABLE moving (id int, shown text, ssn text); INSERT INTO moving VALUES (1, 'open', '078-05-1120')")

        def work(connection: psycopg.Connection[Any]) -> None:
            bare = connection.pgconn
            bare.prepare(b"p", b"SELECT shown FROM moving WHERE id = 1")

            def ask() -> list[Any]:
                found = [bare.exec_(b"SELECT shown FROM moving WHERE id = 1"), bare.exec_prepared(b"p", [])]
                return [one.get_value(0, 0) if one.ntuples else one.error_message for one in found]

            for _ in range(TIMES):
                assert ask() == [b"open", b"open"]
            owner.execute("ALTER TABLE moving RENAME shown TO was; ALTER TABLE moving RENAME ssn TO shown")
            for _ in range(TIMES):
                assert not any(b"078" in value for value in ask())

        async with gateway(tmp_path, postgres, RULES, connections=[connection_of(postgres)]) as world:
            await world.client(work)
        assert passed(await world.ledger()) >= 2


async def test_the_ledger_and_the_recording_have_every_statement(postgres: Postgres, tmp_path: Path) -> None:
    from mitmproxy.io import FlowReader
    from mitmproxy.tcp import TCPFlow

    def work(connection: psycopg.Connection[Any]) -> None:
        for number in range(500):
            with connection.cursor() as cursor:
                cursor.execute(f"SELECT {number} = n FROM generate_series(1, 3) n WHERE n = {number % 4}")
                cursor.execute("SELECT n FROM generate_series(1, 3) n WHERE n = %s", (number % 4,), prepare=True)

    async with gateway(tmp_path, postgres) as world:
        await world.client(work)
    lines = await world.ledger()
    decided = [line for line in lines if line["event"] == "decided" and line["kind"] == "sql"]
    assert sum(line.get("count", 1) for line in decided) == 1000
    assert passed(lines) > 900
    said = []
    for path in (world.services.config.state / "recordings").rglob("*.mitm"):
        with path.open("rb") as file:
            said += [message for flow in FlowReader(file).stream() if isinstance(flow, TCPFlow) for message in flow.messages]
    assert sum(message.from_client for message in said) == 1000
    assert [message.timestamp for message in said] == sorted(message.timestamp for message in said)
