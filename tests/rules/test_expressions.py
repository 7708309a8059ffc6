"""`when:` expressions: bounds at loading, bounds at evaluation, three truths."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from rules.expressions import BadExpression, Expression, Scope
from rules.model import UNKNOWN, Connection, Principal
from tests.rules.given import Given, of, request

KNOWN = {"principal", "connection", "dialect", "verbs", "programs", "complete", "path", "body_bytes", "params"}
PRINCIPAL = Principal(
    "corp", "a", frozenset({"x", "y"}), {"team": "t", "n": 3, "many": list(range(101)), "big": 2**70, "deep": {"a": {"b": 1}}}
)


def truth(text: str, **facts: Any) -> object:
    connection = Connection("orders", "postgres", {"env": "prod"})
    return Expression(text, KNOWN).truth(Scope(of("sql", **facts), PRINCIPAL, connection))


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("true", True),
        ("dialect == 'postgres'", True),
        ("dialect.startsWith('my')", False),
        ("'drop' in verbs", True),
        ("verbs.exists(v, v == 'drop')", True),
        ("size(verbs) > 2", False),
        ("principal.claims.team == 't' && principal.subject == 'a' && principal.issuer == 'corp'", True),
        ("'x' in principal.groups", True),
        ("has(principal.claims.absent)", False),
        ("principal.claims.deep.a.b == 1", True),
        ("connection.labels.env == 'prod' && connection.name.matches('^ord') && connection.kind == 'postgres'", True),
        ("complete", True),
        ("principal.claims.absent == 1", UNKNOWN),
        ("principal.claims.many.size() > 1", UNKNOWN),
        ("principal.claims.big > 1", UNKNOWN),
        ("programs.size() == 0", UNKNOWN),
        ("'text'", UNKNOWN),
        ("1", UNKNOWN),
        ("9223372036854775807 + 1 > 0", UNKNOWN),
        ("1 / 0 == 1", UNKNOWN),
        ("1 / 0 == 1 || true", True),
    ],
)
def test_truths(text: str, expected: object) -> None:
    assert truth(text, dialect="postgres", verbs=["select", "drop"]) is expected


@pytest.mark.parametrize(
    "value", [UNKNOWN, RuntimeError(), "x" * 65_537, ["x"] * 101, 2**63, Decimal("1.5"), object(), [[["x"] * 101]], b"bytes"]
)
def test_a_fact_beyond_the_bounds_is_unknown(value: Any) -> None:
    assert truth("size(verbs) >= 0 || verbs == 1", verbs=value) is UNKNOWN
    assert truth("dialect == 'a'", verbs=value, dialect="a") is True


def test_depth_is_bounded() -> None:
    value: Any = "x"
    for _ in range(40):
        value = [value]
    assert truth("size(verbs) == 1", verbs=value) is UNKNOWN


@pytest.mark.parametrize(
    ("text", "reason"),
    [
        ("", "not a CEL expression"),
        ("1 +", "not a CEL expression"),
        ("nope == 1", "unknown name `nope`"),
        ("now()", "unknown function `now`"),
        ("verbs.map(v, v).all(v, true)", "at most one comprehension"),
        ("verbs.all(v, verbs.exists (w, v == w))", "at most one comprehension"),
        ("verbs.all(v, verbs.exists//c\n(w, v == w))", "at most one comprehension"),
        ("'" + "x" * 1024 + "' == ''", "at most 1024 bytes"),
        ("'" + "é" * 520 + "' == ''", "at most 1024 bytes"),
        ("(" * 65 + "true" + ")" * 65, "at most 64 brackets"),
        ("true\x00", "not a CEL expression"),
    ],
)
def test_what_does_not_load(text: str, reason: str) -> None:
    with pytest.raises(BadExpression, match=reason):
        Expression(text, KNOWN)


def test_words_in_strings_are_no_macros() -> None:
    assert truth("dialect == 'all of exists(' && verbs.exists(v, v == 'map')", dialect="all of exists(", verbs=["map"]) is True


def test_a_name_that_is_both_variable_and_unknown_stays_unknown() -> None:
    with pytest.raises(BadExpression, match="unknown name `w`"):
        Expression("verbs.exists(v, v == w)", KNOWN)


def test_the_context_is_built_once_and_only_when_asked() -> None:
    calls = []

    class Counting(Given):
        def get(self, name: str) -> Any:
            calls.append(name)
            return super().get(name)

    operation = of("sql")
    object.__setattr__(operation, "facts", Counting(dialect="a"))
    scope = Scope(operation, PRINCIPAL, Connection("c", "postgres"))
    assert calls == []
    for _ in range(3):
        assert Expression("dialect == 'a'", KNOWN).truth(scope) is True
    assert calls.count("dialect") == 1


def test_a_request_body_is_never_read_for_an_expression() -> None:
    operation = request("POST", "/a", body=b'{"a": 1}')
    assert Expression("path == '/a' && body_bytes == 8", KNOWN).truth(Scope(operation, PRINCIPAL, Connection("c", "http"))) is True
    assert "body" not in operation.facts._values  # type: ignore[attr-defined]
