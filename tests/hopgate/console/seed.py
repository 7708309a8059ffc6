"""A gateway's past and present made up for the console: sessions, operations, holds, votes, all through the parts that write them."""

from __future__ import annotations

import json
import random
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from hopgate.approvals import Approvals
from hopgate.asciicast import CAST
from hopgate.config import Config, load_config
from hopgate.flow_format import TcpConnection, encode_tcp_flow, encode_tcp_message
from hopgate.ledger import Ledger, ledger_key
from hopgate.store import SessionRow, Store
from rules.model import Exact, Hold, Principal

RULES = """\
version: 1
rules:
  - {id: agents-may-open, on: session, who: {groups: [agents]}, effect: allow}
  - {id: read-freely, on: sql, match: {effects: [read]}, effect: allow}
  - id: no-unbounded-delete
    on: sql
    match: {verbs: [delete, update], unbounded: true}
    effect: deny
    message: give it a WHERE clause
  - {id: writes-need-a-dba, on: sql, match: {effects: [write]}, effect: hold, hold: {reviewers: [dba], scopes: [once, fingerprint-15m]}}
  - {id: schema-needs-two, on: sql, match: {effects: [ddl]}, effect: hold, hold: {reviewers: [dba, security], quorum: 2, timeout: 5m}}
  - {id: read-billing, on: http, match: {method: GET}, effect: allow}
  - {id: refunds, on: http, match: {method: POST, path: "/v1/refunds/**"}, effect: hold, hold: {reviewers: [finance, dba]}}
  - {id: restarts, on: ssh, match: {programs: [systemctl]}, effect: hold, hold: {reviewers: [sre]}}
  - {id: hide-secrets, on: [http, sql], effect: mask, mask: {columns: ["*.ssn"], detect: [jwt], strategy: partial}}
"""
CONFIG = """\
version: 1
state: ./var
rules: [rules.yaml]
identity: {{issuers: [{{name: local, local: true}}]}}
connections:
  - {{name: billing, kind: http, hosts: ["billing.internal:80"], target: "http://127.0.0.1:9", labels: {{env: prod}}}}
  - {{name: orders-db, kind: postgres, target: "127.0.0.1:9", database: orders, tls: disable, labels: {{env: prod}}}}
listen: {{console: "127.0.0.1:{port}"}}
operators: [ops]
approvals: {{reviewers: [dba]}}
console: {{viewers: [staff]}}
"""
WRITE = Hold("writes-need-a-dba", ("dba",), scopes=("once", "fingerprint-15m"))
SCHEMA = Hold("schema-needs-two", ("dba", "security"), quorum=2, timeout=300.0)
REFUND = Hold("refunds", ("finance", "dba"))
RESTART = Hold("restarts", ("sre",))
SQL_FACTS: dict[str, Any] = {"kind": "sql", "complete": True, "reason": "", "verbs": ["delete"], "effects": ["write"]}


def configure(directory: Path, port: int = 18443, more: str = "", rules: str = "") -> Config:
    """hopgate.yaml and rules.yaml, loaded."""
    directory.mkdir(parents=True, exist_ok=True)
    (directory / "rules.yaml").write_text(rules or RULES)
    (directory / "hopgate.yaml").write_text(CONFIG.format(port=port) + more)
    return load_config(directory / "hopgate.yaml")


def agent(name: str, run: str = "", issuer: str = "local", **fields: Any) -> Principal:
    return Principal(issuer, name, frozenset({"agents"}), run=run, token_id=secrets.token_hex(8), **fields)


@dataclass
class Past:
    """Writes what a proxy would have written: one ledger, rows of sessions, approvals."""

    config: Config
    store: Store
    ledger: Ledger
    approvals: Approvals

    @classmethod
    async def open(cls, config: Config, process: str = "relay-0") -> Past:
        store = await Store.open(config.state)
        ledger = Ledger(config.state / "ledger", process, ledger_key(config.state))
        return cls(config, store, ledger, Approvals(store, config.approvals, ledger_event=ledger.append, process=process, epoch="1"))

    async def close(self) -> None:
        await self.approvals.close()
        self.ledger.close()
        await self.store.close()

    async def session(self, who: Principal, connection: str, kind: str, *, ended: bool = False, at: float | None = None) -> str:
        at = time.time() if at is None else at
        name = f"s{int(at * 1000):011x}{secrets.token_hex(6)}"
        told = {"issuer": who.issuer, "subject": who.subject, "connection": connection}
        run = {"run": who.run} if who.run else {}
        self.ledger.append("recording_opened", session=name, file=f"{name}.mitm", meta={**told, **run, "kind": kind})
        self.ledger.append("session_opened", session=name, **told, **run, peer="10.1.2.3", token=who.token_id, rules=["agents-may-open"])
        path = f"recordings/{time.strftime('%Y/%m/%d', time.gmtime(at))}/{name}.mitm"
        row = SessionRow(
            name, who.issuer, who.subject, connection, kind, self.ledger.process, at, "10.1.2.3", tuple(who.groups), who.run, recording=path
        )
        await self.store.save_session(row)
        if ended:
            await self.end(name)
        return name

    async def record(self, session: str, *messages: tuple[bool, bytes], **metadata: Any) -> None:
        """What a relay would have recorded."""
        row = await self.store.find_session(session)
        assert row is not None
        path = self.config.state / row.recording
        path.parent.mkdir(parents=True, exist_ok=True)
        now = time.time()
        ends = TcpConnection("c", ("10.1.2.3", 40000), ("127.0.0.1", 15432), "s", ("db", 5432), None, now)
        said = [encode_tcp_message(client, text, now + number / 10) for number, (client, text) in enumerate(messages)]
        with path.open("ab") as file:
            file.write(encode_tcp_flow(ends, said, flow_id=session, created=now, metadata={"session": session, **metadata}))

    async def end(self, session: str, reason: str = "the client left") -> None:
        self.ledger.append("session_closed", session=session, reason=reason, operations=1)
        await self.store.end_session(session, reason, time.time())

    def operation(self, session: str, number: int, kind: str, title: str, effect: str = "allow", rule: str = "", **more: Any) -> None:
        fields = {"operation": f"{session}.{number}", "kind": kind, "title": title, "effect": effect, "rules": [rule] if rule else []}
        self.ledger.append("decided", session=session, **fields, version="v1", **more)

    async def hold(self, who: Principal, session: str, connection: str, hold: Hold, text: str, kind: str = "sql", **facts: Any) -> str:
        exact = Exact(text.splitlines()[0][:120] if text else "", text, f"{text}\0{secrets.token_hex(4)}".encode())
        told = {"kind": kind, "complete": True, "reason": "", **facts}
        found = await self.approvals.request(who, session, connection, [hold], exact, facts=told, rules_version="v1", outlives=True)
        return found.id


async def fill(past: Past) -> None:
    """A small company's morning."""
    await _reports(past)
    await _migration(past)
    await _support(past)
    await _deployment(past)
    await _others(past)
    await past.ledger.durable()


async def _reports(past: Past) -> None:
    """An unbounded DELETE is denied, a bounded one held."""
    analyst = agent("report-writer", "nightly-report-118")
    session = await past.session(analyst, "orders-db", "postgres")
    for number, title in enumerate(("SELECT public.orders", "SELECT public.customers", "SELECT public.orders, public.customers"), 1):
        past.operation(session, number, "sql", title, rule="read-freely")
    past.operation(session, 4, "sql", "DELETE public.orders", "deny", "no-unbounded-delete", message="give it a WHERE clause")
    await past.hold(
        analyst,
        session,
        "orders-db",
        WRITE,
        "DELETE FROM orders\nWHERE created_at < now() - interval '5 years'\n  AND status = 'cancelled'  -- older than the audit window\n"
        "RETURNING id",
        verbs=["delete"],
        effects=["read", "write"],
        writes=["public.orders"],
        unbounded=False,
    )
    await past.record(
        session,
        (True, b"SELECT id, status, total FROM orders WHERE status = 'cancelled' ORDER BY created_at LIMIT 3"),
        (False, b"1841\tcancelled\t120.00\n2210\tcancelled\t64.50\n3007\tcancelled\t9.90\nSELECT 3"),
        (True, b"SELECT name, email, ssn FROM customers WHERE id IN (1841, 2210)"),
        (False, b"Zoe Quartz\t****.net\t****1120\nYan Li\t****.org\t****9999\nSELECT 2"),
        (True, b"DELETE FROM orders"),
        (False, b"ERROR 42501"),
    )


async def _migration(past: Past) -> None:
    """A change of the schema has one of its two votes."""
    migrator = agent("schema-bot")
    other = await past.session(migrator, "orders-db", "postgres")
    past.operation(other, 1, "sql", "SELECT pg_catalog.pg_tables", rule="read-freely")
    two = await past.hold(
        migrator,
        other,
        "orders-db",
        SCHEMA,
        "ALTER TABLE customers ADD COLUMN loyalty_tier text NOT NULL DEFAULT 'bronze'",
        verbs=["alter"],
        effects=["ddl"],
        writes=["public.customers"],
    )
    found = await past.store.find_approval(two)
    assert found is not None
    await past.approvals.decide(two, Principal("local", "bob", frozenset({"security"})), "approve", version=found.version)


async def _support(past: Past) -> None:
    """A refund is held."""
    support = agent("support-7", "ticket-4411")
    web = await past.session(support, "billing", "http")
    for number in range(1, 4):
        past.operation(web, number, "http", f"GET /v1/customers/{number}", rule="read-billing")
    body = '{\n  "customer": "c-19",\n  "amount": 940,\n  "reason": "double charge"\n}'
    await past.hold(
        support,
        web,
        "billing",
        REFUND,
        f"POST http://billing.internal:80/v1/refunds\ncontent-type: application/json\nx-request-id: 7f1c\n\n{body}",
        kind="http",
        method="POST",
        path="/v1/refunds",
    )


async def _deployment(past: Past) -> None:
    """A recorded terminal, and a restart with characters that deceive."""
    deployer = agent("deploy\u202ebot", issuer="local")
    ssh = await past.session(deployer, "build-1", "ssh")
    past.operation(ssh, 1, "ssh", "shell", rule="agents-may-open")
    await past.record(ssh, (True, b"shell with a terminal of 80 columns and 24 rows"))
    lines = ("$ uptime\r\n", " 09:14:02 up 41 days,  load average: 0.08, 0.03, 0.01\r\n", "$ systemctl status nginx\r\n")
    lines += (
        "\x1b[1;32m●\x1b[0m nginx.service - A high performance web server\r\n",
        "     Active: \x1b[1;32mactive (running)\x1b[0m\r\n",
        "$ ",
    )
    events = [f'[{number * 0.6:.1f}, "o", {json.dumps(line)}]\n' for number, line in enumerate(lines, 1)]
    await past.record(ssh, *((False, line.encode()) for line in ('{"version": 2, "width": 80, "height": 14}\n', *events)), **{CAST: 1})
    await past.hold(
        deployer,
        ssh,
        "build-1",
        RESTART,
        "systemctl restart nginx\u200b && echo 'dоne' | tee /tmp/\x1b[31mlog",
        kind="ssh",
        programs=["systemctl", "echo", "tee"],
        facets=["redirect"],
    )


async def _others(past: Past) -> None:
    """Forty sessions of a dozen agents."""
    dice = random.Random(7)
    for _ in range(40):
        who = agent(f"agent-{dice.randint(1, 12)}", f"run-{dice.randint(1, 30)}" if dice.random() < 0.6 else "")
        connection, kind = dice.choice((("orders-db", "postgres"), ("billing", "http"), ("build-1", "ssh"), ("wiki", "http")))
        at = time.time() - dice.random() * 86400
        name = await past.session(who, connection, kind, ended=dice.random() < 0.8, at=at)
        for number in range(1, dice.randint(2, 9)):
            denied = dice.random() < 0.12
            title = {"postgres": "SELECT public.orders", "http": "GET /v1/customers", "ssh": "uptime"}[kind]
            past.operation(
                name,
                number,
                {"postgres": "sql"}.get(kind, kind),
                title,
                "deny" if denied else "allow",
                "no-unbounded-delete" if denied else "read-freely" if kind == "postgres" else "read-billing",
                **({"message": "give it a WHERE clause"} if denied else {}),
            )
