"""The stage with a database: the playground's PostgreSQL as the connection `orders-db`, and psql through the gateway."""

from __future__ import annotations

import contextlib
import json
import os
import subprocess
import tempfile
from collections.abc import Iterator
from importlib.util import find_spec
from pathlib import Path
from typing import IO, Any

from playground.demo.stage import Failed, Stage, free_ports
from playground.postgres import Postgres, Unavailable
from playground.tables import DATABASE

CONNECTION = "orders-db"
_CONNECTION = """\
  - name: {name}
    kind: postgres
    target: "127.0.0.1:{port}"
    database: {database}
    {tls}
    labels: {{env: demo}}
    credential: {{username: app, password: "${{secret:{name}}}"}}
"""


def relay_missing() -> str:
    """Why this hopgate has no gate for PostgreSQL; "" when it has one."""
    # what `hopgate up` starts, and what speaks PostgreSQL in it
    for name in ("relays.__main__", "relays.postgres.relay"):
        try:
            found = find_spec(name)
        except ModuleNotFoundError:
            found = None
        if found is None:
            return f"this hopgate has no {name}"
    return ""


class DatabaseStage(Stage):
    """`database` may be given, and is then the caller's to close; else the stage has one of its own."""

    def __init__(self, directory: Path | None = None, rules: str = "", database: Postgres | None = None) -> None:
        super().__init__(directory, rules)
        self.database = database or Postgres()
        self.tls = True  # between gateway and server, verified
        self._owned = database is None
        self._told: dict[int, IO[bytes]] = {}  # pid -> what a psql writes to stderr
        (self.sql,) = free_ports(1)

    def start_database(self) -> None:
        """The stage's own one, unless it runs already. Raises Failed."""
        if self._owned and not self.database.running:
            try:
                self.database.start()
            except Unavailable as error:
                raise Failed(str(error)) from None

    def open(self, workers: int = 1) -> None:
        self.start_database()
        # as the gateway's user, who reads it from a directory of the database's
        tls = f'tls: verify-full\n    ca: "{self.database.ca}"' if self.tls else "tls: disable"
        self.connections += _CONNECTION.format(name=CONNECTION, port=self.database.port, database=DATABASE, tls=tls)
        self.listeners += f', postgres: "127.0.0.1:{self.sql}"'
        super().open(workers)

    def start_target(self) -> None:
        super().start_target()
        self.hopgate("secrets", "set", CONNECTION, stdin=self.database.app_password)

    def close(self) -> None:
        super().close()
        if self._owned:
            self.database.close()

    def psql_words(self, *arguments: str, user: str = CONNECTION) -> list[str]:
        """psql through the gateway, without a configuration file of the user's; the token goes by PGPASSWORD."""
        address = f"host=127.0.0.1 port={self.sql} user={user} dbname={DATABASE}"
        return [
            str(self.database.programs / "psql"),
            "-X",
            "-A",
            "-t",
            "-v",
            "ON_ERROR_STOP=1",
            "-v",
            "VERBOSITY=verbose",
            address,
            *arguments,
        ]

    def psql_environment(self, token: str) -> dict[str, str]:
        return {"PATH": os.environ.get("PATH", os.defpath), "HOME": str(self.agent), "LANG": "C.UTF-8", "PGPASSWORD": token}

    def psql(self, token: str, sql: str, params: tuple[str, ...] = (), *, user: str = CONNECTION) -> subprocess.CompletedProcess[str]:
        """`sql` in one message; with `params` by the extended protocol."""
        words, script = self._asking(sql, params, user)
        environment = self.psql_environment(token)
        return subprocess.run(words, input=script, env=environment, capture_output=True, text=True, timeout=60, check=False)  # noqa: S603

    @contextlib.contextmanager
    def psql_started(self, token: str, sql: str, params: tuple[str, ...] = ()) -> Iterator[subprocess.Popen[bytes]]:
        """The same, left running: `told` says what it has written to stderr so far. It ends with the block."""
        words, script = self._asking(sql, params, CONNECTION)
        with tempfile.TemporaryFile() as given, tempfile.TemporaryFile() as told:
            given.write(script.encode())
            given.seek(0)
            environment = self.psql_environment(token)
            process = subprocess.Popen(words, stdin=given, stdout=subprocess.DEVNULL, stderr=told, env=environment)  # noqa: S603
            self._told[process.pid] = told
            try:
                yield process
            finally:
                process.kill()
                process.wait()

    def told(self, process: subprocess.Popen[bytes]) -> str:
        file = self._told[process.pid]
        return os.pread(file.fileno(), 1 << 20, 0).decode("utf-8", "replace")

    def _asking(self, sql: str, params: tuple[str, ...], user: str) -> tuple[list[str], str]:
        """psql's arguments and its input."""
        if not params:
            return self.psql_words("-c", sql, user=user), ""
        bound = " ".join("'" + value.replace("'", "''") + "'" for value in params)
        return self.psql_words("-f", "-", user=user), f"{sql} \\bind {bound} \\g\n"

    def ledger_events(self, processes: str = "relay-*") -> list[dict[str, Any]]:
        """Events of the relay processes, checkpoints left out."""
        lines = [line for path in sorted((self.state / "ledger").glob(f"{processes}.ndjson")) for line in path.read_text().splitlines()]
        return [event for event in map(json.loads, lines) if event["event"] != "checkpoint"]
