"""What `scripts/bench postgres` runs: the server, and in front of it pgbouncer, a forwarder that inspects nothing, the gateway."""

from __future__ import annotations

import resource
import shutil
import socket
import subprocess
import sys
import time
from collections.abc import Mapping
from pathlib import Path
from typing import Any, Final

from playground.bench import pgbench
from playground.bench.stage import cpu_seconds, relay_pid
from playground.demo.database import CONNECTION, DatabaseStage
from playground.demo.stage import Failed, free_ports
from playground.postgres import Postgres
from playground.tables import DATABASE

RULES: Final = 100
ROWS: Final = 300_000  # of the bulk tables; about 100 bytes each on the wire
MASKED: Final = 2  # of the five columns of bulk_masked
SESSIONS: Final = 1_000
_TABLES: Final = f"""
CREATE TABLE bulk (id int, name text, email text, note text, card text);
INSERT INTO bulk SELECT n, 'customer ' || lpad(n::text, 8, '0'), 'user' || lpad(n::text, 8, '0') || '@customers.example',
    'nothing ' || n % 10, lpad(n::text, 16, '4') FROM generate_series(1, {ROWS}) n;
CREATE TABLE bulk_masked AS TABLE bulk;
ANALYZE;
"""  # noqa: S608


def rules() -> str:
    """`RULES` sql rules that all apply to the connection: most of them name other tables, as a large configuration has them."""
    lines = ["version: 1", "rules:", "  - {id: open, on: session, who: {groups: [agents]}, effect: allow}"]
    for number in range(RULES - 5):
        effect = ("allow", "deny", "deny")[number % 3]
        lines.append(f"  - {{id: r{number}, on: sql, match: {{verbs: [update, delete], writes: [area{number}.*]}}, effect: {effect}}}")
    lines += [
        "  - {id: read, on: sql, match: {effects: [read]}, effect: allow}",
        "  - {id: no-drop, on: sql, match: {verbs: [drop, truncate]}, effect: deny}",
        "  - {id: no-unbounded, on: sql, match: {verbs: [delete, update], unbounded: true}, effect: deny}",
        "  - {id: no-keys, on: sql, match: {reads: [api_keys]}, effect: deny}",
        "  - {id: hide, on: sql, effect: mask, mask: {columns: [bulk_masked.email, bulk_masked.card], strategy: partial, keep: 4}}",
    ]
    return "\n".join(lines) + "\n"


class PostgresBench(DatabaseStage):
    """Everything without TLS on loopback: what is compared is the relaying."""

    def __init__(self) -> None:
        super().__init__(None, rules(), Postgres(logs=False, settings={"max_connections": str(SESSIONS + 100)}))
        self.packs, self.tls, self._owned = "", False, True
        self.bouncer, self.forwarder = free_ports(2)
        self.pids: dict[str, int] = {}
        self.token_text = ""

    def open(self, workers: int = 1) -> None:
        hard = resource.getrlimit(resource.RLIMIT_NOFILE)[1]
        resource.setrlimit(resource.RLIMIT_NOFILE, (hard, hard))  # for the idle sessions, in the processes started here too
        super().open(workers)
        self.token_text = self.token("agent-7", "agents")

    def start_target(self) -> None:
        self.hopgate("secrets", "set", CONNECTION, stdin=self.database.app_password)
        self.fill()
        self.start_yardsticks()

    def fill(self) -> None:
        """pgbench's tables at scale 1, and the bulk tables."""
        password, home = self.database.app_password, self.agent
        words = [
            str(self.database.programs / "pgbench"),
            "-i",
            "-q",
            "-h",
            "127.0.0.1",
            "-p",
            str(self.database.port),
            "-U",
            "app",
            DATABASE,
        ]
        environment = {"PGPASSWORD": password, "PGSSLMODE": "disable", "HOME": str(home)}
        done = subprocess.run(words, env=environment, capture_output=True, text=True, timeout=120, check=False)  # noqa: S603
        if done.returncode:
            raise Failed(f"pgbench -i: {done.stderr.strip().splitlines()[-1]}")
        self.database.query(_TABLES)

    def start_yardsticks(self) -> None:
        words = [sys.executable, "-P", "-m", "playground.bench.forwarder", str(self.forwarder), str(self.database.port)]
        self._spawn(words)
        self.pids["forwarder"] = self._processes[-1].pid
        if program := bouncer_program():
            self._start_bouncer(program)
        for port in (self.forwarder, *([self.bouncer] if "pgbouncer" in self.pids else [])):
            await_listener(port)

    def _start_bouncer(self, program: str) -> None:
        database, home = self.database, self.database.home
        users, config = home / "users.txt", home / "pgbouncer.ini"
        users.write_text(f'"app" "{database.app_password}"\n')
        config.write_text(
            f"[databases]\n{DATABASE} = host=127.0.0.1 port={database.port} dbname={DATABASE}\n[pgbouncer]\nlisten_addr = 127.0.0.1\n"
            f"listen_port = {self.bouncer}\nunix_socket_dir =\nauth_type = scram-sha-256\nauth_file = {users}\npool_mode = session\n"
            f"default_pool_size = 64\nmax_client_conn = 200\nserver_tls_sslmode = disable\nlog_connections = 0\nlog_disconnections = 0\n"
        )
        for path in (users, config):
            path.chmod(0o600)
            database.own(path)
        with self.log.open("ab") as log:
            # it refuses to run as root, as the server does
            process = subprocess.Popen([program, "-q", str(config)], stdin=subprocess.DEVNULL, stdout=log, stderr=log, **database.identity)  # noqa: S603
        self._processes.append(process)
        self.pids["pgbouncer"] = process.pid

    # --- measuring

    @property
    def ways(self) -> dict[str, tuple[int, str, str]]:
        """Name -> port, user, password of every way to the server."""
        app = ("app", self.database.app_password)
        bouncer = {"pgbouncer": (self.bouncer, *app)} if "pgbouncer" in self.pids else {}
        return {
            "direct": (self.database.port, *app),
            **bouncer,
            "forwarder": (self.forwarder, *app),
            "hopgate": (self.sql, CONNECTION, self.token_text),
        }

    def pgbench(self, way: str, *options: str) -> tuple[pgbench.Ran, float]:
        """One run, and the CPU seconds of the process in between. Raises Failed."""
        port, user, password = self.ways[way]
        pid = self.relay_pid() if way == "hopgate" else self.pids.get(way, 0)
        before = cpu_seconds(pid) if pid else 0.0
        ran = pgbench.run(self.database.programs / "pgbench", port, user, password, *options, home=self.agent, connection=way)
        return ran, (cpu_seconds(pid) - before) if pid else 0.0

    def relay_pid(self) -> int:
        return relay_pid(self.health)

    def done(self) -> Mapping[str, int]:
        """What the ledgers say so far: sql decisions, values masked."""
        found = {"decided": 0, "masked": 0}
        for event in self.ledger_events():
            if event["event"] == "decided" and event["kind"] == "sql":
                found["decided"] += event.get("count", 1)
            elif event["event"] == "masked":
                found["masked"] += sum(event["counts"].values())
        return found

    def recorded(self) -> int:
        """Statements that the recordings of all sessions hold."""
        from mitmproxy.io import FlowReader
        from mitmproxy.tcp import TCPFlow

        found = 0
        for path in (self.state / "recordings").rglob("*.mitm"):
            with path.open("rb") as file:
                for flow in FlowReader(file).stream():
                    found += sum(message.from_client for message in flow.messages) if isinstance(flow, TCPFlow) else 0
        return found


def bouncer_program() -> str:
    """Where pgbouncer is; "" when it is not installed. Debian puts it where only root's PATH looks."""
    return shutil.which("pgbouncer") or shutil.which("pgbouncer", path="/usr/sbin:/usr/local/sbin") or ""


def await_listener(port: int, seconds: float = 20) -> None:
    deadline = time.monotonic() + seconds
    while True:
        try:
            socket.create_connection(("127.0.0.1", port), timeout=1).close()
            return
        except OSError:
            if time.monotonic() > deadline:
                raise Failed(f"nothing listens on port {port}") from None
            time.sleep(0.05)


def scripts(directory: Path, **texts: str) -> dict[str, Any]:
    """Files for pgbench -f, by name."""
    found = {}
    for name, text in texts.items():
        found[name] = directory / f"{name}.sql"
        found[name].write_text(text)
    return found
