"""Numbers that decide nothing: another in their place leaves every fact of the statement as it was."""

from __future__ import annotations

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from relays.postgres.fast_path.core import runs_of
from rules.sql.constants import free_runs, with_others
from rules.sql.postgres import facts_of
from rules.sql.session import SessionState

STATE = SessionState(database="orders")


def free(text: bytes) -> list[bytes]:
    runs = runs_of(text)
    return [text[start:end] for (start, end), is_free in zip(runs, free_runs(text, runs), strict=True) if is_free]


@pytest.mark.parametrize(
    ("text", "expected"),
    [
        (b"SELECT a FROM t WHERE id = 5", [b"5"]),
        (b"SELECT a FROM t WHERE 5 = id;", [b"5"]),
        (b"SELECT a FROM t WHERE t.id >= 5 AND b <> 0007", [b"5", b"0007"]),
        (b"SELECT a FROM t WHERE id IN (1, 2,3) OR n BETWEEN 4 AND 6", [b"1", b"2", b"3", b"4", b"6"]),
        ("SELECT 'é 1 ' FROM \"tö 2 \" WHERE id = 3".encode(), [b"3"]),
        (b"SELECT a FROM t WHERE id = (SELECT max(x) FROM u WHERE y = 8)", [b"8"]),
        # what is no comparison with a column may decide: where, how many, in which order, of which type
        (b"SELECT a FROM t ORDER BY 1 LIMIT 2 OFFSET 3", []),
        (b"SELECT a FROM t GROUP BY 1", []),
        (b"SELECT a FROM t WHERE 1 = 1", []),
        (b"SELECT a FROM t WHERE id = -5 AND n = + 4", []),
        (b"SELECT a FROM t WHERE id = 5::text", []),
        (b"SELECT a FROM t WHERE id = 5 + 1", []),
        (b"SELECT a FROM t WHERE id = f( 5 )", []),
        (b"SELECT pg_sleep( 5 )", []),
        (b"SELECT a::varchar( 5 ) FROM t", []),
        (b"SELECT a FROM t WHERE id @@ 5 ", []),
        (b"SELECT a FROM t WHERE id OPERATOR(pg_catalog.=) 5", []),
        (b"SELECT a FROM t WHERE (id, 5 ) = (6 , 7)", []),
        (b"SELECT a FROM t WHERE id = ANY (ARRAY[1, 2 ])", []),
        (b"SELECT a FROM t WHERE name = ' 5 ' -- 6\n/* 7 */ AND $$ 8 $$ = b", []),
        (b"SELECT a FROM t WHERE id = 5.0 AND n = 5e1 AND m = 0x5 AND k = 1234567890", []),
        (b"SELECT a FROM t WHERE id = $1 AND", []),
        (b"", []),
    ],
)
def test_only_what_a_column_is_compared_with_is_free(text: bytes, expected: list[bytes]) -> None:
    assert free(text) == expected


_PIECES = rb""" 1 |(2,3 )| = 4 | id |id=5 | AND | OR | '6 ' | -- 7
| /* 8 */ | IN (9 , 10) | < | LIMIT 11 | ORDER BY 12 | NOT | + | BETWEEN 13 AND 14 | f(15 ) | $$ 16 $$ | E'17 \' |::int | x.y
| UNION SELECT 18 """
PIECES = st.sampled_from(_PIECES.split(b"|"))


@settings(max_examples=400, deadline=None)
@given(
    st.sampled_from(
        [b"SELECT a FROM t WHERE ", b"SELECT ", b"DELETE FROM t WHERE ", b"UPDATE t SET a = 19 WHERE ", b"EXPLAIN SELECT 1 FROM t WHERE "]
    ),
    st.lists(PIECES, max_size=8),
)
def test_no_fact_depends_on_a_free_number(start: bytes, pieces: list[bytes]) -> None:
    text = start + b"".join(pieces)
    runs = runs_of(text)
    found = free_runs(text, runs)
    assert len(found) == len(runs)
    other = with_others(text, runs, found)
    assert (other == text) is (1 not in found)
    assert [one.as_dict() for one in facts_of(text, STATE)] == [one.as_dict() for one in facts_of(other, STATE)]
