"""Loading: every problem at once, each with its place; bounds; nothing half loaded."""

from __future__ import annotations

import contextlib
import re

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.load import RuleErrors, load_rules
from rules.model import Hold, Mask
from tests.rules.given import rules_of

HEAD = "version: 1\nrules:\n"


def problems(text: str, **options: tuple[str, ...]) -> list[str]:
    with pytest.raises(RuleErrors) as caught:
        load_rules([("my.yaml", text)], **options)
    assert str(caught.value).splitlines() == [str(problem) for problem in caught.value.problems]
    return [str(problem) for problem in caught.value.problems]


def only(text: str, **options: tuple[str, ...]) -> str:
    found = problems(text, **options)
    assert len(found) == 1, found
    return found[0]


def test_a_good_file() -> None:
    rules = load_rules(
        [("a.yaml", HEAD + "  - {id: a, on: http, effect: allow}\n"), ("b.yaml", HEAD + "  - {id: b, on: [sql, http], effect: deny}\n")]
    )
    assert [rule.id for rule in rules.rules] == ["a", "b"]
    assert [rule.source for rule in rules.rules] == ["a.yaml:3", "b.yaml:3"]
    assert re.fullmatch("[0-9a-f]{16}", rules.version)


def test_the_version_changes_with_every_byte_and_boundary() -> None:
    texts = [[("a", HEAD + "  []")], [("a", HEAD + "  [] ")], [("b", HEAD + "  []")], [("a", HEAD + "  []"), ("b", HEAD + "  []")]]
    assert len({load_rules(sources).version for sources in texts}) == len(texts)
    assert load_rules(texts[0]).version == load_rules(texts[0]).version


def test_every_problem_at_once_in_order() -> None:
    text = """version: 2
rules:
  - id: one
    on: htp
    effect: allow
  - id: two
    on: http
    efect: deny
    match: {methd: GET, path: "v1/x", body: {"$.a": {gtt: 1}}}
  - id: two
    on: sql
    effect: hold
    match: {verbs: [slect], effects: read, nope: 1}
    when: "verb == 1"
colour: red
"""
    assert problems(text) == [
        "my.yaml:1:10: unknown version, expected 1, got the number 2",
        "my.yaml:4:9: unknown kind `htp`, did you mean `http`?",
        "my.yaml:6:5: a rule needs `effect`",
        "my.yaml:8:5: unknown key `efect` in a rule, did you mean `effect`?",
        "my.yaml:9:13: unknown fact `methd` for `on: http`, did you mean `method`?",
        "my.yaml:9:31: a path pattern starts with `/`, `*` or `re:`, got `v1/x`",
        "my.yaml:9:54: unknown key `gtt` in a comparison, did you mean `gt`?",
        "my.yaml:10:5: a hold needs `reviewers`, here or in `approvals:` of the configuration",
        "my.yaml:10:9: duplicate id `two`, first in my.yaml:6",
        "my.yaml:13:21: `slect` is no verb, did you mean `select`?",
        "my.yaml:13:44: unknown fact `nope` for `on: sql`, expected one of columns, complete, database, dialect, effects, functions, "
        "params, reads, reason, settings, unbounded, verbs, writes",
        "my.yaml:14:11: unknown name `verb` in the expression, expected one of columns, complete, connection, database, dialect, effects, "
        "functions, params, principal, reads, reason, settings, unbounded, verbs, writes",
        "my.yaml:15:1: unknown key `colour` in a rule file, expected one of version, rules",
    ]


def rule(body: str, kind: str = "http", effect: str = "allow") -> str:
    return f"{HEAD}  - id: it\n    on: {kind}\n    effect: {effect}\n    {body}\n"


@pytest.mark.parametrize(
    ("body", "kind", "effect", "expected"),
    [
        # match
        ("match: {port: 1}\n    match: {port: 2}", "http", "allow", "7:5: duplicate key `match`, first on line 6"),
        ("match: {path: /a, path: /b}", "http", "allow", "6:23: duplicate key `path`, first on line 6"),
        ("match: [a]", "http", "allow", "6:12: `match:` is a mapping, got a list"),
        (
            "match: {path: []}",
            "http",
            "allow",
            "6:19: `path` is an empty list, which matches nothing: leave the key out, or name something",
        ),
        ("match: {path: 5}", "http", "allow", "6:19: `path` is text, got the number 5: write it in quotes"),
        ("match: {path: ''}", "http", "allow", "6:19: an empty pattern matches nothing"),
        ("match: {path: /a/../b}", "http", "allow", "6:19: `/a/../b` can never match"),
        ("match: {path: /a//b}", "http", "allow", "6:19: `/a//b` can never match"),
        ("match: {path: /a%20b}", "http", "allow", "6:19: paths are compared decoded"),
        ("match: {path: 're:('}", "http", "allow", "6:19: not an RE2 expression: missing"),
        ("match: {path: 're:(?<=a)b'}", "http", "allow", "6:19: not an RE2 expression"),
        ("match: {path: [/a, [/b]]}", "http", "allow", "6:24: a list inside a list"),
        ("match: {path: {gt: 1}}", "http", "allow", "6:19: `path` takes a pattern or a list of patterns, got a mapping"),
        ("match: {method: get}", "http", "allow", "6:21: `get` is no HTTP method: methods are upper case"),
        ("match: {scheme: htps}", "http", "allow", "6:21: `htps` is no scheme, did you mean `https`?"),
        ("match: {host: 'http://x'}", "http", "allow", "6:19: `http://x` is no host name"),
        ("match: {destination: 'db/x'}", "ssh", "allow", "6:26: `db/x` is no host name: leave out scheme and path"),
        ("match: {destination: db}", "ssh", "deny", "6:26: `db` can never match: write `db:PORT`, or `db:*` for every port"),
        ("match: {host: 'x:80'}", "http", "allow", "6:19: `x:80` is no host name: write the port as `port:`"),
        ("match: {port: http}", "http", "allow", "6:19: expected a number, got `http`"),
        ("match: {port: {}}", "http", "allow", "6:19: an empty comparison"),
        ("match: {port: {gt: a}}", "http", "allow", "6:24: expected a number, got `a`"),
        ("match: {port: true}", "http", "allow", "6:19: `port` is a number"),
        ("match: {port: .nan}", "http", "allow", "6:19: not a number that can be compared"),
        ("match: {websocket: 'yes'}", "http", "allow", "6:24: `websocket` is true or false, got `yes`"),
        ("match: {websocket: [true, false]}", "http", "allow", "6:24: `websocket` is true or false, not both"),
        ("match: {complete: 1}", "http", "allow", "6:23: `complete` is true or false, got the number 1"),
        ("match: {body_bytes: 5MX}", "http", "allow", "6:25: `body_bytes`: expected a size"),
        ("match: {headers: {'a b': x}}", "http", "allow", "6:23: `a b` is no header name"),
        ("match: {headers: x}", "http", "allow", "6:22: `headers` is a mapping, got `x`"),
        ("match: {body: {amount: 1}}", "http", "allow", "6:20: a JSONPath starts with `$`, got `amount`"),
        ("match: {body: {'$.[': 1}}", "http", "allow", "6:20: not a JSONPath"),
        ("match: {status: 200}", "http", "allow", "5:13: a rule that names a response fact may only deny or mask"),
        (
            "match: {not: {status: 200}}",
            "http",
            "hold\n    hold: {reviewers: [a]}",
            "5:13: a rule that names a response fact may only deny or mask",
        ),
        ("match: {not: {not: {}}}", "http", "allow", "6:19: `not:` inside `not:`"),
        ("match: {not: {}}", "http", "allow", "6:18: `not:` is empty: leave the key out"),
        ("match: {}", "http", "allow", "6:12: `match:` is empty: leave the key out, or say something"),
        ("match: {headers: {}}", "http", "allow", "6:22: `headers` is empty"),
        ("who: {}", "http", "allow", "6:10: `who:` is empty"),
        ("who: {claims: {}}", "http", "allow", "6:19: `claims` is empty"),
        ("where: {labels: {}}", "http", "allow", "6:21: `labels` is empty"),
        ("where:", "http", "allow", "6:5: `where:` is a mapping, got null"),
        ("match: {not: {complete: true}}", "http", "allow", "6:19: write `complete` in `match:`"),
        ("match: {path: /a}", "[http, sql]", "allow", "6:13: unknown fact `path` for `on: [http, sql]`"),
        ("match: {action: exec}", "[ssh, rdp]", "allow", "6:13: unknown fact `action`"),
        ("match: {weekday: mon}", "session", "allow", "6:22: `mon` is no weekday, did you mean `monday`?"),
        ("match: {peer: 10.0.0.1/8}", "session", "allow", "6:19: not an address or network"),
        ("match: {facets: [sudoo]}", "ssh", "deny", "6:22: `sudoo` is no facet, did you mean `sudo`?"),
        ("match: {columns: ['a..b']}", "sql", "deny", "6:23: `a..b` has an empty part"),
        # when
        ("when: '1 +'", "http", "allow", "6:11: not a CEL expression"),
        ("when: 5", "http", "allow", "6:11: `when` is text, got the number 5"),
        ("when: 'body == 1'", "http", "allow", "6:11: unknown name `body` in the expression"),
        ("when: 'headers.x == 1'", "http", "allow", "6:11: unknown name `headers`"),
        ("when: 'now() == 1'", "http", "allow", "6:11: unknown function `now`"),
        (
            "when: 'principal.groups.all(g, principal.groups.all(h, g == h))'",
            "http",
            "allow",
            "6:11: an expression has at most one comprehension",
        ),
        (f"when: '{'1 + ' * 400}1 == 1'", "http", "allow", "6:11: an expression has at most 1024 bytes"),
        ("when: 'status == 200'", "http", "allow", "5:13: a rule that names a response fact may only deny or mask"),
        # who, where
        ("who: {group: [a]}", "http", "allow", "6:11: unknown key `group` in `who:`, did you mean `groups`?"),
        ("who: {groups: [1]}", "http", "allow", "6:20: `groups` is text, got the number 1: write it in quotes"),
        ("who: {groups: []}", "http", "allow", "6:19: `groups` is an empty list"),
        ("who: {claims: {a: {b: c}}}", "http", "allow", "6:23: claim `a` takes a value or a list of values, got a mapping"),
        ("who: agents", "http", "allow", "6:10: `who:` is a mapping, got `agents`"),
        ("where: {connection: a}", "http", "allow", "6:13: unknown key `connection` in `where:`, did you mean `connections`?"),
        ("where: {labels: {env: 1}}", "http", "allow", "6:27: label `env` is text, got the number 1: write it in quotes"),
        # hold, mask, limits
        ("hold: {reviewers: [a]}", "http", "allow", "6:5: `hold:` belongs to rules with `effect: hold`, this one has `allow`"),
        ("mask: {detect: [jwt]}", "http", "deny", "6:5: `mask:` belongs to rules with `effect: mask`, this one has `deny`"),
        ("message: hm", "http", "mask", "3:5: `effect: mask` needs `mask:`"),
        ("hold: {reviewers: []}", "http", "hold", "6:23: `reviewers` is an empty list"),
        ("hold: {quorum: 1}", "http", "hold", "6:11: a hold needs `reviewers`"),
        ("hold: {reviewers: [a], quorum: 0}", "http", "hold", "6:36: `quorum` is a whole number from 1 to 20, got the number 0"),
        ("hold: {reviewers: [a], timeout: 10}", "http", "hold", "6:37: `timeout`: expected a duration"),
        ("hold: {reviewers: [a], timeout: 8d}", "http", "hold", "6:37: `timeout` is from 1s to 7d"),
        ("hold: {reviewers: [a], scopes: [forever]}", "http", "hold", "6:37: a scope is `once` or `fingerprint-15m`"),
        ("hold: {reviewers: [a], scopes: [fingerprint-25h]}", "http", "hold", "6:37: a scope is `once` or `fingerprint-15m`"),
        ("mask: {}", "http", "mask", "6:11: `mask:` hides nothing"),
        ("mask: {detect: [jwtt]}", "http", "mask", "6:21: unknown detector `jwtt`, did you mean `jwt`?"),
        ("mask: {jsonpath: [password]}", "http", "mask", "6:23: a JSONPath starts with `$`"),
        ("mask: {columns: [a]}", "http", "mask", "6:12: `columns` is of `on: sql`, which this rule does not name"),
        ("mask: {headers: [a]}", "sql", "mask", "6:12: `headers` is of `on: http`"),
        ("mask: {detect: [jwt], strategy: hide}", "http", "mask", "6:37: unknown strategy `hide`, expected one of"),
        ("mask: {detect: [jwt], keep: 4}", "http", "mask", "6:27: `keep` belongs to `strategy: partial`, this one is `redact`"),
        ("mask: {detect: [jwt], strategy: partial, keep: -1}", "http", "mask", "6:52: `keep` is a whole number from 1 to 64"),
        ("mask: {detect: [jwt], strategy: fixed}", "http", "mask", "6:11: `strategy: fixed` needs `value`"),
        ("mask: {detect: [jwt], predicates: maybe}", "http", "mask", "6:39: unknown predicates `maybe`"),
        ("mask: {detect: [jwt]}", "session", "mask", "4:9: opening a session has no response to mask"),
        ("limits: {rows: 1}", "http", "allow", "6:5: `limits:` belongs to rules with `on: session`"),
        ("limits: {rows: 1}", "session", "deny", "6:5: `limits:` belongs to rules with `on: session`"),
        ("limits: {rows: 1.5}", "session", "allow", "6:20: `rows` is a whole number from 0"),
        ("limits: {bytes: 50 parsecs}", "session", "allow", "6:21: `bytes`: expected a size"),
        ("limits: {row: 1}", "session", "allow", "6:14: unknown key `row` in `limits:`, did you mean `rows`?"),
        ("message: [a]", "http", "deny", "6:14: `message` is text, got a list"),
        ('message: "a\\nb"', "http", "deny", "6:14: a message is one line"),
        ("effect: deny", "http", "allow", "6:5: duplicate key `effect`, first on line 5"),
    ],
)
def test_one_mistake_one_problem(body: str, kind: str, effect: str, expected: str) -> None:
    assert only(rule(body, kind, effect)).startswith(f"my.yaml:{expected}")


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        ("", "my.yaml:1:1: the file is empty"),
        ("# nothing", "my.yaml:1:1: the file is empty"),
        ("a: [", "my.yaml:1:5: not YAML: "),
        ("a: b: c", "my.yaml:1:5: not YAML: "),
        ("\x00", "my.yaml: not YAML: "),
        ("- a", "my.yaml:1:1: a rule file is a mapping, got a list"),
        ("version: 1\n", "my.yaml:1:1: `rules:` is missing"),
        ("rules: []\n", "my.yaml:1:1: `version: 1` is missing"),
        ("version: 1\nrules: {}\n", "my.yaml:2:8: `rules` is a list, got a mapping"),
        ("version: 1\nrules: [5]\n", "my.yaml:2:9: a rule is a mapping, got the number 5"),
        ("version: '1'\nrules: []\n", "my.yaml:1:10: unknown version, expected 1, got `1`"),
        ("version: true\nrules: []\n", "my.yaml:1:10: unknown version"),
        ("version: 1\nrules: []\n---\nversion: 1\n", "my.yaml:3:1: not YAML: "),
        ("version: 1\nrules: []\n<<: {a: 1}\n", "my.yaml:3:1: merge keys"),
        ("version: 1\nrules: !!python/object:os.system []\n", "my.yaml:2:8: tags such as"),
        ("version: 1\nrules: &a [*a]\n", "my.yaml:1:1: nested deeper than"),
        ("version: 1\nrules: " + "[" * 1000, "my.yaml: not YAML: nested too deeply"),
        ("version: 1\nrules: " + "[" * 100 + "]" * 100, "my.yaml:1:1: nested deeper than"),
        (
            "%YAML 1.1\n---\nversion: 1\nrules: [{id: a, on: http, match: {websocket: yes}, effect: deny}]\n",
            "my.yaml:4:46: `websocket` is true or false, got `yes`",
        ),
        ("? [a]\n: 1\n", "my.yaml:1:3: a key is a plain word"),
        ("x" * ((1 << 20) + 1), "my.yaml: a rule file has at most"),
    ],
)
def test_files_that_are_no_rules(text: str, expected: str) -> None:
    assert any(problem.startswith(expected) for problem in problems(text))


def test_aliases_are_counted_each_time() -> None:
    bomb = "version: 1\na0: &a0 [x, x, x, x, x, x, x, x, x, x]\n"
    bomb += "".join(f"a{i}: &a{i} [{', '.join([f'*a{i - 1}'] * 10)}]\n" for i in range(1, 9))
    assert "more than" in only(bomb)


def test_an_alias_is_fine() -> None:
    rules = rules_of("{on: http, who: {groups: &who [agents]}, effect: allow}", "{on: sql, who: {groups: *who}, effect: allow}")
    assert len(rules) == 2


def test_an_anchor_may_be_used_again(recwarn: pytest.WarningsRecorder) -> None:
    rules = rules_of("{on: http, who: {groups: [&g a]}, effect: allow}", "{on: sql, who: {groups: [&g b, *g]}, effect: allow}")
    assert len(rules) == 2
    assert not recwarn.list


def test_duplicate_ids_across_files() -> None:
    text = HEAD + "  - {id: a, on: http, effect: allow}\n"
    with pytest.raises(RuleErrors) as caught:
        load_rules([("one.yaml", text), ("two.yaml", text)])
    assert str(caught.value) == "two.yaml:3:10: duplicate id `a`, first in one.yaml:3"


@pytest.mark.parametrize("identity", ["''", "'a b'", "'é'", "-", "a" * 65, "[a]", "5"])
def test_bad_ids(identity: str) -> None:
    assert "my.yaml:3:10: " in only(f"{HEAD}  - {{id: {identity}, on: http, effect: allow}}\n")


def test_several_issuers_must_be_named() -> None:
    text = rule("who: {groups: [a]}")
    assert only(text, issuers=("corp", "ci")) == "my.yaml:6:10: with several issuers `who:` must name `issuers`, some of corp, ci"
    assert "unknown issuer `crp`, did you mean `corp`?" in only(rule("who: {issuers: [crp]}"), issuers=("corp", "ci"))
    assert len(load_rules([("a", text)], issuers=("corp",))) == 1
    assert len(load_rules([("a", rule("who: {groups: [a], issuers: ['c*']}"))], issuers=("corp", "ci"))) == 1
    assert len(load_rules([("a", rule("message: everybody"))], issuers=("corp", "ci"))) == 1


def test_reviewers_come_from_the_rule_or_the_configuration() -> None:
    text = HEAD + "  - {id: a, on: http, effect: hold}\n  - {id: b, on: http, effect: hold, hold: {reviewers: [x]}}\n"
    holds = [rule.hold for rule in load_rules([("a", text)], reviewers=("ops",)).rules]
    assert holds == [Hold("a", ("ops",)), Hold("b", ("x",))]


def test_masks_are_read_whole() -> None:
    rules = rules_of(
        "{id: a, on: [http, sql], effect: mask, mask: {jsonpath: [$.a], columns: [b.c], headers: [d*], query: [e], detect: [jwt], "
        "strategy: fixed, value: gone, predicates: allow}}",
        "{id: b, on: http, effect: mask, mask: {jsonpath: $.a, strategy: null}}",
    )
    assert rules.rules[0].mask == Mask("a", ("$.a",), ("b.c",), ("d*",), ("e",), ("jwt",), "fixed", 4, "gone", "allow")
    assert rules.rules[1].mask == Mask("b", ("$.a",), strategy="null")
    assert rules.detectors_used == {"jwt"}


@pytest.mark.parametrize(
    ("line", "time", "time_or_peer"),
    [
        ("{on: session, match: {hour: 9}, effect: allow}", True, True),
        ("{on: session, match: {not: {weekday: sunday}}, effect: allow}", True, True),
        ("{on: session, when: 'hour > 9', effect: allow}", True, True),
        ("{on: session, match: {peer: 10.0.0.0/8}, effect: allow}", False, True),
        ("{on: session, match: {kind: http}, effect: allow}", False, False),
    ],
)
def test_what_rule_sets_depend_on(line: str, time: bool, time_or_peer: bool) -> None:
    rules = rules_of(line)
    assert (rules.depends_on_time, rules.depends_on_time_or_peer) == (time, time_or_peer)


def test_problems_are_bounded() -> None:
    assert len(problems(HEAD + "  - {}\n" * 500)) <= 200


@settings(max_examples=30, deadline=None)
@given(
    st.recursive(
        st.sampled_from(["a", "", "$.a", "re:(", "1", "true", "null", "10m", "*", "/x", "&a b", "!!x y", "http", "allow", "|\n  x"]),
        lambda inner: (
            st.lists(inner, max_size=3).map(lambda items: f"[{', '.join(items)}]")
            | st.dictionaries(
                st.sampled_from(
                    ["id", "on", "effect", "match", "not", "who", "hold", "mask", "path", "body", "$.x", "groups", "gt", "<<", "limits"]
                ),
                inner,
                max_size=4,
            ).map(lambda items: "{" + ", ".join(f"{key}: {value}" for key, value in items.items()) + "}")
        ),
        max_leaves=12,
    )
)
def test_any_document_loads_or_is_explained(text: str) -> None:
    for document in (
        text,
        f"version: 1\nrules: [{text}]\n",
        f"version: 1\nrules:\n  - {{id: a, on: http, effect: mask, match: {text}, mask: {text}}}\n",
    ):
        with contextlib.suppress(RuleErrors):  # and nothing else
            load_rules([("x", document)])


@settings(max_examples=30, deadline=None)
@given(st.text(max_size=60))
def test_any_text_loads_or_is_explained(text: str) -> None:
    with pytest.raises(RuleErrors) as caught:
        load_rules([("x", text)])
    assert all(str(problem).isprintable() for problem in caught.value.problems)
