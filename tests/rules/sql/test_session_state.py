"""What a session has become decides how a text is read."""

from __future__ import annotations

from dataclasses import replace

import pytest

from rules.model import UNKNOWN
from rules.sql.facts import SqlFacts
from rules.sql.postgres import operation_of, statements
from rules.sql.session import Prepared, SessionState
from tests.rules.sql.reading import STATE, fact, names, read

HIDING = r"select 'a\' ; drop table p; --'"  # one statement for a server without standard_conforming_strings


def test_backslashes_without_standard_conforming_strings_are_not_read() -> None:
    off = replace(STATE, standard_conforming_strings=False)
    assert not read(HIDING, off).complete
    assert "standard_conforming_strings" in read(HIDING, off).reason
    assert read("select 'a'", off).complete
    assert [part.facts.get("verbs") for part in statements(read(HIDING))] == [("select",), ("drop",)]


@pytest.mark.parametrize(
    ("encoding", "complete"), [("UTF8", True), ("utf-8", True), ("SJIS", False), ("LATIN1", False), ("SQL_ASCII", False)]
)
def test_other_encodings_are_read_while_the_text_is_ascii(encoding: str, complete: bool) -> None:
    state = replace(STATE, client_encoding=encoding)
    assert read("select 'ä'", state).complete is complete
    assert read("select 'a'", state).complete


def prepared(sql: str) -> Prepared:
    facts = read(sql).facts
    assert isinstance(facts, SqlFacts)
    return Prepared(sql.encode(), facts, STATE.meaning)


def test_execute_does_what_the_prepared_statement_does() -> None:
    state = replace(STATE, prepared={"p": prepared("delete from t where a = pg_sleep(1)::text")}, generation=1)
    assert names("execute p", "verbs", state) == {"execute", "delete"}
    assert names("execute p", "effects", state) == {"write", "sleep"}
    assert names("execute p", "writes", state) == {"public.t"}
    assert read("execute p", state).complete
    assert names("explain execute p", "effects", state) == {"read", "sleep"}
    assert names("explain execute p", "writes", state) == set()
    assert names("explain execute p", "reads", state) == {"public.t"}
    assert names("explain analyze execute p", "effects", state) == {"read", "write", "sleep"}
    assert names("create table x as execute p", "writes", state) == {"public.t", "public.x"}


def test_execute_of_what_deletes_everything_is_unbounded() -> None:
    state = replace(STATE, prepared={"p": prepared("delete from t")})
    assert fact("execute p", "unbounded", state) is True


@pytest.mark.parametrize("sql", ["execute p", "explain execute p", "create table t as execute p", "execute p(1)"])
def test_execute_of_an_unknown_name_is_incomplete(sql: str) -> None:
    assert not read(sql).complete


def test_execute_after_a_change_of_the_search_path_is_read_again() -> None:
    state = replace(STATE, prepared={"p": prepared("select a from t")})
    assert names("execute p", "reads", state) == {"public.t"}
    assert names("execute p", "reads", replace(state, schemas=("evil",))) == {"evil.t"}
    both = statements(read("set search_path = evil; execute p", state))
    assert both[1].facts.get("reads") == ("t",)


def test_execute_of_a_long_statement_after_a_change_is_incomplete() -> None:
    state = replace(STATE, prepared={"p": prepared("select a from t where b = '" + "x" * 40_000 + "'")})
    assert read("execute p", state).complete
    assert not read("execute p", replace(state, schemas=("evil",))).complete


def test_statements_that_run_each_other_end() -> None:
    state = replace(STATE, prepared={"p": prepared("execute q"), "q": prepared("execute p")})
    assert not read("execute p", state).complete
    assert not read("execute p", replace(state, schemas=("evil",))).complete


def test_execute_of_an_incomplete_statement_is_incomplete() -> None:
    outer = replace(STATE, prepared={"p": prepared("execute other")})
    assert not read("execute p", outer).complete


def test_names_after_a_change_of_search_path_in_the_same_text_are_not_resolved() -> None:
    parts = statements(read("select a from t; set search_path = evil; select lower(a) from t"))
    assert [part.facts.get("reads") for part in parts] == [("public.t",), (), ("t",)]
    assert "calls_unknown_function" in parts[2].facts.get("effects")


def test_functions_are_unknown_where_another_schema_comes_before_pg_catalog() -> None:
    state = replace(STATE, schemas=("public", "pg_catalog"))
    assert names("select lower('a')", "effects", state) == {"read", "calls_unknown_function"}
    assert names("select 1 + 1", "effects", state) == {"read", "calls_unknown_function"}
    assert names("select pg_catalog.lower('a')", "effects", state) == {"read"}
    assert names("select pg_sleep(1)", "effects", state) == {"read", "sleep", "calls_unknown_function"}
    assert names("select 1 from pg_class", "reads", state) == {"public.pg_class"}


def test_each_state_has_its_own_epoch() -> None:
    states = [
        STATE,
        replace(STATE, database="x"),
        replace(STATE, user="x"),
        replace(STATE, role="x"),
        replace(STATE, schemas=("x",)),
        replace(STATE, schemas=("public", "x")),
        replace(STATE, schemas=()),
        replace(STATE, schemas=None),
        replace(STATE, standard_conforming_strings=False),
        replace(STATE, client_encoding="LATIN1"),
        replace(STATE, settings=(("row_security", "off"),)),
        replace(STATE, generation=1),
    ]
    assert len({state.epoch for state in states}) == len(states)
    assert replace(STATE, generation=1).meaning == STATE.meaning
    assert SessionState().epoch == SessionState().epoch


def test_parameters_are_unknown_until_they_are_bound() -> None:
    text = b"select * from t where a = $1 and b = $2"
    assert operation_of(text, STATE).facts.get("params") is UNKNOWN
    assert operation_of(text, STATE, (5, None)).facts.get("params") == (5, None)
    assert operation_of(b"select 1", STATE).facts.get("params") == ()
    assert operation_of(b"select 1", STATE, ()).facts.get("params") == ()


def test_the_fingerprint_covers_text_state_parameters_and_what_execute_runs() -> None:
    state = replace(STATE, prepared={"p": prepared("delete from t")})
    other = replace(STATE, prepared={"p": prepared("delete from u")})

    def payload(text: bytes, state: SessionState, params: tuple[object, ...] | None = None, binding: bytes = b"") -> bytes:
        exact = operation_of(text, state, params, binding).exact
        assert exact is not None
        return exact().payload

    different = [
        payload(b"select 1", state),
        payload(b"select  1", state),
        payload(b"select 1", replace(state, role="x")),
        payload(b"select $1", state, (1,), b"1"),
        payload(b"select $1", state, (1,), b"2"),
        payload(b"select $1", state),
        payload(b"execute p", state),
        payload(b"execute p", other),
    ]
    assert len(set(different)) == len(different)
    assert payload(b"select 1", state) == payload(b"select 1", replace(other, generation=9))


def test_what_executes_an_unknown_statement_cannot_be_approved() -> None:
    exact = read("execute p").exact
    assert exact is not None
    with pytest.raises(ValueError, match="not known"):
        exact()


def test_a_reviewer_sees_all_of_it() -> None:
    state = replace(STATE, prepared={"p": prepared("delete from t where a = $1")})
    exact = operation_of(b"execute p(1); select $1", state, ("x",)).exact
    assert exact is not None
    assert exact().text == "execute p(1); select $1\n-- prepared as p:\ndelete from t where a = $1\n-- $1 = 'x'"
    assert exact().title == "execute delete public.t; select"


def test_no_title_tells_a_value() -> None:
    assert read("alter role bob password 'hunter2'").title == "alter"
    assert read("select 'hunter2' from t where a = 'hunter2'").title == "select public.t"
    assert "hunter2" not in read("selec 'hunter2'").reason
    assert read('drop table "a\nb"').title == "drop public.a?b"


@pytest.mark.parametrize(
    ("text", "complete"),
    [
        ("DELETE FROM KÉPT", False),  # the server makes it képt, the grammar here leaves it
        ('DELETE FROM "' + "é" * 40 + '"', False),  # 40 bytes there, 80 here, where names are cut at 63
        ('DELETE FROM U&"k\\00e9pt"', False),
        ("DELETE FROM kept WHERE name = 'É' -- É\n /* É */ AND note <> $$É$$", True),
    ],
)
def test_names_beyond_ascii_where_the_database_has_another_encoding(text: str, complete: bool) -> None:
    assert operation_of(text.encode(), STATE).complete
    assert operation_of(text.encode(), replace(STATE, settings=(("server_encoding", "LATIN1"),))).complete is complete
