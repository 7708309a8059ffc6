"""The bounds that are counted before any parser runs."""

from __future__ import annotations

import importlib.util
import random
import re

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rules.sql import bounds
from rules.sql.bounds import MAX_BYTES, MAX_CHAIN, MAX_NESTING, MAX_SET_OPERATIONS, Exceeded, measure
from rules.sql.postgres import is_small
from tests.rules.sql.reading import read


def nested(levels: int) -> str:
    return "select " + "(" * levels + "1" + ")" * levels


def doubling(levels: int) -> str:
    """Each level doubles the tree: the source of a multi-column assignment is in it once for each column."""
    sql = "update t set a = 1"
    for _ in range(levels):
        sql = f"update t set (a, b) = (with x as ({sql} returning 1) select 1, 2)"
    return sql


WITHIN = [
    "",
    nested(MAX_NESTING - 1),
    "select " + "(1), " * 5_000 + "1",
    "select 1" + "+1" * MAX_CHAIN,
    "select 1" + " + 1, 2" * 10_000,
    "select '" + "((" * 5_000 + "'",
    "select $a$" + "((" * 5_000 + "$a$",
    'select "' + "((" * 5_000 + '"',
    "select 1 /* " + "((" * 5_000 + " */",
    "select 1 -- " + "((" * 5_000,
    "select 1" + " union select 1" * MAX_SET_OPERATIONS,
    "select 'union' || " + "'union', 'union'" * 600,
    "select 1" + "/**/" * 500,
    "select " + "case when a then b end, " * 1_000 + "1",
    "select " + "(select 1 as end), " * 1_000 + "1",
    "select 1 as case, " * 300 + "1",
    "insert into t values " + ", ".join("(1, -2, now(), 'a')" for _ in range(5_000)),
    "select 'é'",
    "update t set (a, b, c) = (select 1, 2, 3), (d, e) = (select 4, 5)",
    "select 1 where " + " or ".join("(a, b) = (1, 2)" for _ in range(1_000)),
    doubling(5),
]
BEYOND = [
    ("select '" + "x" * MAX_BYTES + "'", "longer than"),
    ("select 1\0; drop table t", "NUL"),
    (nested(MAX_NESTING + 1), "nested"),
    ("select " + "(" * 500, "nested"),
    ("select a" + "[" * 500, "nested"),
    ("select " + "case when a then " * 300, "nested"),
    ("select " + "case when a.end then " * 300, "nested"),
    ("select " + "(select 1 as end, " * 300, "nested"),
    ("select " + "(case when 1 then (2 " * 200, "nested"),
    ("select 1" + "+1" * (MAX_CHAIN + 1), "operators"),
    ("select 1" + "::int" * (MAX_CHAIN + 1), "operators"),
    ("select 1" + "||''" * (MAX_CHAIN + 1), "operators"),
    ("select " + "- " * (MAX_CHAIN + 1) + "1", "operators"),
    ("select " + "+" * (MAX_CHAIN + 1) + "1", "operators"),
    ("select " + "not " * (MAX_CHAIN + 1) + "true", "operators"),
    ("select * from a" + " cross join b" * (MAX_CHAIN + 1), "operators"),
    ("select a" + ' collate "C"' * (MAX_CHAIN + 1), "operators"),
    ("select a" + " operator(pg_catalog.+) a" * (MAX_CHAIN + 1), "operators"),
    ("select a" + " is null" * (MAX_CHAIN + 1), "operators"),
    ("select " + "a.then + " * (MAX_CHAIN + 1), "operators"),
    ("select 1" + " union select 1" * (MAX_SET_OPERATIONS + 1), "set operations"),
    ("select 1" + " EXCEPT all select 1 Intersect select 2" * 260, "set operations"),
    ("select 1 " + "/*" * 501, "`/*`"),
    ("select '" + "/*" * 501 + "'", "`/*`"),
    (doubling(30), "repeat"),
    ("update t set (" + ", ".join(f"c{i}" for i in range(1_000)) + ") = (select " + "1, " * 1_000 + "1)", "repeat"),
    (r"select e'\'' || " + "(" * 300 + "'", "nested"),
    ("select e'a'\n'\\'' || " + "(" * 300 + "'", "nested"),  # a continued string is of the first one's kind
    ("select 'a\\' || " + "(" * 300 + "1", "nested"),
    ("select a$b$, " + "(" * 300 + "$b$", "nested"),
    ("select 1 /* /* */ */ , " + "(" * 300, "nested"),
    ("select 1 --\n, " + "(" * 300, "nested"),
    ("select 1 --\r, " + "(" * 300, "nested"),
    ("select 1 +-- x\n " + "(" * 300, "nested"),
    ("select 1 */* x */ " + "(" * 300, "nested"),
]


@pytest.mark.parametrize("sql", WITHIN, ids=[sql[:40] for sql in WITHIN])
def test_within(sql: str) -> None:
    measure(sql.encode())


@pytest.mark.parametrize(("sql", "reason"), BEYOND, ids=[f"{sql[:40]}…{reason}" for sql, reason in BEYOND])
def test_beyond(sql: str, reason: str) -> None:
    with pytest.raises(Exceeded, match=re.escape(reason)):
        measure(sql.encode())
    operation = read(sql)
    assert not operation.complete
    assert reason in operation.reason
    assert operation.facts.get("verbs") == ("unknown",)


@pytest.mark.parametrize("text", [b"select '\xff'", b"select '\xc3'", b"select '\xed\xa0\x80'", b"select '\xc0\xaf'"])
def test_text_that_is_not_utf8(text: bytes) -> None:
    with pytest.raises(Exceeded, match="UTF-8"):
        measure(text)
    assert not read(text).complete


def test_how_deep_a_tree_can_get_adds_up_over_brackets() -> None:
    assert measure(b"select " + b"a + " * 1_900 + b"(" + b"a + " * 1_900 + b"a)").depth > 3_700
    assert not is_small(b"select " + (b"a + " * 1_500 + b"(") * 4 + b"1" + b")" * 4)
    assert is_small(b"select 1")
    assert not is_small(b"select '" + b"x" * 40_000 + b"'")


WORDS = r"""( ) [ ] , ; = + - * / :: . ' " $$ $a$ e' E' u&' U&" n' b' -- /* */ case CASE end as union except not and or collate is
set (a,b)= a b1 1 1.5 $1 a$b$ \ \' '' "" ? @ ! | ~ é 😀 join operator in"""
PIECES = st.sampled_from([*WORDS.split(), " ", "\n", "\r", "'a'", '"a"', "/* a */"])


@settings(max_examples=300, deadline=None)
@given(st.lists(PIECES, max_size=60).map(" ".join) | st.lists(PIECES, max_size=60).map("".join))
@example("e'\\")
@example("$$")
def test_the_quick_count_is_never_lower_than_the_exact_one(sql: str) -> None:
    """Whatever the text: no exception but Exceeded, and what passes quickly also passes when it is scanned."""
    text = sql.encode()
    quick = bounds._surely_within(text)
    scanned = bounds._Scan(text).measure()
    assert quick is None or quick.depth >= scanned.depth - 1
    if quick is not None and b"set" in text.lower():  # nothing else assigns
        assert scanned.repeated == 0


def scanned_tokens(text: bytes) -> list[tuple[int, int]] | None:
    """Start and end of every token by libpg_query's scanner, or None where it refuses the text."""
    postgast = pytest.importorskip("postgast")
    try:
        return [(token.start, token.end) for token in postgast.scan(text.decode()).tokens]
    except postgast.PgQueryError:
        return None


def own_tokens(text: bytes) -> list[tuple[str, int, int]]:
    found, at = [], 0
    scan = bounds._Scan(text)
    while at < len(text):
        match = bounds._TOKEN.match(text, at)
        assert match is not None
        start, at = at, match.end()
        kind = match.lastgroup or ""
        if kind == "comment":
            at = scan._after_comment(at)
        elif kind == "dollar":
            at = scan._after_dollar(match.group(), at)
        if kind not in ("skip", "comment"):
            found.append((kind, start, at))
    return found


@pytest.mark.skipif(importlib.util.find_spec("postgast") is None, reason="compares with postgast's scanner")
@settings(max_examples=400, deadline=None)
@given(st.lists(PIECES, max_size=30).map(" ".join) | st.lists(PIECES, max_size=30).map("".join))
@example("select e'a'\n'\\'' || ((")
@example("1..10 a.b.c $1 1e5 1.5e-3 0x1F")
@example("a+-b *-- x\n c <>- 1 @-1 -@- 1")
def test_brackets_and_quotes_are_seen_where_the_server_sees_them(sql: str) -> None:
    """Every bracket, comma and operator that the server's scanner finds is a token here, and none hides in a literal."""
    text = sql.encode()
    theirs = scanned_tokens(text)
    if theirs is None:
        return
    structure = b"()[],;"
    expected = [start for start, end in theirs if end - start == 1 and text[start] in structure]
    assert [start for kind, start, _ in own_tokens(text) if kind in ("open", "close", "comma")] == expected


def test_a_long_text_is_scanned_in_linear_time() -> None:
    pieces = ["'a'", "(", ")", "1", "+", "$a$ x $a$", "e'\\''", "-- x\n", "/* x */", '"a"', ", "]
    text = " ".join(random.Random(1).choice(pieces) for _ in range(2_000)).encode()
    own_tokens(text * 10)
