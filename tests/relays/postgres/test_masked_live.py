"""The statements of tests.peers.test_masking through a live gateway: a driver gets an error, or rows without the secrets."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import psycopg
import pytest

from playground.postgres import Postgres
from tests.peers.test_masking import ALLOWED, CARD, EMAIL, NOTE, SHOWING, SSN, TELLING, Server, leaks, server
from tests.relays.postgres.live import EFFECTS, gateway

__all__ = ["server"]

pytestmark = pytest.mark.peer

RULES = f"""
version: 1
rules:
  - {{id: open, on: session, who: {{groups: [agents]}}, effect: allow}}
  - {{id: most, on: sql, match: {{effects: {EFFECTS}}}, effect: allow}}
  - id: hide
    on: sql
    effect: mask
    mask: {{columns: [public.customers.email, "*.ssn", customers.card, customers.prefs, mail, feeling, raw, events.secret]}}
"""


def connection_of(postgres: Postgres) -> dict[str, Any]:
    credential = {"username": "owner", "password": postgres.password("owner")}
    return {
        "name": "db",
        "kind": "postgres",
        "target": f"127.0.0.1:{postgres.port}",
        "database": "masking",
        "tls": "disable",
        "credential": credential,
    }


def results(connection: psycopg.Connection[Any], sql: str, how: str) -> list[list[bytes | None]] | str:
    """Every value that comes, or the error."""
    if how == "simple":
        found = connection.pgconn.exec_(sql.encode())
    else:
        found = connection.pgconn.exec_params(sql.encode(), [], result_format=how == "binary")
    if found.status not in (psycopg.pq.ExecStatus.TUPLES_OK, psycopg.pq.ExecStatus.COMMAND_OK):
        return f"{(found.error_field(psycopg.pq.DiagnosticField.SQLSTATE) or b'').decode()} {found.error_message.decode()}"
    return [[found.get_value(row, column) for column in range(found.nfields)] for row in range(found.ntuples)]


@pytest.mark.parametrize("how", ["simple", "extended", "binary"])
async def test_no_secret_reaches_a_client(postgres: Postgres, server: Server, tmp_path: Path, how: str) -> None:
    def work(connection: psycopg.Connection[Any]) -> None:
        passed = 0
        for sql in SHOWING:
            found = results(connection, sql, how)
            if isinstance(found, str):
                assert not any(secret in found for secret in (EMAIL, SSN, str(CARD), NOTE)), (sql, found)
            else:
                passed += 1
                assert leaks(found) == [], sql
        assert passed > len(SHOWING) / 2
        for sql in TELLING:
            found = results(connection, sql, how)
            assert isinstance(found, str), sql
            assert found.startswith("42501"), (sql, found)
        for sql, expected in ALLOWED:
            if how != "binary":
                assert results(connection, sql, how) == [
                    [None if value is None else value.encode() for value in row] for row in expected
                ], sql

    async with gateway(tmp_path, postgres, RULES, connections=[connection_of(postgres)]) as world:
        await world.client(work)
        assert any(line["event"] == "masked" for line in await world.ledger())
