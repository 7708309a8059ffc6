"""Every example rule of the rule language's reference, one row an effect."""

from __future__ import annotations

from typing import Any

import pytest

from rules import ssh
from rules.explain import explain
from rules.load import load_rules
from rules.model import UNKNOWN, Connection, Hold, Limits, Mask, Operation, Principal
from tests.rules.given import JSON, Given, judged, request

TEXT = """
version: 1
rules:
  - id: agents-may-open-orders          # who may start a session at all
    on: session
    who: {groups: [agents], issuers: [corp]}      # also subjects: ["svc-*"], claims: {team: payments}
    where: {connections: ["orders-*"], labels: {env: prod}}
    effect: allow
    limits: {rows: 100000, bytes: 50MB, operations_per_minute: 600}
  - id: read-freely
    on: sql
    match: {effects: [read]}
    effect: allow
  - id: no-unbounded-delete
    on: sql
    match: {verbs: [delete, update], unbounded: true}
    effect: deny
    message: give it a WHERE clause
  - id: schema-needs-a-dba
    on: sql
    match: {effects: [ddl, access_control]}
    effect: hold
    hold: {reviewers: [dba], quorum: 1, timeout: 10m, scopes: [once, fingerprint-15m]}
  - id: refunds
    on: http
    match: {method: POST, path: "/v1/refunds/**", body: {"$.amount": {gt: 100}}}
    when: "!has(principal.claims.team) || principal.claims.team != 'payments'"   # optional CEL over the same facts
    effect: hold
    hold: {reviewers: [finance]}
  - id: hide-secrets
    on: [http, sql, ssh]
    effect: mask
    mask: {jsonpath: ["$..password"], columns: ["*.ssn", "customers.email"], detect: [jwt, aws_access_key, private_key],
           strategy: partial, keep: 4}
"""
RULES = load_rules([("design.yaml", TEXT)], issuers=("corp", "ci"))
AGENT = Principal("corp", "a", frozenset({"agents"}))
PAYMENTS = Principal("corp", "p", frozenset({"agents"}), {"team": "payments"})
OTHER_TEAM = Principal("corp", "o", frozenset({"agents"}), {"team": "ops"})
LISTED_TEAM = Principal("corp", "l", frozenset({"agents"}), {"team": ["payments"]})
ORDERS = Connection("orders-db", "postgres", {"env": "prod"})


def sql(**facts: Any) -> Operation:
    return Operation("sql", Given(unbounded=False, **facts) if "unbounded" not in facts else Given(**facts))


def refund(body: bytes, path: str = "/v1/refunds") -> Operation:
    return request("POST", path, JSON, body=body)


SESSION = Operation("session", Given(kind="postgres", connection="orders-db"))


@pytest.mark.parametrize(
    ("operation", "principal", "connection", "effect", "rules"),
    [
        (SESSION, AGENT, ORDERS, "allow", ("agents-may-open-orders",)),
        (SESSION, Principal("ci", "a", frozenset({"agents"})), ORDERS, "deny", ()),
        (SESSION, Principal("corp", "a", frozenset({"people"})), ORDERS, "deny", ()),
        (SESSION, AGENT, Connection("orders-db", "postgres", {"env": "dev"}), "deny", ()),
        (SESSION, AGENT, Connection("orders-db", "postgres"), "deny", ()),
        (SESSION, AGENT, Connection("billing", "postgres", {"env": "prod"}), "deny", ()),
        (sql(verbs=["select"], effects=["read"]), AGENT, ORDERS, "allow", ("read-freely",)),
        (sql(verbs=["select"], effects=["read", "lock"]), AGENT, ORDERS, "deny", ()),
        (sql(verbs=["select"], effects=UNKNOWN), AGENT, ORDERS, "deny", ("schema-needs-a-dba",)),
        (sql(verbs=["delete"], effects=["write"], unbounded=True), AGENT, ORDERS, "deny", ("no-unbounded-delete",)),
        (sql(verbs=["delete"], effects=["write"]), AGENT, ORDERS, "deny", ()),
        (sql(verbs=["delete"], effects=["write"], unbounded=UNKNOWN), AGENT, ORDERS, "deny", ("no-unbounded-delete",)),
        (sql(verbs=["create"], effects=["ddl"]), AGENT, ORDERS, "hold", ("schema-needs-a-dba",)),
        (sql(verbs=["create"], effects=["ddl", "access_control"]), AGENT, ORDERS, "hold", ("schema-needs-a-dba",)),
        (sql(verbs=["create"], effects=["ddl", "read"]), AGENT, ORDERS, "hold", ("schema-needs-a-dba",)),
        (sql(verbs=["create"], effects=["ddl", "network"]), AGENT, ORDERS, "deny", ("schema-needs-a-dba",)),
        (sql(verbs=["create", "update"], effects=["ddl"], unbounded=True), AGENT, ORDERS, "deny", ("no-unbounded-delete",)),
        (refund(b'{"amount": 101}'), AGENT, ORDERS, "hold", ("refunds",)),
        (refund(b'{"amount": 101}', "/v1/refunds/7/x"), AGENT, ORDERS, "hold", ("refunds",)),
        (refund(b'{"amount": 101}'), OTHER_TEAM, ORDERS, "hold", ("refunds",)),
        (refund(b'{"amount": 101}'), PAYMENTS, ORDERS, "deny", ()),
        (refund(b'{"amount": 100}'), AGENT, ORDERS, "deny", ()),
        (refund(b'{"amount": "101"}'), AGENT, ORDERS, "deny", ("refunds",)),
        (refund(b'{"amount": 1, "amount": 101}'), AGENT, ORDERS, "deny", ("refunds",)),
        (refund(b'{"amount": 101}', "/v1/refunds2"), AGENT, ORDERS, "deny", ()),
        (request("GET", "/v1/refunds"), AGENT, ORDERS, "deny", ()),
        (Operation("ssh", Given(action="exec")), AGENT, ORDERS, "deny", ()),
        (ssh.shell_operation(), AGENT, ORDERS, "deny", ()),
        (ssh.sftp_operation(["read"], [b"/srv/x"]), AGENT, ORDERS, "deny", ()),
        (ssh.forward_operation(b"db", 5432), AGENT, ORDERS, "deny", ()),
        (Operation("rdp", Given(action="connect")), AGENT, ORDERS, "deny", ()),
    ],
)
def test_examples(operation: Operation, principal: Principal, connection: Connection, effect: str, rules: tuple[str, ...]) -> None:
    decision = judged(operation, RULES, principal, connection)
    assert (decision.effect, decision.rules) == (effect, rules)
    masked = operation.kind in ("http", "sql", "ssh")
    assert [mask.rule for mask in decision.masks] == (["hide-secrets"] if masked else [])


def test_what_the_examples_carry() -> None:
    assert judged(SESSION, RULES, AGENT, ORDERS).limits == Limits(100_000, 50_000_000, 600)
    held = judged(sql(verbs=["create"], effects=["ddl"]), RULES, AGENT, ORDERS)
    assert held.holds == (Hold("schema-needs-a-dba", ("dba",), 1, 600.0, ("once", "fingerprint-15m")),)
    assert held.masks == (
        Mask(
            "hide-secrets",
            jsonpath=("$..password",),
            columns=("*.ssn", "customers.email"),
            detect=("jwt", "aws_access_key", "private_key"),
            strategy="partial",
            keep=4,
        ),
    )
    operation = sql(verbs=["delete"], unbounded=True)
    assert explain(judged(operation, RULES, AGENT, ORDERS), operation) == "rule `no-unbounded-delete` denies this: give it a WHERE clause"
