"""The decision table for SQL: `hopgate explain --sql` and the live gateway, asked with psql, must say the same.

What is not allowed must not arrive: neither in the server's own log nor in a checksum of its tables.
"""

from __future__ import annotations

import json
import re
import signal
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hopgate.cli.app import run
from playground.demo.database import CONNECTION, DatabaseStage, relay_missing
from playground.postgres import Postgres
from tests.peers.live import until

CASES = Path(__file__).parent.parent / "cases"
ROWS: list[dict[str, Any]] = YAML(typ="safe").load((CASES / "sql.yaml").read_text())["cases"]
RULES = (CASES / "sql-rules.yaml").read_text()
WHO = {"agent": ("agent-7", "agents"), "eve": ("eve", "visitors")}
CONFIG = """\
version: 1
state: ./var
rules: [rules/packs/, ./rules.yaml]
identity: {issuers: [{name: local, local: true}]}
connections:
  - {name: orders-db, kind: postgres, target: "127.0.0.1:5432", database: orders,
     credential: {username: app, password: "${secret:orders-db}"}}
listen: {http: "127.0.0.1:18080"}
approvals: {reviewers: [dba]}
"""
live_only = pytest.mark.skipif(bool(relay_missing()), reason=relay_missing() or "-")


@pytest.fixture(scope="module")
def config(tmp_path_factory: pytest.TempPathFactory) -> Path:
    path = tmp_path_factory.mktemp("sql") / "hopgate.yaml"
    path.write_text(CONFIG)
    path.with_name("rules.yaml").write_text(RULES)
    return path


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_explain(config: Path, row: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    subject, group = WHO[row.get("who", "agent")]
    words = ["explain", "--config", str(config), "--connection", CONNECTION, "--as", subject, "--group", group, "--json"]
    assert run([*words, *(f"--param={value}" for value in row.get("params", ())), "--sql", row["sql"]]) == 0
    told = json.loads(capsys.readouterr().out)
    assert (told["effect"], told["decided"]) == (row["effect"], "session" if row.get("session") else "sql")
    if "rules" in row:
        assert told["rules"] == row["rules"]


# --- live


@dataclass(frozen=True, slots=True)
class Outcome:
    """What psql got for one row, and what that did to the server."""

    status: int
    output: str
    told: str  # on stderr
    marker: str
    changed: bool
    event: dict[str, Any]

    @property
    def sqlstate(self) -> str:
        found = re.search(r"(?:ERROR|FATAL): +([0-9A-Z]{5}):", self.told)
        return found[1] if found else ""


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory, postgres: Postgres) -> Iterator[DatabaseStage]:
    stage = DatabaseStage(tmp_path_factory.mktemp("live"), RULES, postgres)
    try:
        stage.open()
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="module")
def outcomes(live: DatabaseStage, postgres: Postgres) -> dict[str, Outcome]:
    """Every row, asked one after the other. The ledger's decisions are in the same order."""
    tokens = {name: live.token(*who) for name, who in WHO.items()}
    asked, before = [], postgres.checksum()
    for number, row in enumerate(ROWS):
        marker = f"/* row {number} */"
        done = _ask(live, row, f"{row['sql']} {marker}", tokens[row.get("who", "agent")])
        after = postgres.checksum()
        asked.append((done.returncode, done.stdout, done.stderr, marker, after != before))
        before = after
    live.stop_gateway()
    wanted = [event for event in live.ledger_events() if event["event"] in ("decided", "held")]
    events = [event for event in wanted if event["kind"] == "sql" or event["effect"] != "allow"]
    assert len(events) == len(ROWS), [(event["event"], event["effect"], event.get("title")) for event in events]
    # the server's log is complete up to a statement that came later
    postgres.query("SELECT 'all rows were asked'")
    assert until(lambda: postgres.mentions("all rows were asked"))
    return {row["name"]: Outcome(*answer, event) for row, answer, event in zip(ROWS, asked, events, strict=True)}


def _ask(live: DatabaseStage, row: dict[str, Any], sql: str, token: str) -> subprocess.CompletedProcess[str]:
    params = tuple(row.get("params", ()))
    if row["effect"] != "hold":
        return live.psql(token, sql, params)
    with live.psql_started(token, sql, params) as process:
        assert until(lambda: "NOTICE" in live.told(process)), live.told(process)
        process.send_signal(signal.SIGINT)  # psql then sends a cancel request
        process.wait(20)
        return subprocess.CompletedProcess(process.args, process.returncode, "", live.told(process))


@live_only
@pytest.mark.peer
@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_live(outcomes: dict[str, Outcome], postgres: Postgres, row: dict[str, Any]) -> None:
    outcome = outcomes[row["name"]]
    assert (outcome.event["effect"], outcome.event["kind"]) == (row["effect"], "session" if row.get("session") else "sql")
    if "rules" in row:
        assert outcome.event["rules"] == row["rules"]
    if "params" in row:  # what is bound later is parsed first, and never bound when that is denied
        arrived = [line for line in postgres.mentions(outcome.marker) if "parse <unnamed>" not in line]
    else:
        arrived = postgres.mentions(outcome.marker)
    assert bool(arrived) is (row["effect"] == "allow"), arrived
    if row["effect"] == "allow":
        assert outcome.sqlstate == row.get("fails", ""), outcome.told
        assert all(text in outcome.output for text in row.get("shows", ()))
        assert not any(text in outcome.output + outcome.told for text in row.get("hides", ()))
        return
    assert not outcome.changed
    assert outcome.output == ""
    assert outcome.status != 0
    assert outcome.sqlstate == ("57014" if row["effect"] == "hold" else "" if row.get("session") else "42501"), outcome.told
    if row["effect"] == "hold":
        assert "waiting for a reviewer" in outcome.told
    assert all(rule in outcome.told for rule in row.get("rules", ()))


@live_only
@pytest.mark.peer
def test_what_was_allowed_changed_the_server(outcomes: dict[str, Outcome]) -> None:
    changed = {row["name"] for row in ROWS if outcomes[row["name"]].changed}
    assert changed == {"a change of one row", "a new row", "a change with bound values"}


@live_only
@pytest.mark.peer
def test_the_recordings_are_whole_and_hold_no_secret(outcomes: dict[str, Outcome], live: DatabaseStage, postgres: Postgres) -> None:
    assert json.loads(live.hopgate("verify", "--json"))["verdict"] == "whole"
    for path in live.gateway.rglob("*"):
        if path.is_file():
            data = path.read_bytes()
            assert postgres.app_password.encode() not in data, path
            assert b"ada@customers.example" not in data, path
