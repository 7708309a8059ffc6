"""The decision table: `hopgate explain` and the live gateway must say the same, and the target must see only what was allowed."""

from __future__ import annotations

import json
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest
from ruamel.yaml import YAML

from hopgate.cli.app import run
from tests.peers.live import Live, missing, until

CASES = Path(__file__).parent.parent / "cases"
ROWS: list[dict[str, Any]] = YAML(typ="safe").load((CASES / "http.yaml").read_text())["cases"]
WHO = {
    "agent": ("agent-7", "agents", {}),
    "payments": ("agent-8", "agents", {"team": "payments"}),
    "eve": ("eve", "visitors", {}),
}
pytestmark = [pytest.mark.peer, pytest.mark.skipif(missing("curl"), reason="curl is not installed")]


@dataclass(frozen=True, slots=True)
class Outcome:
    """What the live gateway did with one row."""

    status: int
    problem: dict[str, Any]
    arrived: int
    event: dict[str, Any]


@pytest.fixture(scope="module")
def live(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Live]:
    stage = Live(tmp_path_factory.mktemp("cases"), (CASES / "http-rules.yaml").read_text())
    try:
        stage.open()
        yield stage
    finally:
        stage.close()


@pytest.fixture(scope="module")
def outcomes(live: Live) -> dict[str, Outcome]:
    """Every row, asked one after the other with curl. The ledger's decisions are in the same order."""
    tokens = {
        name: live.token(subject, group, *(f"--claim={key}={value}" for key, value in claims.items()))
        for name, (subject, group, claims) in WHO.items()
    }
    answers = [_ask(live, row, tokens[row.get("who", "agent")]) for row in ROWS]
    live.stop_gateway()
    decided = [event for event in live.ledger() if event["event"] == "decided" and (event["kind"] == "http" or event["effect"] != "allow")]
    assert len(decided) == len(ROWS)
    return {row["name"]: Outcome(*answer, event) for row, answer, event in zip(ROWS, answers, decided, strict=True)}


def _ask(live: Live, row: dict[str, Any], token: str) -> tuple[int, dict[str, Any], int]:
    method, _, path = row["request"].partition(" ")
    before = len(live.accesses())
    words = ["--head"] if method == "HEAD" else ["-X", method]
    for header in (*_headers(row), "Prefer: respond-async"):
        words += ["-H", header]
    done = live.curl(token, *words, f"http://billing.internal{path}", body=row.get("body"))
    assert done.returncode == 0, done.stderr
    text, _, status = done.stdout.rpartition("\n")
    try:
        problem = json.loads(text)
    except ValueError:
        problem = {}
    if row["effect"] == "allow":
        until(lambda: len(live.accesses()) > before)
    return int(status), problem if isinstance(problem, dict) else {}, len(live.accesses()) - before


def _headers(row: dict[str, Any]) -> list[str]:
    kind = [f"Content-Type: {row.get('content_type', 'application/json')}"] if "body" in row else []
    return [*row.get("headers", ()), *kind]


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_live(outcomes: dict[str, Outcome], row: dict[str, Any]) -> None:
    outcome = outcomes[row["name"]]
    kind = outcome.problem.get("type", "").rpartition(":")[2]
    assert outcome.event["effect"] == row["effect"]
    if "rules" in row:
        assert outcome.event["rules"] == row["rules"]
    if row["effect"] == "allow":
        assert (outcome.arrived, kind) == (1, "")
        return
    assert outcome.arrived == 0
    assert outcome.status == 403
    assert kind == ("pending" if row["effect"] == "hold" else "session-refused" if row.get("session") else "denied")


@pytest.mark.parametrize("row", ROWS, ids=lambda row: row["name"])
def test_explain_agrees(outcomes: dict[str, Outcome], live: Live, row: dict[str, Any], capsys: pytest.CaptureFixture[str]) -> None:
    subject, group, claims = WHO[row.get("who", "agent")]
    words = ["explain", "--config", str(live.config), "--connection", "billing", "--as", subject, "--group", group, "--json"]
    words += [f"--claim={name}={value}" for name, value in claims.items()]
    words += [f"--header={header}" for header in _headers(row)]
    words += [f"--body={row['body']}"] if "body" in row else []
    assert run([*words, "--http", row["request"]]) == 0
    told, event = json.loads(capsys.readouterr().out), outcomes[row["name"]].event
    assert (told["effect"], told["rules"], told["decided"]) == (event["effect"], event["rules"], event["kind"])
    assert told["effect"] == row["effect"]


def test_the_target_was_changed_only_by_what_was_allowed(outcomes: dict[str, Outcome], live: Live) -> None:
    writes = [(line["method"], line["status"]) for line in live.accesses() if line["method"] not in ("GET", "HEAD")]
    allowed = [row for row in ROWS if row["effect"] == "allow" and not row["request"].startswith(("GET", "HEAD"))]
    assert len(writes) == len(allowed)
    assert not any(method == "DELETE" for method, _ in writes)
    assert all(line["key"] == "valid" and not line["proxy_authorization"] for line in live.accesses())
