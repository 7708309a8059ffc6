"""What ships: packs deny, hold or mask, never allow; examples load; the vocabulary is one."""

from __future__ import annotations

from importlib.resources import files

import pytest

from rules.load import load_rules
from rules.masking import NAMES
from rules.sql.postgres import operation_of
from rules.sql.session import SessionState
from rules.vocabulary import DETECTORS
from tests.rules.given import judged, request

PACKS = {entry.name: entry.read_text() for entry in files("rules").joinpath("packs").iterdir() if entry.name.endswith(".yaml")}
EXAMPLES = {entry.name: entry.read_text() for entry in files("rules").joinpath("examples").iterdir() if entry.name.endswith(".yaml")}
ALLOW = (
    "allow.yaml",
    "version: 1\nrules: [{id: all, on: http, effect: allow}, {id: odd, on: http, match: {complete: false}, effect: allow}]\n",
)


def test_the_shipped_packs() -> None:
    assert {"http-defaults.yaml", "secrets.yaml", "pii.yaml", "sql-destructive.yaml", "sql-server.yaml", "ssh-destructive.yaml"} <= set(
        PACKS
    )
    assert {"agents-http.yaml", "agents-sql.yaml", "agents-ssh.yaml"} <= set(EXAMPLES)


@pytest.mark.parametrize("name", sorted(PACKS))
def test_packs_only_deny_hold_or_mask(name: str) -> None:
    rules = load_rules([(name, PACKS[name])], issuers=("corp", "ci"))
    assert len(rules) > 0
    assert {rule.effect for rule in rules.rules} <= {"deny", "hold", "mask"}


def test_all_packs_and_examples_load_together() -> None:
    load_rules([*PACKS.items(), *EXAMPLES.items()], issuers=("corp",))


def test_detectors_are_those_that_masking_has() -> None:
    assert set(DETECTORS) == set(NAMES)


@pytest.mark.parametrize(
    ("operation", "rule"),
    [
        (request("TRACE"), "http-no-trace"),
        (request("GET", "/.git/config"), "http-no-repository-files"),
        (request("GET", "/a/.env"), "http-no-repository-files"),
        (request("GET", "/a/.env.local"), "http-no-repository-files"),
        (request("GET", "/actuator/env"), "http-no-debug-endpoints"),
        (request("GET", "/app/Actuator/heapdump"), "http-no-debug-endpoints"),
        (request("GET", "/debug/pprof/heap"), "http-no-debug-endpoints"),
        (request("GET", "/x", host="169.254.169.254"), "http-no-cloud-metadata"),
        (request("GET", "/x", host="Metadata.Google.Internal."), "http-no-cloud-metadata"),
        (request("POST", "/x", ("x-http-method-override", "DELETE")), "http-no-method-override"),
        (request("GET", "/x", ("X-Original-Url", "/admin")), "http-no-path-override"),
        (request("GET", "/a/..%2f.git/config"), "http-no-repository-files"),
        (request("GET", "/v1/customers"), None),
        (request("GET", "/actuator/health"), None),
        (request("GET", "/environment"), None),
        (request("GET", "/debugging/pprof"), None),
        (request("DELETE", "/v1/customers/7?x=1"), None),
    ],
)
def test_http_defaults(operation: object, rule: str | None) -> None:
    rules = load_rules([("http-defaults.yaml", PACKS["http-defaults.yaml"]), ALLOW])
    decision = judged(operation, rules)  # type: ignore[arg-type]
    assert decision.effect == ("allow" if rule is None else "deny")
    if rule is not None:
        assert rule in decision.rules


@pytest.mark.parametrize(
    ("text", "rule"),
    [
        ("DROP TABLE t", "sql-no-drop"),
        ("SELECT 1; DROP SCHEMA s CASCADE", "sql-no-drop"),
        ("DROP OWNED BY app", "sql-no-drop"),
        ("DROP ROLE app", "sql-no-drop"),
        ("TRUNCATE t", "sql-no-truncate"),
        ("DELETE FROM t", "sql-no-unbounded-change"),
        ("DELETE FROM t WHERE true", "sql-no-unbounded-change"),
        ("WITH gone AS (DELETE FROM t RETURNING 1) SELECT 1", "sql-no-unbounded-change"),
        ("EXPLAIN ANALYZE UPDATE t SET a = 1", "sql-no-unbounded-change"),
        ("PREPARE p AS UPDATE t SET a = 1", "sql-no-unbounded-change"),
        ("MERGE INTO t USING s ON true WHEN MATCHED THEN DELETE", "sql-no-unbounded-change"),
        ("SELECT pg_read_file('x')", "sql-no-server-files"),
        ("COPY t TO '/tmp/x'", "sql-no-server-files"),
        ("COPY t FROM PROGRAM 'x'", "sql-no-programs"),
        ("CREATE EXTENSION dblink", "sql-no-programs"),
        ("LOAD 'x'", "sql-no-programs"),
        ("SELECT dblink('a', 'b')", "sql-no-network"),
        ("ALTER SYSTEM SET a = 1", "sql-no-server-control"),
        ("SELECT pg_terminate_backend(1)", "sql-no-server-control"),
        ("SELECT 'DROP TABLE t'", None),
        ("DELETE FROM t WHERE id = 1", None),
        ("UPDATE t SET a = 1 WHERE id = 1", None),
        ("ALTER TABLE t ADD a int", None),
        ("EXPLAIN DELETE FROM t WHERE id = 1", None),
        ("COPY t TO STDOUT", None),
        ("BEGIN", None),
        ("SELEKT", None),  # its facts are not known; that `complete: false` is allowed here is the test's own rule
    ],
)
def test_sql_packs(text: str, rule: str | None) -> None:
    allow = "version: 1\nrules: [{id: all, on: sql, effect: allow}, {id: odd, on: sql, match: {complete: false}, effect: allow}]\n"
    packs = [(name, PACKS[name]) for name in ("sql-destructive.yaml", "sql-server.yaml")]
    decision = judged(operation_of(text.encode(), SessionState()), load_rules([*packs, ("allow.yaml", allow)]))
    assert decision.effect == ("allow" if rule is None else "deny")
    if rule is not None:
        assert rule in decision.rules
