"""A live gateway with HTTP, PostgreSQL and the console, and people who look at it."""

from __future__ import annotations

import json
from pathlib import Path

from playground.demo.database import DatabaseStage
from playground.demo.stage import free_ports
from playground.postgres import Postgres
from tests.peers.live import Live

RULES = """\
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, effect: allow}
  - {id: read, on: http, match: {method: GET}, effect: allow}
  - {id: refund, on: http, match: {method: POST, path: /v1/refunds}, effect: hold, hold: {reviewers: [finance]}}
  - {id: read-sql, on: sql, match: {effects: [read]}, effect: allow}
  - {id: delete-orders, on: sql, match: {verbs: [delete], effects: [read, write]}, effect: hold, hold: {reviewers: [dba]}}
  - {id: hide-customers, on: sql, effect: mask, mask: {columns: [customers.email, customers.phone, customers.ssn], strategy: partial}}
"""


class ConsoleStage(DatabaseStage, Live):
    """`hopgate up` with everything that the console shows."""

    def __init__(self, directory: Path, database: Postgres) -> None:
        super().__init__(directory, RULES, database)
        (self.console,) = free_ports(1)
        self.listeners += f', console: "127.0.0.1:{self.console}"'

    @property
    def url(self) -> str:
        return f"http://127.0.0.1:{self.console}"

    def link(self, subject: str, *groups: str) -> str:
        """A single-use sign-in link."""
        options = [part for group in groups for part in ("--group", group)]
        found: str = json.loads(self.hopgate("console", "login", "--json", "--subject", subject, *options))["url"]
        return found
