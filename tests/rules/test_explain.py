"""Sentences and traces for people."""

from __future__ import annotations

from typing import Any

import orjson
import pytest

from rules.explain import RuleTrace, explain, shown_facts, why
from rules.model import UNKNOWN, Decision, Operation
from tests.rules.given import AGENT, BILLING, JSON, judged, request, rules_of, sql


@pytest.mark.parametrize(
    ("decision", "sentence"),
    [
        (Decision("deny", ("a",), "no"), "rule `a` denies this: no"),
        (Decision("deny", ("a", "b"), "no"), "rules `a`, `b` deny this: no"),
        (Decision("deny", ("a",)), "rule `a` denies this"),
        (Decision("hold", ("a",), "ask"), "rule `a` holds this: ask"),
        (Decision("allow", ("a", "b")), "rules `a`, `b` allow this"),
        (Decision("deny", (), "no rule allows this"), "no rule allows this"),
        (Decision("deny"), "this is denied"),
    ],
)
def test_sentences(decision: Decision, sentence: str) -> None:
    assert explain(decision, request()) == sentence


@pytest.mark.parametrize(
    ("rules", "operation", "sentence"),
    [
        ((), request(), "no rule allows this"),
        (("{on: sql, effect: deny}",), sql(), "rule `r0` denies this: not permitted"),
        (
            ("{on: sql, match: {database: a}, effect: deny}",),
            sql(database=UNKNOWN),
            "rule `r0` denies this: its conditions could not be evaluated for this",
        ),
        (
            ("{on: sql, match: {database: a}, effect: allow}",),
            sql(database=UNKNOWN),
            "no rule allows this: `r0` could not be evaluated for it",
        ),
        (
            ("{on: sql, effect: allow}",),
            sql(complete=False, reason="too deep"),
            "no rule allows this: the gateway did not understand all of it (too deep)",
        ),
        (
            ("{on: sql, effect: hold}",),
            sql(complete=False, reason="too deep"),
            "rule `r0` denies this: the gateway did not understand all of it (too deep)",
        ),
        (
            ("{on: sql, match: {effects: [ddl]}, effect: hold}",),
            sql(effects=["ddl", "network"]),
            "rule `r0` denies this: a reviewer may not permit what no rule allows or holds: effects `network`",
        ),
    ],
)
def test_sentences_of_decisions(rules: tuple[str, ...], operation: Operation, sentence: str) -> None:
    assert explain(judged(operation, rules_of(*rules)), operation) == sentence


@pytest.mark.parametrize(
    ("rule", "truth", "condition"),
    [
        ("{on: http, effect: allow}", "true", ""),
        ("{on: http, who: {groups: [x]}, effect: allow}", "false", "who.groups"),
        ("{on: http, where: {labels: {env: dev}}, effect: allow}", "false", "where.labels.env"),
        ("{on: http, match: {method: POST, path: /b}, effect: allow}", "false", "match.path"),
        ("{on: http, match: {not: {path: /a}}, effect: allow}", "false", "not"),
        ('{on: http, match: {body: {"$.x": 1}}, effect: allow}', "unknown", "match.body.$.x"),
        ('{on: http, match: {body: {"$.x": 1}}, when: "false", effect: allow}', "false", "when"),
        ("{on: http, match: {complete: false}, effect: allow}", "false", "match.complete"),
        ("{on: http, when: '1 / 0 == 1', effect: deny}", "unknown", "when"),
    ],
)
def test_traces(rule: str, truth: Any, condition: str) -> None:
    operation = request("POST", "/a", JSON, body=b"{")
    assert why(operation, AGENT, BILLING, rules_of(rule)) == (
        RuleTrace("r0", rule.split("effect: ")[1].rstrip("}"), truth, condition, "rules.yaml:3"),
    )


def test_traces_of_parts_and_of_the_incomplete() -> None:
    rules = rules_of("{on: sql, match: {verbs: [select]}, effect: allow}")
    whole = Operation("sql", sql().facts, parts=(sql(verbs=["select"]), sql(complete=False, verbs=["select"])))
    assert [(trace.truth, trace.condition) for trace in why(whole, AGENT, BILLING, rules)] == [("true", ""), ("false", "complete")]


def test_facts_are_shown_as_json_without_header_values() -> None:
    shown = shown_facts(request("POST", "/a?b=c", JSON, ("Authorization", "s3cret"), body=b'{"a": 1.5, "a": 2}'))
    assert orjson.loads(orjson.dumps(shown)) == shown
    assert shown["body"] == "unknown"
    assert shown["headers"] == ["authorization", "content-type"]
    assert shown["query"] == {"b": ["c"]}
    assert shown["complete"] is True
    assert "status" not in shown
