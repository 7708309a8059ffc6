"""`hopgate explain --sql`."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest

from tests.hopgate.cli.conftest import Hopgate

CONFIG = """\
version: 1
state: ./var
rules: [my.yaml]
identity: {issuers: [{name: local, local: true}]}
connections:
  - {name: orders-db, kind: postgres, target: "127.0.0.1:9", database: orders, credential: {username: app, password: "${secret:orders-db}"}}
  - {name: old-db, kind: mysql, target: "127.0.0.1:9", database: old, credential: {username: app, password: "${secret:old-db}"}}
listen: {http: "127.0.0.1:18080"}
approvals: {reviewers: [dba]}
"""
RULES = """\
version: 1
rules:
  - {id: open, on: session, who: {groups: [agents]}, effect: allow}
  - {id: read, on: sql, match: {effects: [read], reads: [public.orders]}, effect: allow}
  - {id: change, on: sql, match: {effects: [write], verbs: [delete], writes: [public.orders]}, effect: hold, message: ask a dba}
  - {id: secret, on: sql, match: {params: [hidden]}, effect: deny}
  - {id: hide, on: sql, effect: mask, mask: {columns: [orders.note], strategy: partial, keep: 4}}
"""
WHO = ("--connection", "orders-db", "--as", "agent-7", "--group", "agents")


@pytest.fixture
def sql_config(config: Path) -> Path:
    config.write_text(CONFIG)
    (config.parent / "my.yaml").write_text(RULES)
    return config


@pytest.fixture
def explain(hopgate: Hopgate, sql_config: Path) -> Any:
    def call(sql: str, *more: str, stdin: str = "") -> dict[str, Any]:
        done = hopgate("explain", *WHO, "--sql", sql, *more, "--json", stdin=stdin)
        assert (done.status, done.err) == (0, "")
        return dict(json.loads(done.out))

    return call


def test_facts_masks_and_holds_are_shown(explain: Any, hopgate: Hopgate) -> None:
    found = explain("SELECT id FROM orders")
    assert (found["effect"], found["rules"], found["decided"]) == ("allow", ["read"], "sql")
    facts = found["facts"]
    assert (facts["verbs"], facts["reads"], facts["database"]) == (["select"], ["public.orders"], "orders")
    assert [mask["rule"] for mask in found["masks"]] == ["hide"]
    held = explain("DELETE FROM orders WHERE id = 1")
    assert (held["effect"], held["holds"][0]["rule"], held["message"]) == ("hold", "change", "rule `change` holds this: ask a dba")
    text = hopgate("explain", *WHO, "--sql", "SELECT id FROM orders").out
    assert text.startswith("allow: ")
    assert "reads: ('public.orders',)" in text or "reads: ['public.orders']" in text


@pytest.mark.parametrize(
    ("params", "effect"),
    [
        ((), "deny"),
        (("--param=hidden",), "deny"),
        (("--param=shown",), "allow"),
        (("--param=shown", "--param=hidden"), "deny"),
        (("--param=5",), "deny"),
    ],
    ids=["not given", "refused", "harmless", "one of two refused", "may be a number"],
)
def test_bound_values(explain: Any, params: tuple[str, ...], effect: str) -> None:
    text = "SELECT id FROM orders WHERE note = $1" + (" OR note = $2" if len(params) > 1 else "")
    assert explain(text, *params)["effect"] == effect


def test_what_is_not_understood(explain: Any) -> None:
    found = explain("SELEKT 'a secret'")
    assert (found["effect"], found["complete"]) == ("deny", False)
    assert "grammar" in found["reason"]
    assert "secret" not in json.dumps(found)


@pytest.mark.parametrize(
    ("sql", "effect"),
    [
        ("SELECT id FROM orders\n", "allow"),
        ("SELECT id FROM orders WHERE id IN (" + ", ".join(map(str, range(20_000))) + ")", "allow"),  # read in a process of its own
        ("SELECT '" + "x" * (1 << 20) + "'", "deny"),
        ("SELECT " + "(" * 300 + "1" + ")" * 300, "deny"),
        ("SELECT 1" + "+1" * 70_000, "deny"),
    ],
    ids=["small", "large", "too large", "too deep", "too long a chain"],
)
def test_reads_from_stdin_whatever_the_size(explain: Any, sql: str, effect: str) -> None:
    assert explain("-", stdin=sql)["effect"] == effect


def test_bytes_that_are_no_text(explain: Any) -> None:
    assert explain("SELECT '\udcff'")["effect"] == "deny"


def test_other_dialects_are_refused(hopgate: Hopgate, sql_config: Path) -> None:
    done = hopgate("explain", "--connection", "old-db", "--as", "x", "--sql", "SELECT 1")
    assert (done.status, done.err) == (2, "hopgate: this hopgate does not read the SQL of mysql yet\n")


def test_nothing_is_written(explain: Any, sql_config: Path) -> None:
    before = sorted(sql_config.parent.rglob("*"))
    explain("SELECT 1")
    assert sorted(sql_config.parent.rglob("*")) == before
