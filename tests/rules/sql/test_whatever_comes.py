"""Whatever the text: facts or an incomplete operation, never an exception, and no statement of it hidden."""

from __future__ import annotations

import subprocess
import sys

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from rules.sql.postgres import statements
from rules.vocabulary import SQL_EFFECTS, SQL_VERBS
from tests.rules.sql.reading import names, read
from tests.rules.sql.test_statements import ROWS

WRITES = [row[0] for row in ROWS if row[4] and not row[5] and "-- " not in row[0]]
KEYWORDS = """select delete from insert into update set where t u a b c * , ; ( ) = 1 'x' "q" $1 $$x$$ and or not with as union all join on
using returning values order by group limit explain analyze prepare execute copy to stdin stdout create table view drop cascade
grant revoke merge when matched then do nothing case end null true is in exists any array [ ] :: int . + || -> ? @> lateral"""
WORDS = KEYWORDS.split()


def check(text: bytes) -> None:
    operation = read(text)
    for part in statements(operation):
        assert set(part.facts.get("verbs")) <= SQL_VERBS
        assert set(part.facts.get("effects")) <= SQL_EFFECTS
        assert part.facts.get("verbs")
        assert part.facts.get("effects") or not part.complete
        assert part.complete is (part.reason == "") is part.facts.get("complete")
        assert part.title.isprintable()
    assert operation.complete is all(part.complete for part in statements(operation))


@settings(max_examples=300, deadline=None)
@given(st.binary(max_size=200) | st.text(max_size=200).map(str.encode))
@example(b"")
@example(b"\xff")
@example(b"select \x00")
def test_any_bytes(text: bytes) -> None:
    check(text)


@settings(max_examples=500, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=30).map(" ".join))
def test_any_words(sql: str) -> None:
    check(sql.encode())


@settings(max_examples=300, deadline=None)
@given(st.sampled_from([row[0] for row in ROWS]), st.sampled_from([row[0] for row in ROWS]), st.integers(0, 200), st.integers(0, 200))
def test_statements_cut_and_joined(first: str, second: str, cut: int, start: int) -> None:
    check((first[:cut] + second[start:]).encode())


@pytest.mark.fuzz
@settings(max_examples=30_000, deadline=None)
@given(st.lists(st.sampled_from(WORDS), max_size=60).map(" ".join))
def test_any_words_for_long(sql: str) -> None:
    check(sql.encode())


WRAPPINGS = [
    "{}",
    "select 1; {}",
    "{}; select 1",
    "/* a */ {} -- b",
    "begin; {}; commit",
    "select 'a''; --'; {}",
    "select e'\\'; --'; {}",
    "select $$ ' $$, $b$ $$ $b$; {}",
    'select "a""; --"; {}',
    "select 1 /* /* ; */ ; */; {}",
    "create table w (a int); {}",
]


@pytest.mark.parametrize("wrapping", WRAPPINGS)
@pytest.mark.parametrize("sql", WRITES)
def test_no_write_hides_beside_others(wrapping: str, sql: str) -> None:
    written = names(sql, "writes")
    operation = read(wrapping.format(sql))
    found = {str(name) for name in operation.facts.get("writes")}
    # after a change of the search path in the same text, names stay unqualified
    assert {name.rpartition(".")[2] for name in written} <= {name.rpartition(".")[2] for name in found}
    assert operation.writes


@pytest.mark.parametrize("sql", [sql for sql in WRITES if sql.startswith(("insert", "update", "delete", "merge", "with"))])
@pytest.mark.parametrize("wrapping", ["prepare w as {}", "explain analyze {}", "explain (costs off, analyze) {}", "copy ({}) to stdout"])
def test_no_change_hides_in_another_statement(wrapping: str, sql: str) -> None:
    inner = read(sql)
    outer = read(wrapping.format(sql))
    assert outer.complete
    for name in ("effects", "writes", "reads", "columns", "functions"):
        assert set(inner.facts.get(name)) <= set(outer.facts.get(name))
    assert set(inner.facts.get("verbs")) < set(outer.facts.get("verbs"))
    assert inner.facts.get("unbounded") == outer.facts.get("unbounded")


CRASHES = """
import sys, threading
from rules.sql.postgres import operation_of
from rules.sql.session import SessionState
state = SessionState()
def doubling(levels):
    sql = "update t set a = 1"
    for _ in range(levels):
        sql = f"update t set (a, b) = (with x as ({sql} returning 1) select 1, 2)"
    return sql
texts = [
    "select 1" + "+1" * 70_000, "select 1" + "::int" * 70_000, "select * from a" + " cross join b" * 70_000,
    "select a" + ' collate "C"' * 70_000, "select ''" + "||''" * 70_000, "select " + "-" * 900_000 + "1",
    "select " + "not " * 200_000 + "true", "select " + "(" * 300_000 + "1" + ")" * 300_000, "select " + "f(" * 200_000,
    "select " + "case when a then " * 50_000, "select 1" + " union select 1" * 60_000, "select 1" + " union (select 1" * 60_000,
    "select " + "(select " * 100_000, "select * from " + "(" * 300_000, "select a" + "[1]" * 300_000, "select a" + "[" * 300_000,
    "select 1 " + "/*" * 500_000, "select " + "array[" * 150_000, "select a" + ".b" * 400_000, "explain " * 100_000 + "select 1",
    "with a as (" * 80_000, "select 1;" * 100_000, ";" * 1_000_000, "select " + "row(" * 200_000, "do $$" + "(" * 900_000 + "$$",
    "select '" + "(" * 900_000 + "'", "x" * 1_000_000, doubling(14), doubling(18), doubling(40), doubling(5_000),
    "update t set (" + ",".join("a" * 9_000) + ") = (select " + ",".join("1" * 9_000) + ")",
    "values " + ",".join(["(1)"] * 200_000), "select " + "+".join(["(" * 200 + "1" + ")" * 200] * 1_000),
    "with " + ",".join(f"a{i} as (select 1)" for i in range(30_000)) + " select 1",
    "select " + "(a + " * 250 + "1" + ")" * 250 + " + 1" * 1_900,
    "select 1 from a " + "join b using (x) " * 1_900, "delete from t where " + " or ".join(["a = 1"] * 900),
    "delete from t where " + "(" * 250 + "a = a" + " or b = b)" * 250,
    "create table t (" + ",".join(f"a{i} int" for i in range(50_000)) + ")",
    "select " + "a is null and " * 1_900 + "b", "select " + "a between 1 and " * 1_900 + "b",
]
# in the stack of a main thread, and what may run inline in a small one, too
for text in texts:
    operation_of(text.encode(), state)
    print(".", end="", flush=True)
print("done", len(texts))
"""


def test_no_text_crashes_the_process() -> None:
    found = subprocess.run([sys.executable, "-c", CRASHES], capture_output=True, text=True, timeout=110, check=False)
    assert found.returncode == 0, (found.returncode, found.stdout[-80:], found.stderr[-2000:])
    assert "done" in found.stdout


INLINE = """
import threading
from rules.sql.postgres import is_small, operation_of
from rules.sql.session import SessionState
threading.stack_size(8 << 20)
shapes = ["select {0}1" , "select 1{1}", "select {2}1{3}", "select {4}true", "select * from a{5}", "select 1{6}", "select a{7}"]
def run():
    small = 0
    for count in (10, 200, 1000, 1999, 8000, 16000, 32000):
        parts = ["+" * count, "+1" * count, "(" * min(count, 255), ")" * min(count, 255), "not " * count, " cross join b" * count,
                 " union select 1" * count, "::int" * count]
        deep = "1"
        for _ in range(min(count, 250)):
            deep = "(" + deep + "+1" * (count // 250) + ")"
        for text in [shape.format(*parts) for shape in shapes] + ["select " + deep]:
            if is_small(text.encode()):
                small += 1
                operation_of(text.encode(), SessionState())
    print("done", small)
thread = threading.Thread(target=run)
thread.start()
thread.join()
"""


def test_what_is_small_needs_no_large_stack() -> None:
    found = subprocess.run([sys.executable, "-c", INLINE], capture_output=True, text=True, timeout=60, check=False)
    assert found.returncode == 0, (found.returncode, found.stderr[-2000:])
    assert int(found.stdout.split()[1]) > 30
