"""What the console costs: its pages over a past of a million ledger events and an inbox of 200 approvals.

The ledgers are written by the gateway's own writer, signed and chained; the console is the process that `hopgate up` starts.
"""

from __future__ import annotations

import asyncio
import http.client
import random
import statistics
import subprocess
import sys
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path
from urllib.parse import urlencode

from hopgate.approvals import Approvals
from hopgate.config import Config, load_config
from hopgate.console.signin import SignIns
from hopgate.history import History, SessionQuery
from hopgate.ledger import Ledger, ledger_key
from hopgate.store import Store
from playground.bench.measure import Line, resident_mib
from playground.demo.stage import Failed, free_ports
from rules.model import Exact, Hold, Principal

EVENTS = 1_000_000
PENDING = 200
LONG = 100_000  # operations of the longest session
TIMES = 21
PRINCIPALS, CONNECTIONS, TABLES = 200, 50, 50
_CONFIG = """
version: 1
state: var
rules: [rules.yaml]
identity: {{issuers: [{{name: corp, local: true}}]}}
listen: {{console: "127.0.0.1:{port}"}}
approvals: {{reviewers: [dba]}}
operators: [ops]
"""
_RULES = """
version: 1
rules:
  - {id: agents-may-open, on: session, effect: allow}
  - {id: read-freely, on: sql, match: {effects: [read]}, effect: allow}
  - {id: no-drop, on: sql, match: {verbs: [drop]}, effect: deny, message: ask a dba}
  - {id: never-matched, on: sql, match: {verbs: [truncate]}, effect: hold, hold: {reviewers: [dba]}}
"""


class ConsoleBench:
    """A state directory with a long past, and the console before it."""

    def __init__(self, events: int = EVENTS) -> None:
        self._directory = tempfile.TemporaryDirectory(prefix="hopgate-console-")
        self._process: subprocess.Popen[bytes] | None = None
        self.events = events
        self.longest = ""
        self.port = free_ports(1)[0]
        base = Path(self._directory.name)
        (base / "rules.yaml").write_text(_RULES)
        (base / "hopgate.yaml").write_text(_CONFIG.format(port=self.port))
        self.config: Config = load_config(base / "hopgate.yaml")
        self.cookie = ""

    def close(self) -> None:
        if self._process is not None:
            self._process.terminate()
            self._process.wait(30)
        self._directory.cleanup()

    def fill(self) -> Iterator[Line]:
        """Write the ledgers, index them, ask for approvals."""
        started = time.perf_counter()
        written = asyncio.run(_write(self))
        yield Line(f"{written} ledger events written", f"{time.perf_counter() - started:.0f} s")
        started = time.perf_counter()
        indexed = asyncio.run(_index(self))
        seconds = time.perf_counter() - started
        yield Line("… and indexed", f"{seconds:.0f} s, {indexed / seconds:.0f} events/s")
        self.cookie = asyncio.run(_ask(self))

    def start(self) -> None:
        """Raises Failed when the console does not answer."""
        words = [sys.executable, "-P", "-m", "hopgate.console", "--config", str(self.config.path)]
        self._process = subprocess.Popen(words)  # noqa: S603
        deadline = time.monotonic() + 60
        while True:
            if self._process.poll() is not None or time.monotonic() > deadline:
                raise Failed("the console did not start: the line before this one says why")
            try:
                self.get("/health")
            except OSError:
                time.sleep(0.2)
            else:
                return

    def get(self, path: str, **query: str) -> bytes:
        """A page, as a browser of somebody who has signed in gets it. Raises OSError, Failed."""
        connection = http.client.HTTPConnection("127.0.0.1", self.port, timeout=60)
        try:
            target = f"{path}?{urlencode(query)}" if query else path
            connection.request("GET", target, headers={"Cookie": f"hopgate={self.cookie}", "Accept": "text/html"})
            answer = connection.getresponse()
            body = answer.read()
            if answer.status != 200:
                raise Failed(f"{target} is answered with {answer.status}")
            return body
        finally:
            connection.close()

    @property
    def resident(self) -> float:
        """MiB of the console's process."""
        assert self._process is not None
        return resident_mib(self._process.pid)


def measured(bench: ConsoleBench) -> Iterator[Line]:
    """Medians over HTTP, and the memory after all of it."""
    asked: list[tuple[str, str, dict[str, str]]] = [
        (f"inbox of {PENDING} approvals", "/approvals", {}),
        ("sessions, the newest", "/sessions", {}),
        ("search by text that is everywhere", "/sessions", {"text": "select"}),
        ("search by text that is rare", "/sessions", {"text": "t7_orders drop"}),
        ("search by rule", "/sessions", {"rule": "no-drop"}),
        ("search by effect and connection", "/sessions", {"effect": "deny", "connection": "conn-3"}),
        ("search by principal and text", "/sessions", {"principal": "corp:svc-9", "text": "update"}),
        (f"a session of {LONG} operations", f"/sessions/{bench.longest}", {}),
    ]
    for what, path, query in asked:
        took = []
        for _ in range(TIMES):
            start = time.perf_counter()
            body = bench.get(path, **query)
            took.append(time.perf_counter() - start)
        median = statistics.median(took) * 1e3
        wanted = 1000.0 if "operations" in what else 100.0
        value = f"median {median:.0f} ms, longest {max(took) * 1e3:.0f} ms, {len(body) // 1024} KiB"
        yield Line(what, value, f"<= {wanted:.0f} ms", median <= wanted)
    bench.get("/hops")
    bench.get("/rules")
    yield Line("memory of the console after these, hops and rules", f"{bench.resident:.0f} MiB", "<= 200 MiB", bench.resident <= 200)


async def _write(bench: ConsoleBench) -> int:
    """Sessions of about 70 operations, one of `LONG`, in the ledgers of two processes."""
    chance = random.Random(7)  # noqa: S311 - the same past each time
    state = bench.config.state
    ledgers = [Ledger(state / "ledger", f"relay-{number}", ledger_key(state), announce=False) for number in range(2)]
    written = sessions = 0
    while written < bench.events:
        ledger = ledgers[sessions % 2]
        operations = LONG if sessions == 100 and bench.events > 2 * LONG else chance.randrange(1, 140)
        session = f"s{int(time.time() * 1000):011x}{chance.getrandbits(48):012x}"
        bench.longest = session if operations == LONG or not bench.longest else bench.longest
        principal, connection = f"svc-{chance.randrange(PRINCIPALS)}", f"conn-{chance.randrange(CONNECTIONS)}"
        who = {"issuer": "corp", "subject": principal, "connection": connection, "peer": "10.0.0.9", "run": f"run-{sessions % 9}"}
        opening = {"operation": f"{session}.1", "kind": "session", "title": f"open {connection}", "effect": "allow"}
        ledger.append("decided", session=session, **who, **opening, rules=["agents-may-open"])
        ledger.append("recording_opened", session=session, file=f"recordings/{session}.mitm", meta={"kind": "postgres"})
        ledger.append("session_opened", session=session, **who, rules=["agents-may-open"])
        for number in range(operations):
            ledger.append(
                "decided", session=session, operation=f"{session}.{number + 2}", kind="sql", **_operation(chance), version="v" * 16
            )
            if number % 2000 == 1999:
                await ledger.durable()
        ledger.append("session_closed", session=session, reason="the client left", operations=operations + 1)
        sessions, written = sessions + 1, written + operations + 4
        if sessions % 40 == 0:
            await ledger.durable()
    for ledger in ledgers:
        ledger.close()
    return written


def _operation(chance: random.Random) -> dict[str, object]:
    table, one = f"t{chance.randrange(TABLES)}_orders", chance.random()
    if one < 0.01:
        return {"title": f"drop {table}", "effect": "deny", "rules": ["no-drop"], "message": "ask a dba"}
    if one < 0.1:
        return {"title": f"update {table}", "effect": "allow", "rules": ["write-some"]}
    return {"title": f"select {table}, customers, prices", "effect": "allow", "rules": ["read-freely"]}


async def _index(bench: ConsoleBench) -> int:
    store = await Store.open(bench.config.state)
    history = await History.open(bench.config, store)
    found = await history.catch_up()
    await history.close()
    await store.close()
    return found


async def _ask(bench: ConsoleBench) -> str:
    """Pending approvals of the newest sessions, and a sign-in to look at them."""
    store = await Store.open(bench.config.state)
    history = await History.open(bench.config, store)
    sessions = (await history.search_sessions(SessionQuery(), limit=PENDING)).items
    approvals = Approvals(store, bench.config.approvals)
    for number, session in enumerate(sessions):
        text = f"DELETE FROM t{number}_orders WHERE id < {number}000 AND status = 'old' -- {'why not ' * 20}"  # noqa: S608
        agent = Principal("corp", f"svc-{number}", frozenset({"agents"}))
        exact = Exact(f"delete t{number}_orders", text, text.encode())
        facts = {"kind": "sql", "verbs": ["delete"]}
        await approvals.request(agent, session.id, session.connection, [Hold("delete", ("dba",), timeout=86400.0)], exact, facts=facts)
    cookie = await SignIns(store).begin(Principal("corp", "rita", frozenset({"dba", "ops"})), 3600.0)
    await history.close()
    await store.close()
    return cookie
