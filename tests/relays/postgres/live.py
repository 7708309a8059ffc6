"""A gateway in front of the playground's PostgreSQL, in this process."""

from __future__ import annotations

import asyncio
import contextlib
import os
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import psycopg

from hopgate.config import load_config
from playground.postgres import Postgres
from relays.postgres.relay import PostgresRelay
from rules.model import Principal
from tests.doubles import write_config
from tests.relays.world import World

REVIEWER = Principal("local", "rita", frozenset({"dba"}))
EFFECTS = """[read, write, ddl, sequence, lock, bulk_import, bulk_export, settings, lexer_state, identity_change, access_control,
  calls_unknown_function, maintenance, messaging, sleep, dynamic_sql, large_object]"""
RULES = f"""
version: 1
rules:
  - {{id: open, on: session, who: {{groups: [agents]}}, where: {{connections: [db, secure, wrong]}}, effect: allow}}
  - {{id: most, on: sql, match: {{effects: {EFFECTS}}}, effect: allow}}
  - {{id: no-drop, on: sql, match: {{verbs: [drop], writes: ["*.kept", "*.customers"]}}, effect: deny, message: nothing is dropped here}}
  - {{id: no-13, on: sql, match: {{reads: [public.orders], params: [13]}}, effect: deny, message: not thirteen}}
  - {{id: ask, on: sql, match: {{verbs: [delete]}}, effect: hold, hold: {{reviewers: [dba]}}}}
"""
MASKS = """
  - {id: hide, on: sql, effect: mask, mask: {columns: [public.customers.email, "*.ssn"]}}
"""


class Gateway(World):
    """One gateway. Blocking clients run in threads, by `client`."""

    def dsn(self, connection: str = "db", **more: Any) -> str:
        address = self.listener.address
        parts = {"host": "127.0.0.1", "port": address.port, "user": connection, "dbname": connection, "password": self.token()}
        return psycopg.conninfo.make_conninfo("", **{"sslmode": "disable", "connect_timeout": 10, **parts, **more})

    def environment(self, connection: str = "db") -> dict[str, str]:
        """For libpq's programs."""
        names = {
            "host": "PGHOST",
            "port": "PGPORT",
            "user": "PGUSER",
            "dbname": "PGDATABASE",
            "password": "PGPASSWORD",
            "sslmode": "PGSSLMODE",
        }
        found = psycopg.conninfo.conninfo_to_dict(self.dsn(connection))
        return {"PATH": os.environ["PATH"], "LC_ALL": "C.UTF-8", **{names[key]: str(value) for key, value in found.items() if key in names}}

    async def client[T](self, work: Callable[[psycopg.Connection[Any]], T], connection: str = "db", **more: Any) -> T:
        """What `work` gives for a psycopg connection in autocommit mode."""
        dsn = self.dsn(connection, **more)

        def run() -> T:
            with psycopg.connect(dsn, autocommit=True) as found:
                return work(found)

        return await asyncio.to_thread(run)

    async def run(self, *arguments: str, stdin: bytes = b"") -> tuple[int, str, str]:
        """A program as libpq's environment leads it here."""
        process = await asyncio.create_subprocess_exec(
            *arguments,
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=self.environment(),
        )
        out, err = await asyncio.wait_for(process.communicate(stdin), 50)
        assert process.returncode is not None
        return process.returncode, out.decode(), err.decode()

    async def pending(self) -> Any:
        """The approval that somebody waits for, as soon as there is one."""
        for _ in range(1000):
            if found := await self.services.store.list_approvals("pending"):
                return found[0]
            await asyncio.sleep(0.01)
        raise AssertionError("nobody asks for an approval")


@contextlib.asynccontextmanager
async def gateway(directory: Path, server: Postgres, rules: str = RULES, **sections: Any) -> AsyncIterator[Gateway]:
    (directory / "rules.yaml").write_text(rules)
    address = psycopg.conninfo.conninfo_to_dict(server.url())
    target = f"127.0.0.1:{address['port']}"
    base = {"kind": "postgres", "target": target, "database": address["dbname"]}
    credential = {"username": "app", "password": server.password()}
    connections = [
        {"name": "db", **base, "tls": "disable", "credential": credential},
        {"name": "secure", **base, "tls": "verify-full", "ca": str(server.ca), "credential": credential},
        {"name": "wrong", **base, "tls": "disable", "credential": {"username": "app", "password": "not-the-password"}},
        {"name": "closed", **base, "tls": "disable", "credential": credential},
    ]
    content = {"state": "var", "rules": ["rules.yaml"], "connections": connections, "approvals": {"reviewers": ["dba"]}, **sections}
    async with Gateway(load_config(write_config(directory, **content)), PostgresRelay) as found:
        yield found
