"""Lineage without a server: what each result column may carry, and which other uses are reported."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.sql.lineage import ANYTHING, Context, Lineage, Relation, Schema, lineage, lineage_of_text
from rules.sql.lineage.model import DERIVED

SCHEMA = Schema(
    {
        1: Relation(1, "public", "people", "r", ((1, "id"), (2, "name"), (4, "secret"))),
        2: Relation(2, "public", "tags", "r", ((1, "id"), (2, "tag"))),
        3: Relation(3, "far", "people", "r", ((1, "id"), (2, "place"))),
    },
    functions=frozenset({"own"}),
    operators=frozenset({"<->"}),
)
CONTEXT = Context(SCHEMA)
LETTERS = {(1, 1): "i", (1, 2): "n", (1, 4): "s", (2, 1): "j", (2, 2): "t", (3, 1): "k", (3, 2): "p", DERIVED: "", ANYTHING: "?"}


def read(sql: str, context: Context = CONTEXT) -> Lineage:
    (found,) = lineage_of_text(sql.encode(), context)
    return found


def letters(found: Lineage) -> str:
    """Each output as the letters of its columns; `~` before them when they are not all, in their order."""
    return ("" if found.exact else "~") + " ".join("".join(sorted(LETTERS[one] for one in output.flow)) or "-" for output in found.outputs)


CARRIED = [
    ("SELECT id, secret AS x, 1 FROM people", "i s -"),
    ("SELECT * FROM people", "i n s"),
    ("SELECT * FROM far.people", "k p"),
    ("SELECT p.* FROM people p(a, b)", "i n s"),
    ("SELECT p.a, p.secret FROM people p(a)", "i s"),
    ("SELECT p.id FROM people p(a)", "?ins"),
    ("SELECT p FROM people p", "ins"),
    ("SELECT people.length FROM people", "ins"),
    ("SELECT people.own FROM people", "?ins"),
    ("SELECT nothing FROM people", "?"),
    ("SELECT ctid, tableoid FROM people", "- -"),
    ("SELECT secret || name FROM people", "ns"),
    ("SELECT own(name), far.f(name) FROM people", "?n ?n"),
    ("SELECT name <-> 'x', name OPERATOR(far.+) 'x' FROM people", "?n ?n"),
    ("SELECT (SELECT secret FROM tags LIMIT 1) FROM people", "s"),
    ("SELECT (SELECT tag FROM tags LIMIT 1) FROM people", "t"),
    ("SELECT (SELECT id FROM tags LIMIT 1) FROM people", "j"),
    ("SELECT EXISTS (SELECT secret FROM people)", "-"),
    ("SELECT x FROM (SELECT secret FROM people) AS y(x)", "s"),
    ("SELECT * FROM (SELECT upper(secret), id FROM people) y", "s i"),
    ("SELECT y.upper FROM (SELECT upper(secret), id FROM people) y", "s"),
    ('SELECT "case" FROM (SELECT CASE WHEN true THEN secret END, id FROM people) y', "s"),
    ("SELECT y.nothing FROM (SELECT secret, id FROM people) y", "?is"),
    ("SELECT * FROM people JOIN tags USING (id)", "ij n s t"),
    ("SELECT * FROM people NATURAL JOIN tags", "ij n s t"),
    ("SELECT j.* FROM (people JOIN tags ON true) j", "i n s j t"),
    ("SELECT secret FROM tags, LATERAL (SELECT secret FROM people) p", "s"),
    ("SELECT x FROM people, LATERAL (SELECT secret AS x) l", "s"),
    ("SELECT tag FROM tags UNION ALL SELECT secret FROM people", "st"),
    ("VALUES (1, 'x'), ((SELECT id FROM tags), 'y')", "j -"),
    ("WITH people AS (SELECT tag AS secret FROM tags) SELECT secret FROM people", "t"),
    ("WITH w AS (SELECT secret FROM people) SELECT w.* FROM w", "s"),
    ("WITH RECURSIVE w(a, b) AS (SELECT name, secret FROM people UNION ALL SELECT b, a FROM w) SELECT a, b FROM w", "ns ns"),
    ("SELECT * FROM generate_series(1, 2) g", "~-"),
    ("SELECT * FROM own() g", "~?"),
    ("SELECT relname FROM pg_class", "-"),
    ("SELECT * FROM nowhere", "~?"),
    ("SELECT max(secret) OVER (), count(*) FROM people", "s -"),
    ("UPDATE people SET name = 'x' RETURNING secret, old.name, *", "s n i n s"),
    ("INSERT INTO tags VALUES (1) RETURNING tag", "t"),
    ("DELETE FROM tags USING people p RETURNING *", "j t i n s"),
    ("COPY people (secret, id) TO STDOUT", "s i"),
    ("COPY people FROM STDIN", ""),
    ("CALL p()", "~?"),
    ("FETCH c", "~?"),
    ("SHOW all", "~-"),
    ("EXPLAIN SELECT secret FROM people", "~-"),
    ("EXPLAIN SELECT own(1)", "~?"),
    ("NOTIFY x", ""),
]


@pytest.mark.parametrize(("sql", "carried"), CARRIED, ids=[sql for sql, _ in CARRIED])
def test_what_outputs_carry(sql: str, carried: str) -> None:
    assert letters(read(sql)) == carried


def test_unqualified_names_follow_the_search_path() -> None:
    assert letters(read("SELECT id FROM people", Context(SCHEMA, ("far", "public"), settled=True))) == "k"
    assert letters(read("SELECT id FROM people", Context(SCHEMA, ("far",)))) == "k"
    assert letters(read("SELECT id FROM people", Context(SCHEMA, ("far", "public")))) == "iknps"  # the first may be gone by then
    assert letters(read("SELECT id FROM people", Context(SCHEMA, None))) == "iknps"  # it cannot be told which relation
    assert letters(read("SELECT id FROM people", Context(SCHEMA, ()))) == "?"


def test_names_must_be_those_that_the_server_tells() -> None:
    found = read("SELECT * FROM people")
    assert [len(flow) for flow in found.flows(["id", "name", "secret"])] == [1, 1, 1]
    for names in (["id", "name"], ["id", "secret", "name"], ["id", "name", "secret", "more"]):
        assert all(ANYTHING in flow for flow in found.flows(names))


USES = [
    ("SELECT id FROM people WHERE secret = 'x'", {"guess"}),
    ("SELECT id FROM people WHERE 'x' = secret OR secret IN ('x', $1)", {"guess"}),
    ("SELECT id FROM people WHERE secret = name", {"predicate", "compute"}),
    ("SELECT id FROM people WHERE secret = lower('x')", {"predicate", "compute"}),
    ("SELECT id FROM people WHERE secret = 'x'::own", {"predicate", "compute"}),
    ("SELECT id FROM (SELECT id, left(secret, 1) AS c FROM people) s WHERE c = 'x'", {"predicate", "compute"}),
    ("SELECT id FROM people ORDER BY secret", {"sort"}),
    ("SELECT id, secret FROM people ORDER BY 2", {"sort"}),
    ("SELECT DISTINCT secret FROM people", {"group"}),
    ("SELECT secret FROM people UNION SELECT tag FROM tags", {"group"}),
    ("SELECT id FROM people JOIN tags ON tag = secret", {"join", "compute"}),
    ("INSERT INTO tags (tag) SELECT secret FROM people", {"write"}),
    ("SELECT secret::int FROM people", {"compute"}),
    ("SELECT secret::text, upper(secret) FROM people", set()),
    ("SELECT unnest(ARRAY[secret]) FROM people", {"rows"}),
    ("SELECT own(secret) FROM people", {"code"}),
    ("DROP TABLE people", set()),
    ("ALTER TABLE people RENAME secret TO open", {"define"}),
]


@pytest.mark.parametrize(("sql", "kinds"), USES, ids=[sql for sql, _ in USES])
def test_uses_elsewhere_than_in_results(sql: str, kinds: set[str]) -> None:
    assert {use.kind for use in read(sql).uses if (1, 4) in use.flow} == kinds


def test_what_is_beyond_the_bounds_is_unknown() -> None:
    for sql in ("SELECT " + "||".join(["secret"] * 1900) + " FROM people", "SELECT 1 " * 2, "x" * (1 << 21), "SELECT \0"):
        found = read(sql)
        assert found.shape == "unknown"
        assert found.everything == {ANYTHING}
        assert found.reason


def test_a_short_text_is_not_read_again_and_again() -> None:
    """Some seconds of every session's time, for a kilobyte of one client's: a recursive query is read until it carries no more."""
    text = "SELECT 1 AS a"
    for _ in range(12):
        text = f"WITH RECURSIVE r AS (({text}) UNION SELECT a FROM r) SELECT a FROM r"
    wide = f"SELECT {', '.join(['*'] * 2000)} FROM people a, people b"
    for sql, reason in ((text, "repeats too much"), (wide, "too many columns")):
        (found,) = lineage_of_text(sql.encode(), Context(SCHEMA))
        assert found.shape == "unknown"
        assert reason in found.reason


def test_nested_recursion_ends() -> None:
    query = "SELECT secret, name, id::text FROM people"
    for level in range(12):
        query = f"WITH RECURSIVE w{level}(a, b, c) AS ({query} UNION ALL SELECT b, c, a FROM w{level}) SELECT a, b, c FROM w{level}"
    found = read(query)
    assert ANYTHING in found.everything or (1, 4) in found.everything


KEYS = st.sampled_from(
    [
        "SelectStmt",
        "targetList",
        "ResTarget",
        "val",
        "ColumnRef",
        "fields",
        "String",
        "sval",
        "fromClause",
        "RangeVar",
        "relname",
        "UpdateStmt",
    ]
)
LEAVES = st.none() | st.booleans() | st.text(max_size=5)
TREES = st.recursive(LEAVES, lambda inner: st.lists(inner, max_size=3) | st.dictionaries(KEYS, inner, max_size=3), max_leaves=12)


@settings(max_examples=200, deadline=None)
@given(TREES)
def test_a_tree_of_any_form_gives_a_lineage(tree: object) -> None:
    assert isinstance(lineage(tree if isinstance(tree, dict) else {"SelectStmt": tree}, CONTEXT, 1_000), Lineage)
