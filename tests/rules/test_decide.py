"""The decision function: what beats what, lists, unknowns, holds that permit no more than rules do, parts, limits."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.decide import decide
from rules.http import HttpFacts, request_operation, response_operation
from rules.model import UNKNOWN, Connection, Limits, Operation, Principal
from rules.ruleset import RuleSet
from tests.rules.given import AGENT, BILLING, JSON, Given, judged, of, request, rules_of, sql

ALLOW = "{on: http, effect: allow}"
STRICTNESS = {"deny": 0, "hold": 1, "allow": 2}


def test_no_rules_deny_everything() -> None:
    decision = judged(request(), rules_of())
    assert (decision.effect, decision.rules, decision.message) == ("deny", (), "no rule allows this")
    assert judged(of("session", kind="http"), rules_of()).effect == "deny"
    assert decide(sql(), AGENT, BILLING, RuleSet([])).effect == "deny"


@pytest.mark.parametrize(
    ("effects", "expected"),
    [
        (["allow"], "allow"),
        (["hold"], "hold"),
        (["deny"], "deny"),
        (["allow", "hold"], "hold"),
        (["hold", "deny"], "deny"),
        (["allow", "deny"], "deny"),
        (["allow", "hold", "deny"], "deny"),
    ],
)
def test_deny_beats_hold_beats_allow(effects: list[str], expected: str) -> None:
    for order in (effects, effects[::-1]):
        rules = rules_of(*(f"{{id: {effect}, on: http, effect: {effect}}}" for effect in order))
        decision = judged(request(), rules)
        assert (decision.effect, decision.rules) == (expected, (expected,))


def test_masks_of_all_matching_rules_add_up() -> None:
    rules = rules_of(
        ALLOW,
        '{id: a, on: http, effect: mask, mask: {jsonpath: ["$..a"]}}',
        '{id: b, on: http, match: {path: "/x"}, effect: mask, mask: {detect: [jwt]}}',
        '{id: c, on: http, match: {path: "/y"}, effect: mask, mask: {detect: [jwt]}}',
    )
    assert [mask.rule for mask in judged(request(path="/x"), rules).masks] == ["a", "b"]


def test_equal_outcomes_are_the_same_object() -> None:
    """`rules.masking` caches its plans by the masks of a decision."""
    rules = rules_of(ALLOW, '{id: a, on: http, effect: mask, mask: {jsonpath: ["$..a"]}}')
    assert judged(request(path="/x/1"), rules) is judged(request(path="/x/2"), rules)


# --- who and where


@pytest.mark.parametrize(
    ("rule", "principal", "connection", "applies"),
    [
        ("who: {groups: [agents]}", AGENT, BILLING, True),
        ("who: {groups: [ops, agents]}", AGENT, BILLING, True),
        ("who: {groups: [ops]}", AGENT, BILLING, False),
        ("who: {groups: ['age*']}", AGENT, BILLING, True),
        ("who: {issuers: [corp]}", AGENT, BILLING, True),
        ("who: {issuers: [ci]}", AGENT, BILLING, False),
        ("who: {subjects: ['agent-*']}", AGENT, BILLING, True),
        ("who: {subjects: ['svc-*']}", AGENT, BILLING, False),
        ("who: {groups: [agents], subjects: ['svc-*']}", AGENT, BILLING, False),
        ("who: {claims: {team: payments}}", AGENT, BILLING, False),
        ("who: {claims: {team: payments}}", replace(AGENT, claims={"team": "payments"}), BILLING, True),
        ("who: {claims: {team: [a, b]}}", replace(AGENT, claims={"team": ["x", "b"]}), BILLING, True),
        ("who: {claims: {team: [a, b]}}", replace(AGENT, claims={"team": []}), BILLING, False),
        ("who: {claims: {level: 3}}", replace(AGENT, claims={"level": 3}), BILLING, True),
        ("who: {claims: {level: 3}}", replace(AGENT, claims={"level": "3"}), BILLING, False),
        ("who: {claims: {admin: true}}", replace(AGENT, claims={"admin": True}), BILLING, True),
        ("who: {claims: {admin: true}}", replace(AGENT, claims={"admin": 1}), BILLING, False),
        ("who: {claims: {realm.role: x}}", replace(AGENT, claims={"realm": {"role": "x"}}), BILLING, True),
        ("who: {claims: {a.b: x}}", replace(AGENT, claims={"a.b": "x", "a": {"b": "y"}}), BILLING, True),
        ("where: {connections: [billing]}", AGENT, BILLING, True),
        ("where: {connections: ['orders-*']}", AGENT, BILLING, False),
        ("where: {labels: {env: prod}}", AGENT, BILLING, True),
        ("where: {labels: {env: [dev, prod]}}", AGENT, BILLING, True),
        ("where: {labels: {env: dev}}", AGENT, BILLING, False),
        ("where: {labels: {team: '*'}}", AGENT, BILLING, False),
        ("where: {connections: [billing], labels: {env: dev}}", AGENT, BILLING, False),
    ],
)
def test_who_and_where(rule: str, principal: Principal, connection: Connection, applies: bool) -> None:
    decision = judged(request(), rules_of(f"{{on: http, {rule}, effect: allow}}"), principal, connection)
    assert decision.effect == ("allow" if applies else "deny")


def test_a_claim_that_cannot_be_compared_denies_and_permits_nothing() -> None:
    principal = replace(AGENT, claims={"team": {"name": "payments"}})
    deny = rules_of("{id: d, on: http, who: {claims: {team: payments}}, effect: deny}", ALLOW)
    assert judged(request(), deny, principal).unknown == ("d",)
    assert judged(request(), deny, principal).effect == "deny"
    assert judged(request(), rules_of("{on: http, who: {claims: {team: payments}}, effect: allow}"), principal).effect == "deny"


def test_equal_principals_with_other_claims_are_not_confused() -> None:
    """Principal compares without its claims, so caches must not."""
    rules = rules_of("{on: http, who: {claims: {team: payments}}, effect: allow}")
    with_team, without = replace(AGENT, claims={"team": "payments"}), replace(AGENT, claims={})
    assert with_team == without
    assert judged(request(), rules, with_team).effect == "allow"
    assert judged(request(), rules, without).effect == "deny"


def test_rules_of_another_kind_say_nothing() -> None:
    assert judged(request(), rules_of("{on: sql, effect: allow}", "{on: session, effect: allow}")).effect == "deny"
    assert judged(of("session"), rules_of(ALLOW)).effect == "deny"


# --- lists


@pytest.mark.parametrize(
    ("effect", "members", "plain", "negated"),
    [
        # whether a rule of that effect applies with match: {verbs: [select]}, and with match: {not: {verbs: [select]}}
        ("allow", ["select"], True, False),
        ("allow", ["select", "delete"], False, False),
        ("allow", ["delete"], False, True),
        ("allow", [], False, True),
        ("deny", ["select"], True, False),
        ("deny", ["select", "delete"], True, True),
        ("deny", ["delete"], False, True),
        ("deny", [], False, False),
        ("hold", ["select"], True, False),
        ("hold", ["select", "delete"], True, True),
        ("hold", ["delete"], False, True),
        ("hold", [], False, False),
        ("mask", ["select"], True, False),
        ("mask", ["select", "delete"], True, True),
        ("mask", ["delete"], False, True),
        ("mask", [], False, False),
    ],
)
def test_quantifiers(effect: str, members: list[str], plain: bool, negated: bool) -> None:
    for match, applies in (("verbs: [select]", plain), ("not: {verbs: [select]}", negated)):
        extra = ", mask: {detect: [jwt]}" if effect == "mask" else ""
        rules = rules_of(f"{{id: it, on: sql, match: {{{match}}}, effect: {effect}{extra}}}", "{id: rest, on: sql, effect: allow}")
        if effect == "allow":
            rules = rules_of(f"{{id: it, on: sql, match: {{{match}}}, effect: allow}}")
        decision = judged(sql(verbs=members), rules)
        seen = bool(decision.masks) if effect == "mask" else "it" in decision.rules
        assert seen is applies, (effect, match, members)


def test_not_negates_its_whole_block() -> None:
    rules = rules_of('{on: http, match: {not: {method: GET, path: "/a"}}, effect: allow}')
    assert judged(request("GET", "/a"), rules).effect == "deny"
    assert judged(request("GET", "/b"), rules).effect == "allow"
    assert judged(request("POST", "/a"), rules).effect == "allow"


def test_not_beside_match_is_the_same() -> None:
    rules = rules_of('{on: http, match: {method: GET}, not: {path: "/a"}, effect: allow}')
    assert [judged(request("GET", path), rules).effect for path in ("/a", "/b")] == ["deny", "allow"]


def test_a_header_that_is_not_there_is_false_also_inside_not() -> None:
    rules = rules_of("{id: d, on: http, match: {not: {headers: {X-Safe: 'yes'}}}, effect: deny}", ALLOW)
    assert judged(request("GET", "/"), rules).effect == "deny"
    assert judged(request("GET", "/", ("x-safe", "yes")), rules).effect == "allow"
    assert judged(request("GET", "/", ("x-safe", "yes"), ("X-Safe", "no")), rules).effect == "deny"


def test_every_value_of_a_repeated_header_or_parameter_counts() -> None:
    allow = rules_of("{on: http, match: {query: {role: user}}, effect: allow}")
    assert judged(request(path="/?role=user"), allow).effect == "allow"
    assert judged(request(path="/?role=user&role=admin"), allow).effect == "deny"
    deny = rules_of("{id: d, on: http, match: {query: {role: admin}}, effect: deny}", ALLOW)
    assert judged(request(path="/?role=user&role=admin"), deny).effect == "deny"
    assert judged(request(path="/?role=%61dmin"), deny).effect == "deny"
    assert judged(request(path="/?r%6fle=admin"), deny).effect == "deny"
    assert judged(request(path="/?x=1;role=admin"), deny).effect == "deny"  # some servers split there


# --- unknown


@pytest.mark.parametrize("broken", [UNKNOWN, RuntimeError("boom"), RecursionError(), MemoryError(), {"a": "mapping"}, 7])
@pytest.mark.parametrize("match", ["database: prod", "not: {database: prod}"])
def test_an_unknown_fact_never_permits(broken: Any, match: str) -> None:
    operation = sql(database=broken)
    assert judged(operation, rules_of(f"{{on: sql, match: {{{match}}}, effect: allow}}")).effect == "deny"
    for effect in ("deny", "hold"):
        rules = rules_of(f"{{id: it, on: sql, match: {{{match}}}, effect: {effect}}}", "{on: sql, effect: allow}")
        decision = judged(operation, rules)
        assert (decision.effect, decision.rules, decision.unknown) == ("deny", ("it",), ("it",))
    masked = judged(
        operation, rules_of(f"{{id: it, on: sql, match: {{{match}}}, effect: mask, mask: {{detect: [jwt]}}}}", "{on: sql, effect: allow}")
    )
    assert (masked.effect, len(masked.masks)) == ("allow", 1)


def test_false_beats_unknown() -> None:
    rules = rules_of("{on: sql, match: {database: prod, dialect: mysql}, effect: deny}", "{on: sql, effect: allow}")
    assert judged(sql(database=UNKNOWN, dialect="postgres"), rules).effect == "allow"
    assert judged(sql(database=UNKNOWN, dialect="mysql"), rules).effect == "deny"


def test_when_is_last_and_only_where_nothing_is_false() -> None:
    rules = rules_of("{id: d, on: sql, match: {dialect: mysql}, when: 'database == 1', effect: deny}", "{on: sql, effect: allow}")
    assert judged(sql(dialect="postgres"), rules).effect == "allow"
    assert judged(sql(dialect="mysql"), rules).unknown == ("d",)


def test_a_false_when_beats_an_unknown_condition() -> None:
    rules = rules_of("{id: d, on: sql, match: {database: prod}, when: \"dialect == 'mysql'\", effect: deny}", "{on: sql, effect: allow}")
    assert judged(sql(database=UNKNOWN, dialect="postgres"), rules).effect == "allow"
    assert judged(sql(database=UNKNOWN, dialect="mysql"), rules).effect == "deny"


@pytest.mark.parametrize("when", ["1", "'yes'", "dialect", "1 / 0 == 1", "principal.claims.absent == 'x'", "connection.labels.nope == ''"])
def test_when_that_is_no_boolean_is_unknown(when: str) -> None:
    operation = sql(dialect="postgres")
    assert judged(operation, rules_of(f'{{on: sql, when: "{when}", effect: allow}}')).effect == "deny"
    deny = rules_of(f'{{id: d, on: sql, when: "{when}", effect: deny}}', "{on: sql, effect: allow}")
    assert judged(operation, deny).unknown == ("d",)


def test_facts_that_raise_for_path_and_method_deny() -> None:
    operation = of("http", path=RuntimeError(), method=RuntimeError())
    rules = rules_of('{on: http, match: {path: "/a"}, effect: allow}', "{on: http, match: {method: GET}, effect: allow}")
    assert judged(operation, rules).effect == "deny"


# --- complete


def test_incomplete_needs_a_rule_that_says_so() -> None:
    rules = rules_of("{id: plain, on: sql, match: {verbs: [select]}, effect: allow}")
    decision = judged(sql(complete=False, reason="too deep", verbs=["select"]), rules)
    assert decision.effect == "deny"
    assert "too deep" in decision.message
    rules = rules_of("{id: says, on: sql, match: {verbs: [select], complete: false}, effect: allow}")
    assert judged(sql(complete=False, verbs=["select"]), rules).effect == "allow"
    assert judged(sql(verbs=["select"]), rules).effect == "deny"


def test_a_rule_for_the_incomplete_says_nothing_of_the_complete() -> None:
    rules = rules_of(
        '{on: http, match: {path: "/a/**", complete: false}, effect: allow}', "{on: http, match: {complete: false}, effect: deny}"
    )
    assert judged(request("GET", "/a"), rules).rules == ()
    assert judged(request("GET", "/a", ("X-HTTP-Method", "PUT")), rules).rules == ("r1",)


def test_a_hold_that_does_not_say_so_denies_the_incomplete() -> None:
    rules = rules_of("{id: h, on: sql, match: {verbs: [drop]}, effect: hold}", "{id: a, on: sql, match: {complete: false}, effect: allow}")
    assert judged(sql(complete=False, verbs=["drop"]), rules).rules == ("h",)
    assert judged(sql(complete=False, verbs=["drop"]), rules).effect == "deny"
    assert judged(sql(complete=False, verbs=["select"]), rules).effect == "allow"
    held = rules_of("{id: h, on: sql, match: {complete: false}, effect: hold}")
    assert judged(sql(complete=False), held).effect == "hold"


def test_deny_and_mask_see_what_was_found_of_the_incomplete() -> None:
    rules = rules_of(
        "{id: d, on: sql, match: {verbs: [drop]}, effect: deny}",
        "{id: m, on: sql, match: {verbs: [select]}, effect: mask, mask: {detect: [jwt]}}",
        "{id: a, on: sql, match: {complete: false}, effect: allow}",
    )
    assert judged(sql(complete=False, verbs=["drop"]), rules).rules == ("d",)
    assert [mask.rule for mask in judged(sql(complete=False, verbs=["select"]), rules).masks] == ["m"]


def test_reason_is_a_fact() -> None:
    rules = rules_of("{on: sql, match: {complete: false, reason: 'bulk *'}, effect: allow}")
    assert judged(sql(complete=False, reason="bulk load"), rules).effect == "allow"
    assert judged(sql(complete=False, reason="too deep"), rules).effect == "deny"


# --- a hold permits no more than rules do

HOLD_DDL = "{id: h, on: sql, match: {effects: [ddl]}, effect: hold}"


@pytest.mark.parametrize(
    ("rules", "effects", "expected"),
    [
        ([HOLD_DDL], ["ddl"], "hold"),
        ([HOLD_DDL], ["ddl", "network"], "deny"),
        ([HOLD_DDL, "{id: a, on: sql, match: {effects: [network]}, effect: allow}"], ["ddl", "network"], "hold"),
        ([HOLD_DDL, "{id: a, on: sql, match: {effects: [network]}, effect: hold}"], ["ddl", "network"], "hold"),
        # the other rule must apply in everything else
        ([HOLD_DDL, "{id: a, on: sql, match: {effects: [network], dialect: mysql}, effect: allow}"], ["ddl", "network"], "deny"),
        ([HOLD_DDL, "{id: a, on: sql, where: {connections: [x]}, match: {effects: [network]}, effect: allow}"], ["ddl", "network"], "deny"),
        ([HOLD_DDL, "{id: a, on: sql, match: {effects: [network]}, when: 'false', effect: allow}"], ["ddl", "network"], "deny"),
        # a rule that does not name the list matches any member
        ([HOLD_DDL, "{id: a, on: sql, match: {dialect: postgres}, effect: allow}"], ["ddl", "network"], "hold"),
        # a rule for incomplete operations does not stand in for a complete one
        ([HOLD_DDL, "{id: a, on: sql, match: {complete: false}, effect: allow}"], ["ddl", "network"], "deny"),
        ([HOLD_DDL, "{id: d, on: sql, match: {effects: [network]}, effect: deny}"], ["ddl", "network"], "deny"),
    ],
)
def test_hold_permits_no_more(rules: list[str], effects: list[str], expected: str) -> None:
    decision = judged(sql(effects=effects, dialect="postgres"), rules_of(*rules))
    assert decision.effect == expected
    assert bool(decision.holds) is (expected == "hold")


def test_a_rule_of_whom_it_is_unknown_covers_nothing() -> None:
    rules = rules_of(HOLD_DDL, "{id: a, on: sql, who: {claims: {team: x}}, match: {effects: [network]}, effect: allow}")
    operation = sql(effects=["ddl", "network"])
    assert judged(operation, rules, replace(AGENT, claims={"team": "x"})).effect == "hold"
    assert judged(operation, rules, replace(AGENT, claims={"team": {"name": "x"}})).effect == "deny"


def test_every_list_that_the_hold_names_is_covered() -> None:
    rules = rules_of("{id: h, on: sql, match: {effects: [ddl], writes: [a]}, effect: hold}")
    assert judged(sql(effects=["ddl"], writes=["a"]), rules).effect == "hold"
    assert judged(sql(effects=["ddl"], writes=["a", "b"]), rules).effect == "deny"
    # a list that the hold does not name is not asked about
    assert judged(sql(effects=["ddl"], writes=["a"], reads=["b"]), rules).effect == "hold"


def test_a_second_value_of_a_held_header_is_covered_too() -> None:
    rules = rules_of("{id: h, on: http, match: {headers: {X-Env: prod}}, effect: hold}")
    assert judged(request("GET", "/", ("X-Env", "prod")), rules).effect == "hold"
    assert judged(request("GET", "/", ("X-Env", "prod"), ("X-Env", "root")), rules).effect == "deny"


def test_several_holds_all_ask() -> None:
    rules = rules_of(
        "{id: a, on: http, effect: hold, hold: {reviewers: [x], quorum: 2, timeout: 5m}}",
        "{id: b, on: http, match: {method: POST}, effect: hold, hold: {reviewers: [y], scopes: [fingerprint-15m]}}",
    )
    holds = judged(request("POST"), rules).holds
    assert [(hold.rule, hold.reviewers, hold.quorum, hold.timeout) for hold in holds] == [("a", ("x",), 2, 300.0), ("b", ("y",), 1, None)]
    assert [hold.scopes for hold in holds] == [("once",), ("once", "fingerprint-15m")]


# --- parts


def parts(*operations: Operation, complete: bool = True) -> Operation:
    return Operation("sql", Given(), complete=complete, reason="" if complete else "cut", parts=operations)


def test_the_strictest_part_counts_and_all_masks_do() -> None:
    rules = rules_of(
        "{id: a, on: sql, match: {verbs: [select]}, effect: allow}",
        "{id: h, on: sql, match: {verbs: [create]}, effect: hold}",
        "{id: d, on: sql, match: {verbs: [drop]}, effect: deny, message: no}",
        "{id: m, on: sql, match: {verbs: [create]}, effect: mask, mask: {detect: [jwt]}}",
        "{id: n, on: sql, match: {verbs: [select]}, effect: mask, mask: {detect: [jwt]}}",
    )
    select, create, drop, other = (sql(verbs=[verb]) for verb in ("select", "create", "drop", "copy_in"))
    assert judged(parts(select, select), rules).effect == "allow"
    held = judged(parts(select, create), rules)
    assert (held.effect, held.rules, [hold.rule for hold in held.holds], [mask.rule for mask in held.masks]) == (
        "hold",
        ("h",),
        ["h"],
        ["m", "n"],
    )
    assert judged(parts(select, create, drop), rules).message == "no"
    assert judged(parts(select, other), rules).effect == "deny"


def test_parts_are_no_more_complete_than_the_whole() -> None:
    rules = rules_of("{on: sql, match: {verbs: [select]}, effect: allow}")
    assert judged(parts(sql(verbs=["select"])), rules).effect == "allow"
    assert judged(parts(sql(verbs=["select"]), complete=False), rules).effect == "deny"
    assert judged(parts(parts(sql(verbs=["select"])), complete=False), rules).effect == "deny"
    assert judged(parts(sql(verbs=["select"]), sql(complete=False, verbs=["select"])), rules).effect == "deny"


def test_a_flood_of_parts_is_denied() -> None:
    assert judged(parts(*[sql(verbs=["select"])] * 10_001), rules_of("{on: sql, effect: allow}")).effect == "deny"


# --- response phase


def test_response_rules_are_decided_with_the_response_only() -> None:
    rules = rules_of(
        ALLOW,
        "{id: d, on: http, match: {status: {gte: 500}}, effect: deny, message: broken}",
        "{id: m, on: http, match: {response_headers: {Content-Type: 'text/*'}}, effect: mask, mask: {detect: [jwt]}}",
        "{id: n, on: http, effect: mask, mask: {detect: [email]}}",
    )
    facts = HttpFacts("GET", "http", "api", 80, "/", [])
    before = judged(request_operation(facts), rules)
    assert (before.effect, [mask.rule for mask in before.masks]) == ("allow", ["n"])
    good = judged(response_operation(facts, 200, [("content-type", "text/plain")], 5), rules)
    assert (good.effect, [mask.rule for mask in good.masks]) == ("allow", ["m", "n"])
    assert judged(response_operation(facts, 503, [], 5), rules).message == "broken"
    assert rules.response_rules("http")
    assert not rules.response_rules("sql")


def test_a_response_without_response_rules_is_allowed_even_where_the_request_was_not() -> None:
    """It was executed already: what may not be sent was refused before."""
    facts = HttpFacts("GET", "http", "api", 80, "/", [])
    assert judged(response_operation(facts, 200, [], None), rules_of()).effect == "allow"


def test_an_unknown_response_fact_denies() -> None:
    rules = rules_of(ALLOW, "{id: d, on: http, match: {response_bytes: {gt: 1MB}}, effect: deny}")
    facts = HttpFacts("GET", "http", "api", 80, "/", [])
    assert judged(response_operation(facts, 200, [], 2_000_000), rules).effect == "deny"
    assert judged(response_operation(facts, 200, [], None), rules).effect == "deny"
    assert judged(response_operation(facts, 200, [], 5), rules).effect == "allow"


def test_a_when_that_reads_the_response_makes_a_response_rule() -> None:
    rules = rules_of(ALLOW, "{id: d, on: http, when: 'status == 302', effect: deny}")
    facts = HttpFacts("GET", "http", "api", 80, "/", [])
    assert judged(request_operation(facts), rules).effect == "allow"
    assert judged(response_operation(facts, 302, [], 0), rules).effect == "deny"
    assert judged(response_operation(facts, 200, [], 0), rules).effect == "allow"


# --- session


def session(**facts: Any) -> Operation:
    return of("session", **{"kind": "http", "connection": "billing", "weekday": "monday", "hour": 9, "peer": "10.1.2.3", **facts})


@pytest.mark.parametrize(
    ("match", "facts", "expected"),
    [
        ("{weekday: [monday, 'tues*'], hour: {gte: 7, lt: 20}}", {}, "allow"),
        ("{weekday: sunday}", {}, "deny"),
        ("{hour: {gte: 7, lt: 20}}", {"hour": 20}, "deny"),
        ("{hour: [9, 10]}", {}, "allow"),
        ("{peer: 10.0.0.0/8}", {}, "allow"),
        ("{peer: [192.168.0.0/16, 10.1.2.3]}", {}, "allow"),
        ("{peer: 10.0.0.0/8}", {"peer": "11.0.0.1"}, "deny"),
        ("{peer: 10.0.0.0/8}", {"peer": "::ffff:10.0.0.1"}, "allow"),
        ("{peer: 10.0.0.0/8}", {"peer": "fe80::1%eth0"}, "deny"),
        ("{peer: 10.0.0.0/8}", {"peer": "not an address"}, "deny"),
        ("{kind: [http, ssh], connection: 'bill*'}", {}, "allow"),
        ("{kind: ssh}", {}, "deny"),
    ],
)
def test_session_facts(match: str, facts: dict[str, Any], expected: str) -> None:
    assert judged(session(**facts), rules_of(f"{{on: session, match: {match}, effect: allow}}")).effect == expected


def test_the_tightest_limits_of_all_matching_rules_hold() -> None:
    rules = rules_of(
        "{on: session, effect: allow, limits: {rows: 100, bytes: 50MB}}",
        "{on: session, effect: allow, limits: {rows: 500, operations_per_minute: 60}}",
        "{on: session, match: {kind: ssh}, effect: allow, limits: {rows: 1}}",
        "{on: session, effect: allow}",
    )
    assert judged(session(), rules).limits == Limits(rows=100, bytes=50_000_000, operations_per_minute=60)


# --- properties

_CONDITIONS = [
    "",
    "match: {verbs: [select]}, ",
    "match: {verbs: [select, drop]}, ",
    "match: {effects: [read]}, ",
    "match: {effects: [read, ddl], verbs: [drop, select]}, ",
    "match: {not: {verbs: [drop]}}, ",
    "match: {not: {effects: [read, ddl]}}, ",
    "match: {not: {effects: [read], verbs: [select]}}, ",
    "match: {database: prod}, ",
    "match: {not: {database: prod}}, ",
    "match: {complete: false}, ",
    "match: {columns: ['*.ssn']}, ",
    "match: {not: {columns: [email]}}, ",
    "when: 'size(verbs) > 1', ",
    "when: \"database == 'prod'\", ",
]
_RULE = st.builds(lambda condition, effect: (condition, effect), st.sampled_from(_CONDITIONS), st.sampled_from(["allow", "deny", "hold"]))
_MEMBERS = {
    "verbs": ["select", "drop", "create"],
    "effects": ["read", "ddl", "network"],
    "columns": ["email", "t.ssn", "public.t.*", "t.name"],
}
_OPERATION = st.builds(
    lambda verbs, effects, columns, database, complete: (
        {"verbs": verbs, "effects": effects, "columns": columns, "database": database},
        complete,
    ),
    *(st.lists(st.sampled_from(members), min_size=1, max_size=3, unique=True) for members in _MEMBERS.values()),
    st.sampled_from(["prod", "dev", UNKNOWN]),
    st.booleans(),
)


def effect_of(rules: list[tuple[str, str]], facts: dict[str, Any], complete: bool, when: bool = True) -> str:
    lines = [f"{{id: r{index}, on: sql, {condition}effect: {effect}}}" for index, (condition, effect) in enumerate(rules)]
    return judged(sql(complete=complete, **facts), rules_of(*lines)).effect


@settings(max_examples=60, deadline=None)
@given(st.lists(_RULE, max_size=5), _OPERATION, st.randoms(use_true_random=False))
def test_order_never_matters(rules: list[tuple[str, str]], operation: tuple[dict[str, Any], bool], random: Any) -> None:
    named = [f"{{id: r{index}, on: sql, {condition}effect: {effect}}}" for index, (condition, effect) in enumerate(rules)]
    shuffled = list(named)
    random.shuffle(shuffled)
    facts, complete = operation
    first, second = (judged(sql(complete=complete, **facts), rules_of(*order)) for order in (named, shuffled))
    assert replace(first, version="") == replace(second, version="")
    reordered = {name: random.sample(value, len(value)) if isinstance(value, list) else value for name, value in facts.items()}
    assert judged(sql(complete=complete, **reordered), rules_of(*named)).effect == first.effect


@settings(max_examples=60, deadline=None)
@given(st.lists(_RULE, max_size=4), st.sampled_from(_CONDITIONS), _OPERATION)
def test_adding_a_deny_never_widens(rules: list[tuple[str, str]], condition: str, operation: tuple[dict[str, Any], bool]) -> None:
    before, after = effect_of(rules, *operation), effect_of([*rules, (condition, "deny")], *operation)
    assert STRICTNESS[after] <= STRICTNESS[before]


@settings(max_examples=60, deadline=None)
@given(st.lists(_RULE, max_size=4), st.sampled_from(_CONDITIONS), _OPERATION)
def test_adding_a_hold_never_permits(rules: list[tuple[str, str]], condition: str, operation: tuple[dict[str, Any], bool]) -> None:
    before, after = effect_of(rules, *operation), effect_of([*rules, (condition, "hold")], *operation)
    assert after != "allow" or before == "allow"


@settings(max_examples=80, deadline=None)
@given(
    st.lists(_RULE.filter(lambda rule: "when" not in rule[0]), max_size=5),
    _OPERATION,
    st.sampled_from(sorted(_MEMBERS)),
    st.integers(0, 3),
)
def test_adding_a_member_never_turns_deny_or_hold_into_allow(
    rules: list[tuple[str, str]], operation: tuple[dict[str, Any], bool], name: str, index: int
) -> None:
    facts, complete = operation
    more = {**facts, name: [*facts[name], _MEMBERS[name][index % len(_MEMBERS[name])]]}
    before, after = effect_of(rules, facts, complete), effect_of(rules, more, complete)
    assert after != "allow" or before == "allow"


@settings(max_examples=60, deadline=None)
@given(st.lists(_RULE, max_size=4), _OPERATION, st.sampled_from(["verbs", "effects", "columns", "database"]))
def test_making_a_fact_unknown_never_permits(rules: list[tuple[str, str]], operation: tuple[dict[str, Any], bool], name: str) -> None:
    facts, complete = operation
    assert effect_of(rules, {**facts, name: UNKNOWN}, complete) != "allow" or effect_of(rules, facts, complete) == "allow"


def test_a_body_number_is_compared_exactly() -> None:
    rules = rules_of('{on: http, match: {body: {"$.amount": {lte: 100}}}, effect: allow}')
    for amount, expected in [
        ("100", "allow"),
        ("100.0", "allow"),
        ("1e2", "allow"),
        ("100.00000000000000000001", "deny"),
        ("1e999", "deny"),
    ]:
        assert judged(request("POST", "/", JSON, body=b'{"amount": %s}' % amount.encode()), rules).effect == expected, amount
