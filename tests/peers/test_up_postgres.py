"""`hopgate up` in front of PostgreSQL alone: no proxy, no certificate authority, and a probe that tells a relay that hangs."""

from __future__ import annotations

import json
import os
import signal
import subprocess
import sys
import urllib.error
import urllib.request
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import psycopg
import pytest

from playground.postgres import Postgres, free_port
from tests.doubles import write_config
from tests.peers.live import until

pytestmark = pytest.mark.peer

RULES = """\
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, effect: allow}
  - {id: read, on: sql, match: {effects: [read]}, effect: allow}
"""


class Alone:
    """A gateway whose only listener for callers is PostgreSQL's."""

    def __init__(self, directory: Path, server: Postgres) -> None:
        self.port, self.probe = free_port(), free_port()
        (directory / "rules.yaml").write_text(RULES)
        credential = {"username": "app", "password": server.password()}
        target = {"name": "db", "kind": "postgres", "target": f"127.0.0.1:{server.port}", "database": "orders", "credential": credential}
        self.config = write_config(
            directory,
            state="var",
            rules=["rules.yaml"],
            connections=[{**target, "tls": "verify-full", "ca": str(server.ca)}],
            listen={"postgres": f"127.0.0.1:{self.port}", "health": f"127.0.0.1:{self.probe}"},
        )
        self.state = directory / "var"
        self.process = subprocess.Popen(self._words("up"), stderr=subprocess.PIPE, text=True)

    def _words(self, *words: str) -> tuple[str, ...]:
        return (sys.executable, "-m", "hopgate", *words, "--config", str(self.config))

    def hopgate(self, *words: str) -> str:
        return subprocess.run(self._words(*words), check=True, capture_output=True, text=True, timeout=60).stdout

    def health(self) -> tuple[int, dict[str, Any]]:
        opener = urllib.request.build_opener(urllib.request.ProxyHandler({}))
        try:
            with opener.open(f"http://127.0.0.1:{self.probe}/healthz", timeout=10) as answer:
                return answer.status, json.load(answer)
        except urllib.error.HTTPError as error:
            return error.code, json.load(error)
        except OSError:
            return 0, {"workers": []}

    def ask(self, environment: dict[str, str]) -> str:
        """What a client says that has nothing but the environment."""
        parts = {"host": "PGHOST", "port": "PGPORT", "user": "PGUSER", "password": "PGPASSWORD", "dbname": "PGDATABASE"}
        dsn = psycopg.conninfo.make_conninfo("", **{key: environment[name] for key, name in parts.items()}, connect_timeout=20)
        with psycopg.connect(dsn, sslmode="disable", autocommit=True) as connection:
            row = connection.execute("SELECT current_user").fetchone()
        assert row is not None
        return str(row[0])

    def close(self) -> str:
        self.process.terminate()
        try:
            return self.process.communicate(timeout=30)[1]
        except subprocess.TimeoutExpired:
            self.process.kill()
            raise


@pytest.fixture
def alone(tmp_path: Path, postgres: Postgres) -> Iterator[Alone]:
    found = Alone(tmp_path, postgres)
    try:
        assert until(lambda: found.health()[0] == 200, 60), found.process.poll()
        yield found
    finally:
        if found.process.poll() is None:
            found.close()


def test_postgres_alone(alone: Alone) -> None:
    status, told = alone.health()
    assert (status, told["ok"], told["listener"]) == (200, True, f"127.0.0.1:{alone.port}")
    assert [worker["name"] for worker in told["workers"]] == ["relay-0"]
    assert told["listeners"] == [{"wire": "postgres", "address": f"127.0.0.1:{alone.port}", "answers": True}]
    token = alone.hopgate("token", "issue", "--subject", "agent-7", "--group", "agents").strip()
    environment = json.loads(alone.hopgate("env", "--token", token, "--json"))
    assert set(environment) == {"PGHOST", "PGPORT", "PGUSER", "PGPASSWORD", "PGDATABASE"}
    assert alone.ask(environment) == "app"
    assert not (alone.state / "ca").exists()

    pid = told["workers"][0]["pid"]
    os.kill(pid, signal.SIGSTOP)
    try:
        # its kernel goes on accepting connections
        assert alone.health()[0] == 503
        assert [listener["answers"] for listener in alone.health()[1]["listeners"]] == [False]
    finally:
        os.kill(pid, signal.SIGCONT)
    assert until(lambda: alone.health()[0] == 200, 30)

    os.kill(pid, signal.SIGKILL)
    assert until(lambda: alone.health()[0] == 503, 30)
    assert until(lambda: alone.health()[0] == 200, 60)
    assert alone.ask(environment) == "app"
    said = alone.close()
    assert f"listening on 127.0.0.1:{alone.port}; 1 process" in said
    assert "certificate authority" not in said
