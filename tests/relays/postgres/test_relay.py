"""The conversation, message by message, without a network."""

from __future__ import annotations

import itertools
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relays.commands import CLIENT, Start
from relays.postgres import codec
from relays.postgres.codec import Bind, CloseTarget, CommandComplete, DataRow, Describe, Execute, Parse, Query, Report, RowDescription
from relays.postgres.judging import REFUSED
from tests.relays.postgres.harness import ALLOW, DENY, READY, STATE_ANSWER, Line

ROW = DataRow((b"1",)).build()
COLUMNS = RowDescription((codec.Column(b"a"),)).build()
DONE = CommandComplete(b"SELECT 1").build()
ERROR = Report(((b"S", b"ERROR"), (b"V", b"ERROR"), (b"C", b"42601"), (b"M", b"syntax error"))).build()
RESULT = COLUMNS + ROW + DONE


@pytest.fixture(params=["asked", "passing"])
def line(tmp_path: Path, request: pytest.FixtureRequest) -> Line:
    """Every conversation is the same whether what repeats may take the fast path or not."""
    found = Line(tmp_path)
    if request.param == "passing":
        found.session.leave.until = float("inf")
    return found


def kinds(messages: list[tuple[str, bytes]]) -> str:
    return "".join(kind for kind, _ in messages)


def code(message: tuple[str, bytes]) -> bytes:
    assert message[0] == "E"
    return Report.parse(message[1]).get(b"C")


def test_a_portal_that_ends_while_it_is_waited_for_is_gone(line: Line) -> None:
    line.client(Parse(b"t", b"SELECT 1").build() + Bind(b"", b"t").build() + Execute(b"").build() + codec.SYNC)
    line.client(Describe(b"P", b"").build() + Execute(b"").build() + codec.SYNC)
    line.take()
    line.server(codec.PARSE_COMPLETE + codec.BIND_COMPLETE + ROW + DONE + READY[b"I"])
    assert kinds(line.to_server()) == "PS", "what must fail stands in its place"
    line.server(ERROR + READY[b"I"])
    answers = line.to_client()
    assert kinds(answers) == "12DCZEZ"
    assert code(answers[5]) == b"34000"


# --- simple queries


def test_an_allowed_query_goes_on_byte_for_byte_and_so_does_its_result(line: Line) -> None:
    query = Query(b"SELECT a FROM t").build()
    line.client(query)
    assert line.take() == (b"", query)
    line.server(RESULT + READY[b"I"])
    assert line.take() == (RESULT + READY[b"I"], b"")
    assert [message.text for message in line.relay.recorded] == [b"SELECT a FROM t", b"1\nSELECT 1"]


def test_a_denied_query_does_not_reach_an_idle_server(line: Line) -> None:
    line.client(Query(b"DROP TABLE t").build())
    assert not line.to_server()
    error, ready = line.to_client()
    assert code(error) == b"42501"
    assert Report.parse(error[1]).get(b"D") == b"rule: no; operation: s1.1"
    assert ready == ("Z", b"I")


def test_a_denied_query_in_a_transaction_fails_it(line: Line) -> None:
    line.client(Query(b"BEGIN").build())
    line.server(CommandComplete(b"BEGIN").build() + READY[b"T"])
    line.take()
    line.client(Query(b"SELECT 1; DROP TABLE t").build())
    assert line.to_server() == [("Q", REFUSED + b"\0")]
    line.server(ERROR + READY[b"E"])
    error, ready = line.to_client()
    assert code(error) == b"42501"
    assert ready == ("Z", b"E")
    line.client(Query(b"DROP TABLE t").build())
    assert kinds(line.to_client()) == "EZ"  # the transaction has failed already: nothing is open


def test_a_query_behind_others_is_denied_in_its_turn(line: Line) -> None:
    line.client(Query(b"SELECT 1").build() + Query(b"DROP TABLE t").build() + Query(b"SELECT 2").build())
    assert [body for _, body in line.to_server()] == [b"SELECT 1\0", REFUSED + b"\0", b"SELECT 2\0"]
    line.server(RESULT + READY[b"I"] + ERROR + READY[b"I"] + RESULT + READY[b"I"])
    answers = line.to_client()
    assert kinds(answers) == "TDCZEZTDCZ"
    assert code(answers[4]) == b"42501"


def test_a_held_query_waits_and_everything_behind_it(line: Line) -> None:
    line.holding = True
    held = Query(b"DELETE FROM t WHERE a = 1").build()
    line.client(held)
    line.client(Query(b"SELECT 1").build())
    assert line.take() == (b"", b"")
    line._do(line.relay.hold(line.asked[0], DENY))
    assert kinds(line.to_client()) == "N"
    line.decide(ALLOW)
    assert line.take() == (b"", held + Query(b"SELECT 1").build())


def test_a_held_query_that_is_cancelled(line: Line) -> None:
    line.holding = True
    line.client(Query(b"DELETE FROM t WHERE a = 1").build())
    line.signal()
    error, ready = line.to_client()
    assert (code(error), ready) == (b"57014", ("Z", b"I"))
    line.client(Query(b"SELECT 1").build())
    assert kinds(line.to_server()) == "Q"


def test_a_running_query_is_cancelled_at_the_target(line: Line) -> None:
    line.client(Query(b"SELECT 1").build())
    line.signal()
    assert isinstance(line.others[-1], Start)


# --- the extended protocol


PIPELINE = Parse(b"", b"SELECT $1::int").build() + Bind(b"", b"", (), (b"1",)).build() + Describe(b"P", b"").build() + Execute(b"").build()
CONFIRMED = codec.PARSE_COMPLETE + codec.BIND_COMPLETE


def test_a_pipeline_goes_on_byte_for_byte(line: Line) -> None:
    line.client(PIPELINE + codec.SYNC)
    assert line.take() == (b"", PIPELINE + codec.SYNC)
    line.server(CONFIRMED + RESULT + READY[b"I"])
    assert line.take()[0] == CONFIRMED + RESULT + READY[b"I"]


def test_a_denied_parse_is_put_in_the_place_of_and_the_rest_is_dropped(line: Line) -> None:
    line.client(PIPELINE)
    line.take()
    line.client(Parse(b"", b"DROP TABLE t").build() + Bind(b"", b"").build() + Execute(b"").build() + codec.SYNC)
    assert line.to_server() == [("P", b"\0" + REFUSED + b"\0\0\0"), ("S", b"")]
    line.server(CONFIRMED + RESULT + ERROR + READY[b"I"])
    answers = line.to_client()
    assert kinds(answers) == "12TDCEZ"
    assert code(answers[5]) == b"42501"
    # the unnamed statement is gone with the Parse that was denied
    line.client(Bind(b"", b"", (), (b"1",)).build() + Execute(b"").build() + codec.SYNC)
    assert kinds(line.to_server()) == "PS"
    line.server(ERROR + READY[b"I"])
    assert code(line.to_client()[0]) == b"26000"


def test_a_name_that_the_server_has_kept_is_not_mistaken(line: Line) -> None:
    """s is a DELETE; a second Parse under that name fails, so that Bind still runs the DELETE."""
    line.client(Parse(b"s", b"DELETE FROM t").build() + codec.SYNC)
    line.server(codec.PARSE_COMPLETE + READY[b"I"])
    line.client(Parse(b"s", b"SELECT 1").build() + codec.SYNC)
    line.server(ERROR + READY[b"I"])
    line.take()
    line.holding = True
    line.client(Bind(b"", b"s").build())
    assert line.asked[0].operation.facts.get("verbs") == ("delete",)


def test_a_name_from_before_a_sync_counts_when_it_is_confirmed(line: Line) -> None:
    line.client(Parse(b"s", b"SELECT 1").build() + codec.SYNC + Bind(b"", b"s").build() + Execute(b"").build() + codec.SYNC)
    assert kinds(line.to_server()) == "PS"
    line.server(codec.PARSE_COMPLETE + READY[b"I"])
    assert kinds(line.to_server()) == "BES"
    line.client(Parse(b"t", b"SELECT 1").build() + codec.SYNC + Bind(b"", b"t").build() + codec.SYNC)
    line.take()
    line.server(codec.BIND_COMPLETE + DONE + READY[b"I"] + ERROR + READY[b"I"])
    assert [(kind, body[:8]) for kind, body in line.to_server()] == [("P", b"hopgate\0"), ("S", b"")]


@pytest.mark.parametrize(
    ("message", "state"),
    [
        (Bind(b"", b"nobody"), b"26000"),
        (Describe(b"S", b"nobody"), b"26000"),
        (Describe(b"P", b"nobody"), b"34000"),
        (Execute(b"nobody"), b"34000"),
    ],
    ids=repr,
)
def test_names_that_we_do_not_know_do_not_reach_the_server(line: Line, message: Bind | Describe | Execute, state: bytes) -> None:
    line.client(message.build() + codec.SYNC)
    assert [(kind, body) for kind, body in line.to_server()] == [("P", b"hopgate\0" + REFUSED + b"\0\0\0"), ("S", b"")]
    line.server(ERROR + READY[b"I"])
    assert code(line.to_client()[0]) == state


def test_execute_is_decided_again_when_the_rules_have_changed(line: Line) -> None:
    line.client(
        Query(b"BEGIN").build() + Parse(b"s", b"SELECT a FROM t").build() + Bind(b"p", b"s").build() + Execute(b"p", 1).build() + codec.SYNC
    )
    line.server(CommandComplete(b"BEGIN").build() + READY[b"T"] + CONFIRMED + ROW + codec.PORTAL_SUSPENDED + READY[b"T"])
    line.take()
    before = len(line.session.decided)
    line.client(Execute(b"p", 1).build() + codec.SYNC)
    assert len(line.session.decided) == before
    line.server(ROW + codec.PORTAL_SUSPENDED + READY[b"T"])
    line.session.rules_version = "2"
    line.client(Execute(b"p", 1).build() + codec.SYNC)
    assert len(line.session.decided) == before + 1


def test_portals_do_not_outlive_their_transaction(line: Line) -> None:
    line.client(Parse(b"s", b"SELECT 1").build() + Bind(b"p", b"s").build() + codec.SYNC)
    line.server(CONFIRMED + READY[b"I"])
    line.take()
    line.client(Execute(b"p").build() + codec.SYNC)
    assert kinds(line.to_server()) == "PS"


def test_a_closed_statement_is_not_known_any_more(line: Line) -> None:
    line.client(Parse(b"s", b"SELECT 1").build() + CloseTarget(b"S", b"s").build() + Bind(b"", b"s").build() + codec.SYNC)
    assert kinds(line.to_server()) == "PCPS"


def test_after_an_error_what_comes_before_sync_is_dropped_here_too(line: Line) -> None:
    line.client(Parse(b"", b"SELECT x").build() + codec.FLUSH)
    line.server(ERROR)
    line.take()
    line.client(Bind(b"", b"").build() + Query(b"DELETE FROM t").build() + codec.SYNC)
    assert kinds(line.to_server()) == "S"
    line.server(READY[b"I"])
    assert kinds(line.to_client()) == "Z"


def test_an_error_while_a_bind_is_being_decided_drops_it(line: Line) -> None:
    line.holding = True
    line.client(Parse(b"", b"INSERT INTO t VALUES ($1)").build() + Bind(b"", b"", (), (b"1",)).build())
    line.take()
    line.server(ERROR)
    line.decide(ALLOW)
    line.client(Execute(b"").build() + codec.SYNC)
    assert kinds(line.to_server()) == "S"
    line.server(READY[b"I"])
    assert kinds(line.to_client()) == "EZ"


# --- the session's state


def test_nothing_is_judged_while_the_session_may_be_another(line: Line) -> None:
    line.client(Query(b"SET search_path = other").build() + Query(b"SELECT a FROM t").build())
    assert [body for _, body in line.to_server()] == [b"SET search_path = other\0"]
    line.server(CommandComplete(b"SET").build() + READY[b"I"])
    assert kinds(line.to_client()) == "CZ"
    ((kind, _),) = line.to_server()
    assert kind == "Q"
    line.server(STATE_ANSWER.replace(b'"public"', b'"others"') + READY[b"I"])
    assert line.take() == (b"", Query(b"SELECT a FROM t").build())
    assert line.relay.state.schemas == ("others",)
    assert line.session.decided[-1][1].facts.get("reads") == ("others.t",)


def test_what_changes_the_session_must_be_synced(line: Line) -> None:
    line.client(Parse(b"", b"SET search_path = other").build() + Bind(b"", b"").build() + Execute(b"").build())
    line.take()
    line.client(Parse(b"", b"SELECT a FROM t").build() + codec.SYNC)
    assert kinds(line.to_server()) == "PS"
    line.server(CONFIRMED + CommandComplete(b"SET").build() + ERROR + READY[b"I"])
    assert code(line.to_client()[3]) == b"0A000"
    assert kinds(line.to_server()) == "Q"  # what is it now?


def test_in_a_failed_transaction_the_state_is_asked_at_its_end(line: Line) -> None:
    line.client(Query(b"BEGIN; SET search_path = other; SELECT 1/0").build())
    line.server(CommandComplete(b"BEGIN").build() + CommandComplete(b"SET").build() + ERROR + READY[b"E"])
    assert not line.take()[1][5:].startswith(b"SELECT pg_catalog")
    assert line.relay.state.schemas is None
    line.client(Query(b"ROLLBACK").build())
    line.server(CommandComplete(b"ROLLBACK").build() + READY[b"I"])
    assert line.to_server()[-1][1].startswith(b"SELECT pg_catalog")
    line.server(STATE_ANSWER + READY[b"I"])
    assert line.relay.state.schemas == ("public",)


def test_settings_that_change_the_grammar_count_at_once(line: Line) -> None:
    line.server(codec.ParameterStatus(b"standard_conforming_strings", b"off").build())
    line.client(Query(rb"SELECT 'a\'; DROP TABLE t; --'").build())
    assert kinds(line.to_client())[-2:] == "EZ"
    assert not line.to_server()


# --- COPY


COPY_IN = codec.CopyResponse(0, (0,)).build(b"G")


def test_copy_data_passes_in_pieces_while_the_target_takes_it(line: Line) -> None:
    line.client(Query(b"COPY t FROM STDIN").build())
    line.server(COPY_IN)
    line.take()
    data = codec.message(b"d", b"1\n" * 50)
    for at in range(0, len(data), 7):
        line.client(data[at : at + 7])
    line.client(codec.COPY_DONE)
    assert line.take()[1] == data + codec.COPY_DONE
    line.server(CommandComplete(b"COPY 50").build() + READY[b"I"])
    assert kinds(line.to_client()) == "CZ"


def test_copy_data_after_the_copy_failed_is_dropped(line: Line) -> None:
    line.client(Query(b"COPY t FROM STDIN").build())
    line.server(COPY_IN + ERROR + READY[b"I"])
    line.take()
    line.client(codec.message(b"d", b"1\n") + codec.COPY_DONE + Query(b"SELECT 1").build())
    assert kinds(line.to_server()) == "Q"


def test_copy_data_without_a_copy_ends_the_session(line: Line) -> None:
    line.client(codec.message(b"d", b"1\n"))
    assert line.closed
    assert code(line.to_client()[0]) == b"08P01"


# --- what no peer says


@pytest.mark.parametrize(
    "data",
    [
        b"\0\0\0\0\4",
        b"Y\0\0\0\4",
        b"Q\0\0\0\3",
        b"Q\x7f\xff\xff\xff",
        b"S\0\0\0\5x",
        b"Q\0\0\0\x08abc\0",
        b"Q\0\0\0\x07a\0b",
        b"B\0\0\0\5\0",
        b"p\0\0\0\5\0",
        b"D\0\0\0\6X\0",
    ],
    ids=repr,
)
def test_a_client_that_breaks_the_protocol_is_told_and_closed(line: Line, data: bytes) -> None:
    line.client(data + b"\0" * 8)
    to_server = line.take()[1]
    assert line.closed or data[:1] == b"Q"
    assert b"abc" not in to_server or data[5:8] == b"abc"


@pytest.mark.parametrize(
    "data",
    [
        ROW,
        DONE,
        codec.PARSE_COMPLETE,
        READY[b"I"],
        b"Z\0\0\0\5X",
        b"?\0\0\0\4",
        b"R\0\0\0\x08\0\0\0\0",
        codec.COPY_DONE,
        COPY_IN,
        b"D\0\0\0\3",
        b"W\0\0\0\7\0\0\0",
    ],
    ids=repr,
)
def test_a_target_that_speaks_out_of_turn_is_cut_off(line: Line, data: bytes) -> None:
    line.server(data)
    assert line.closed
    assert kinds(line.to_client()) == "E"


def test_function_calls_are_refused(line: Line) -> None:
    line.client(codec.message(b"F", b"\0" * 10))
    error, ready = line.to_client()
    assert (code(error), ready, line.to_server()) == (b"0A000", ("Z", b"I"), [])


# --- chunking and noise

SCRIPT = (
    Query(b"SELECT a FROM t").build()
    + PIPELINE
    + codec.SYNC
    + Query(b"DROP TABLE t").build()
    + Parse(b"s", b"DROP TABLE t").build()
    + Bind(b"", b"s").build()
    + codec.SYNC
    + Query(b"SELECT 2").build()
    + codec.TERMINATE
)
ANSWERS = RESULT + READY[b"I"] + CONFIRMED + RESULT + READY[b"I"] + ERROR + READY[b"I"] + ERROR + READY[b"I"] + RESULT + READY[b"I"]


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted(cut % len(data) for cut in cuts), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(at) if start < end]


@settings(max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(st.lists(st.integers(0, 1000), max_size=12), st.lists(st.integers(0, 1000), max_size=12))
def test_how_bytes_are_cut_never_matters(tmp_path: Path, cuts: list[int], back: list[int]) -> None:
    whole, cut = Line(tmp_path), Line(tmp_path)
    whole.client(SCRIPT)
    whole.server(ANSWERS)
    for piece in pieces(SCRIPT, cuts):
        cut.client(piece)
    for piece in pieces(ANSWERS, back):
        cut.server(piece)
    assert cut.take() == whole.take()


def test_byte_by_byte(line: Line, tmp_path: Path) -> None:
    whole = Line(tmp_path)
    whole.client(SCRIPT)
    whole.server(ANSWERS)
    for at in range(len(SCRIPT)):
        line.client(SCRIPT[at : at + 1])
    for at in range(len(ANSWERS)):
        line.server(ANSWERS[at : at + 1])
    assert line.take() == whole.take()


MESSAGES = st.one_of(
    st.builds(
        lambda kind, body: codec.message(bytes([kind]), body), st.sampled_from(sorted(codec.FRONTEND_LIMITS)), st.binary(max_size=40)
    ),
    st.sampled_from([PIPELINE, codec.SYNC, codec.FLUSH, Query(b"SELECT 1").build(), Query(b"DROP TABLE t").build(), Execute(b"").build()]),
    st.binary(max_size=30),
)
REPLIES = st.one_of(
    st.builds(lambda kind, body: codec.message(bytes([kind]), body), st.sampled_from(sorted(codec.BACKEND_LIMITS)), st.binary(max_size=40)),
    st.sampled_from([RESULT, CONFIRMED, ERROR, READY[b"I"], READY[b"T"], ROW]),
    st.binary(max_size=30),
)


def _fuzz(tmp_path: Path, events: list[tuple[str, bytes]]) -> None:
    """Nothing but a refusal comes of noise, and no statement that was not judged reaches the server."""
    line = Line(tmp_path)
    sent = b""
    for side, data in events:
        if side == CLIENT:
            line.client(data)
        else:
            line.server(data)
        sent += line.take()[1]
    assert b"DROP TABLE" not in sent


EVENTS = st.lists(st.one_of(st.tuples(st.just("client"), MESSAGES), st.tuples(st.just("server"), REPLIES)), max_size=12)


@settings(max_examples=150, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(EVENTS)
def test_noise_never_breaks_the_relay(tmp_path: Path, events: list[tuple[str, bytes]]) -> None:
    _fuzz(tmp_path, events)


@pytest.mark.fuzz
@settings(max_examples=20_000, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None)
@given(EVENTS)
def test_noise_for_long(tmp_path: Path, events: list[tuple[str, bytes]]) -> None:
    _fuzz(tmp_path, events)


def test_what_a_session_holds_is_bounded(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("relays.postgres.statements.MAX_HELD", 2_500)
    monkeypatch.setattr("relays.postgres.statements.SHORT", 100)
    long = b"SELECT 1 -- " + b"x" * 1_000
    for name in (b"a", b"b"):
        line.client(Parse(name, long).build())
    assert not line.closed
    line.client(CloseTarget(b"S", b"a").build() + Parse(b"c", long).build())
    assert not line.closed
    line.client(Parse(b"d", long).build())
    assert line.closed
    assert codec.Report.parse(line.to_client()[-1][1]).get(b"C") == b"54000"


def test_what_portals_hold_is_bounded(line: Line, monkeypatch: pytest.MonkeyPatch) -> None:
    """Those that pass at once, too."""
    monkeypatch.setattr("relays.postgres.statements.MAX_HELD", 2_500)
    monkeypatch.setattr("relays.postgres.statements.SHORT", 100)
    line.client(Parse(b"", b"SELECT 1").build())
    for name in (b"", b"", b"p", b""):  # the unnamed one is replaced
        line.client(Bind(name, b"", (), (b"x" * 1_000,)).build())
        assert not line.closed
    line.client(Bind(b"q", b"", (), (b"x" * 1_000,)).build())
    assert line.closed
