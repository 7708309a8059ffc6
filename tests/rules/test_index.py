"""The index leaves out only what is false: deciding with it equals asking every rule."""

from __future__ import annotations

from typing import Any

from hypothesis import given, settings
from hypothesis import strategies as st

from rules import ssh
from rules.decide import _applying, truth_of
from rules.expressions import Scope
from rules.http import HttpFacts, request_operation
from rules.index import Candidates
from rules.model import UNKNOWN, Operation
from tests.rules.given import AGENT, BILLING, judged, request, rules_of, sql
from tests.rules.shell.reading import parts

PATHS = ["/", "/a", "/a/", "/a/b", "/a/b/c", "/b", "/b/a", "/a/x/c", "/a/b/c/d", "/ab", "*", "/a//b", "/a/../b"]
PATTERNS = [
    "/",
    "/a",
    "/a/",
    "/a/**",
    "/a/*",
    "/a/b",
    "/*/b",
    "/*/*/c",
    "/a/**/c",
    "/**",
    "**",
    "/a*",
    "/*/**",
    "/**/c",
    "re:/a.*",
    "/a/*/c/**",
]
_RULE = st.tuples(
    st.lists(st.sampled_from(PATTERNS), max_size=3),
    st.lists(st.sampled_from(["GET", "POST", "P*", "re:GET|PUT"]), max_size=2),
    st.booleans(),
)


def line(rule: tuple[list[str], list[str], bool]) -> str:
    paths, methods, negated = rule
    match = [f"path: [{', '.join(repr(path) for path in paths)}]"] if paths else []
    match += [f"method: [{', '.join(repr(method) for method in methods)}]"] if methods else []
    body = ", ".join(match)
    if not body:
        return "{on: http, effect: deny}"
    return f"{{on: http, match: {{{f'not: {{{body}}}' if negated else body}}}, effect: deny}}"


@settings(max_examples=120, deadline=None)
@given(
    st.lists(_RULE, min_size=1, max_size=8),
    st.lists(st.tuples(st.sampled_from(PATHS), st.sampled_from(["GET", "POST", "PUT", "X", "get"])), min_size=1, max_size=5),
)
def test_the_index_changes_nothing(rules: list[tuple[list[str], list[str], bool]], requests: list[tuple[str, str]]) -> None:
    loaded = rules_of(*(line(rule) for rule in rules))
    for path, method in requests * 2:
        operation = request_operation(HttpFacts(method, "http", "h", 80, path, []))
        scope = Scope(operation, AGENT, BILLING)
        expected = tuple(rule.id for rule in loaded.rules if truth_of(rule, operation, scope) is not False)
        assert judged(operation, loaded).rules == expected


_WORDS = ["select", "insert", "drop"]
_EFFECTS = ["read", "write", "ddl", "re:r.*|ddl", "w*"]
_SQL_RULE = st.tuples(
    st.lists(st.sampled_from(_WORDS), max_size=2),
    st.lists(st.sampled_from(_EFFECTS), max_size=2),
    st.sampled_from([None, True, False]),
    st.sampled_from(["", "customers", "cards"]),
    st.booleans(),
    st.sampled_from(["allow", "deny", "hold"]),
)


def sql_line(rule: tuple[list[str], list[str], bool | None, str, bool, str]) -> str:
    verbs, effects, unbounded, writes, negated, effect = rule
    match = [f"verbs: [{', '.join(verbs)}]"] if verbs else []
    match += [f"effects: [{', '.join(repr(each) for each in effects)}]"] if effects else []
    match += [f"unbounded: {str(unbounded).lower()}"] if unbounded is not None else []
    match += [f"writes: {writes}"] if writes else []
    body = ", ".join(match)
    if not body:
        return f"{{on: sql, effect: {effect}}}"
    return f"{{on: sql, match: {{{f'not: {{{body}}}' if negated else body}}}, effect: {effect}}}"


@settings(max_examples=120, deadline=None)
@given(
    st.lists(_SQL_RULE, min_size=1, max_size=8),
    st.lists(
        st.builds(
            sql,
            complete=st.booleans(),
            verbs=st.lists(st.sampled_from(_WORDS), max_size=2).map(tuple) | st.just(UNKNOWN),
            effects=st.lists(st.sampled_from(["read", "write", "ddl"]), max_size=2).map(tuple) | st.just(ValueError("broken")),
            unbounded=st.sampled_from([True, False, UNKNOWN]),
            writes=st.lists(st.sampled_from(["customers", "cards"]), max_size=2),
        ),
        min_size=1,
        max_size=5,
    ),
)
def test_words_that_are_settled_once_change_nothing(rules: list[Any], operations: list[Operation]) -> None:
    loaded = rules_of(*(sql_line(rule) for rule in rules))
    candidates = loaded.candidates("sql", "request", AGENT, BILLING)
    for operation in operations * 2:
        scope = Scope(operation, AGENT, BILLING)
        selection = candidates.select_words(operation.complete, operation.facts.get, "sql")
        known, unknown = _applying(selection, operation, AGENT, BILLING)
        truths = {rule.id: truth_of(rule, operation, scope) for rule in loaded.rules}
        assert sorted(rule.id for rule in (*selection.settled, *known)) == sorted(name for name, truth in truths.items() if truth is True)
        assert sorted(rule.id for rule in unknown) == sorted(name for name, truth in truths.items() if truth is UNKNOWN)


def test_what_the_index_proves_is_not_tested_again() -> None:
    rules = rules_of('{on: http, match: {method: GET, path: "/a/**"}, effect: allow}', '{on: http, match: {path: "/a/b*"}, effect: allow}')
    candidates = Candidates(rules.rules, AGENT, BILLING)
    selection = candidates.select(True, "/a/b", "GET")
    assert [rule.id for rule in selection.settled] == ["r0"]
    assert [rule.id for rule, _ in selection.open] == ["r1"]
    assert candidates.select(True, "/a/b", "GET") is selection
    assert candidates.select(True, "/c", "GET").settled == ()
    assert len(candidates.select(True, None, "GET").open) == 2


def test_caches_do_not_grow_with_what_callers_make_up() -> None:
    rules = rules_of('{on: http, match: {method: GET, path: "/a/**"}, effect: allow}', "{on: http, match: {headers: {x: a}}, effect: deny}")
    for index in range(300):
        judged(request(f"M{index}", f"/a/{index}"), rules)
    candidates = rules.candidates("http", "request", AGENT, BILLING)
    assert len(candidates._selections) == 0
    for index in range(300):
        judged(request("GET", f"/a/{index}"), rules)
    assert len(candidates._selections) == 1


_COMMANDS = ["ls", "rm -rf x", "sudo rm x", "cat $x | rm y", "$x", "ls > f", "scp -t /srv/x", "(", "/usr/bin/ls", "x" * 100]
_SSH_RULES = [
    "{on: ssh, match: {programs: [ls, cat]}, effect: allow}",
    "{on: ssh, match: {action: exec, argv: ['* x']}, effect: hold}",
    "{on: ssh, match: {programs: [rm], argv: ['rm -rf *']}, effect: deny}",
    "{on: ssh, match: {facets: [sudo, redirect]}, effect: deny}",
    "{on: ssh, match: {action: sftp, op: [read, write], paths: ['/srv/**']}, effect: allow}",
    "{on: ssh, match: {op: write, paths: ['/srv/**']}, effect: allow}",
    "{on: ssh, match: {action: exec, not: {programs: [rm], facets: [expansion]}}, effect: allow}",
    "{on: ssh, match: {complete: false}, effect: deny}",
]


@given(st.lists(st.sampled_from(_SSH_RULES), max_size=6), st.lists(st.sampled_from(_COMMANDS), min_size=1, max_size=5))
def test_commands_that_are_settled_once_are_decided_alike(rules: list[str], commands: list[str]) -> None:
    loaded = rules_of(*rules)
    candidates = loaded.candidates("ssh", "request", AGENT, BILLING)
    operations = [part for command in commands for part in parts(command)]
    operations += [ssh.sftp_operation(["write"], [b"/srv/x"]), ssh.sftp_operation(["remove"], [b"/srv/x"]), ssh.shell_operation()]
    for operation in operations * 2:
        scope = Scope(operation, AGENT, BILLING)
        selection = candidates.select_words(operation.complete, operation.facts.get, "ssh")
        known, unknown = _applying(selection, operation, AGENT, BILLING)
        truths = {rule.id: truth_of(rule, operation, scope) for rule in loaded.rules}
        assert sorted(rule.id for rule in (*selection.settled, *known)) == sorted(name for name, truth in truths.items() if truth is True)
        assert sorted(rule.id for rule in unknown) == sorted(name for name, truth in truths.items() if truth is UNKNOWN)
