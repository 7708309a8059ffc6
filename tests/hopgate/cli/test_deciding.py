"""`hopgate explain` and `hopgate check`: offline, no secrets, nothing written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.hopgate.cli.conftest import Hopgate

WHO = ("--connection", "billing", "--as", "agent-7", "--group", "agents")


@pytest.mark.parametrize(
    ("http", "body", "effect", "rules"),
    [
        ("GET /v1/customers", None, "allow", ["read"]),
        ("GET http://billing.internal/v1/customers?x=1", None, "allow", ["read"]),
        ("GET /admin/users", None, "deny", ["no-admin"]),
        ("POST /v1/refunds", '{"amount": 250}', "hold", ["large"]),
        ("POST /v1/refunds", '{"amount": 1}', "deny", []),
        ("DELETE /v1/customers/1", None, "deny", []),
        ("GET /v1/../admin/users", None, "deny", ["no-admin"]),
    ],
)
def test_decides_as_the_gateway_would(hopgate: Hopgate, http: str, body: str | None, effect: str, rules: list[str]) -> None:
    more = () if body is None else ("--body", body, "--header", "Content-Type: application/json")
    done = hopgate("explain", *WHO, "--http", http, *more, "--json")
    found: dict[str, Any] = json.loads(done.out)
    assert (done.status, found["effect"], found["rules"]) == (0, effect, rules)
    assert found["session"]["effect"] == "allow"
    assert {"effect", "rules", "message", "facts", "masks"} <= found.keys()


def test_the_session_comes_first(hopgate: Hopgate) -> None:
    found = json.loads(hopgate("explain", "--connection", "billing", "--as", "eve", "--http", "GET /v1/customers", "--json").out)
    assert (found["effect"], found["decided"]) == ("deny", "session")


def test_masks_and_facts_are_shown(hopgate: Hopgate) -> None:
    found = json.loads(hopgate("explain", *WHO, "--http", "GET /v1/customers?q=a", "--json").out)
    assert [mask["rule"] for mask in found["masks"]] == ["hide"]
    assert (found["facts"]["path"], found["facts"]["host"], found["facts"]["query"]) == ("/v1/customers", "billing.internal", {"q": ["a"]})
    text = hopgate("explain", *WHO, "--http", "GET /v1/customers").out
    assert text.startswith("allow: ")
    assert "rules: read" in text


def test_reads_the_body_from_stdin(hopgate: Hopgate) -> None:
    done = hopgate("explain", *WHO, "--http", "POST /v1/refunds", "--body", "-", "--json", stdin='{"amount": 101}')
    assert json.loads(done.out)["effect"] == "hold"


def test_writes_nothing_and_needs_no_secret(hopgate: Hopgate, config: Path) -> None:
    before = sorted(config.parent.rglob("*"))
    hopgate("explain", *WHO, "--http", "GET /v1/customers")
    hopgate("check")
    assert sorted(config.parent.rglob("*")) == before


@pytest.mark.parametrize(
    ("arguments", "said"),
    [
        (("--connection", "none", "--as", "x"), "there is no connection 'none'; configured: billing"),
        ((*WHO, "--http", "GET /", "--sql", "select 1"), "give one of"),
        ((*WHO, "--sql", "select 1"), "billing is a http connection"),
        ((*WHO, "--http", "GET"), "METHOD PATH"),
        ((*WHO, "--http", "GET /", "--header", "nonsense"), "NAME: VALUE"),
        ((*WHO, "--at", "yesterday"), "--at must be a date and time"),
        ((*WHO, "--claim", "nonsense"), "--claim must be NAME=VALUE"),
    ],
)
def test_misuse(hopgate: Hopgate, arguments: tuple[str, ...], said: str) -> None:
    done = hopgate("explain", *arguments)
    assert done.status == 2
    assert said in done.err


def test_time_and_peer_can_be_given(hopgate: Hopgate, config: Path) -> None:
    (config.parent / "my.yaml").write_text(
        "version: 1\nrules:\n"
        "  - {id: office, on: session, match: {weekday: [monday], hour: {gte: 9, lt: 17}, peer: [10.0.0.1]}, effect: allow}\n"
    )
    for at, peer, effect in (
        ("2030-01-07T10:00", "10.0.0.1", "allow"),
        ("2030-01-07T18:00", "10.0.0.1", "deny"),
        ("2030-01-08T10:00", "10.0.0.1", "deny"),
        ("2030-01-07T10:00", "10.0.0.2", "deny"),
        ("2030-01-07T18:00+09:00", "10.0.0.1", "allow"),  # 09:00 in UTC, the configured zone
    ):
        found = json.loads(hopgate("explain", *WHO, "--at", at, "--peer", peer, "--json").out)
        assert found["effect"] == effect, (at, peer)


def test_check_reports_every_mistake(hopgate: Hopgate, config: Path) -> None:
    summary = json.loads(hopgate("check", "--json").out)
    assert (summary["ok"], summary["connections"], summary["rules"]) == (True, 1, 5)
    assert hopgate("check").out.endswith(f": ok: 1 connection, 5 rules, version {summary['version']}\n")
    (config.parent / "my.yaml").write_text("version: 1\nrules:\n  - {id: a, on: http, efect: deny}\n  - {id: a, on: htp, effect: deny}\n")
    done = hopgate("check")
    assert done.status == 1
    assert len(done.err.splitlines()) >= 3
    assert all(line.startswith(f"hopgate: {config.parent / 'my.yaml'}:") for line in done.err.splitlines())
    assert len(json.loads(hopgate("check", "--json").out)["problems"]) == len(done.err.splitlines())
    config.write_text("version: 1\nidentity: {issuers: []}\nconnections: [{name: x, kindd: http}]\nfrob: 1\n")
    done = hopgate("check")
    assert done.status == 1
    assert any("frob" in line for line in done.err.splitlines())
