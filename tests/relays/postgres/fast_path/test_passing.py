"""What may take the fast path, what brings a session off it, and that it then stands where it would have stood."""

from __future__ import annotations

from collections import Counter
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relays.postgres import codec
from relays.postgres.masks import Judged
from rules.model import Mask
from tests.relays.postgres.fast_path.server import DESCRIPTION, DONE, ERROR, ROW, Server
from tests.relays.postgres.harness import Line

READY = codec.ReadyForQuery(b"I").build()
ANSWER = DESCRIPTION + ROW + DONE + READY
PARSE = codec.Parse(b"s", b"SELECT a FROM t WHERE id = $1").build() + codec.SYNC
ASK = codec.Describe(b"P", b"").build()
RUN = codec.Execute(b"").build() + codec.SYNC
BIND = codec.Bind(b"", b"s", (), (b"5",), (0,)).build()


def query(text: bytes) -> bytes:
    return codec.Query(text).build()


def lines(tmp_path: Path) -> tuple[Line, Line]:
    """Two sessions of which only the second may let statements pass."""
    asked, passing = Line(tmp_path), Line(tmp_path)
    passing.session.leave.until = float("inf")
    return asked, passing


@pytest.fixture
def line(tmp_path: Path) -> Line:
    return lines(tmp_path)[1]


def say(line: Line, data: bytes) -> tuple[str, bytes]:
    """How what the client says was decided, and what it gets; the server is a whole one."""
    server = line.__dict__.setdefault("server_side", Server())
    line.session.leave.settle()
    line.session.decided.clear()
    line.client(data)
    got = b""
    while line.out["server"]:
        _, sent = line.take()
        line.server(server.answer(sent))
        got += line.out["client"]
        line.out["client"] = b""
    line.session.leave.settle()
    return "".join(sorted({how[0] for how, _ in line.session.decided})), got + line.take()[0]


def test_a_query_that_repeats_passes_with_other_numbers_too(line: Line) -> None:
    text = b"SELECT a FROM t WHERE id = %d AND n IN (1, %d) LIMIT 5"
    assert say(line, query(text % (1, 1))) == ("n", ANSWER)
    for numbers in ((1, 1), (2, 3), (999_999_999, 0)):
        assert say(line, query(text % numbers)) == ("p", ANSWER)
    assert say(line, query(text.replace(b"5", b"6") % (1, 1)))[0] == "n"
    assert say(line, query(text.replace(b"5", b"6") % (7, 8)))[0] == "p"


@pytest.mark.parametrize(
    "text",
    [
        b"SELECT 1; SELECT 2",
        b"SELECT set_config('search_path', 'x', false)",
        b"SELECT nextval('s')",
        b"UPDATE t SET a = 1 WHERE id = 1",
        b"DROP TABLE t",
        b"SELECT a/0 FROM t",
        b"SET search_path = x",
        b"PREPARE p AS SELECT 1",
        b"EXECUTE p",
        b"DECLARE c CURSOR FOR SELECT 1",
        b"COPY t TO STDOUT",
        b"SELECT a FROM t WHERE",
        b"",
    ],
)
def test_other_statements_are_asked_for_each_time(line: Line, text: bytes) -> None:
    for _ in range(4):
        assert "p" not in say(line, query(text))[0]


def test_bound_statements_pass_with_any_values(line: Line) -> None:
    say(line, PARSE)
    assert say(line, BIND + ASK + RUN) == ("n", codec.BIND_COMPLETE + ANSWER)
    assert say(line, BIND.replace(b"5", b"6") + ASK + RUN) == ("p", codec.BIND_COMPLETE + ANSWER)
    assert say(line, BIND + RUN) == ("p", codec.BIND_COMPLETE + ROW + DONE + READY)
    shown = [message.text for message in line.relay.recorded]
    assert shown[-4:] == [
        b"SELECT a FROM t WHERE id = $1\n-- $1 = 6",
        b"1\nSELECT 1",
        b"SELECT a FROM t WHERE id = $1\n-- $1 = 5",
        b"1\nSELECT 1",
    ]
    say(line, codec.CloseTarget(b"S", b"s").build() + codec.SYNC)
    assert say(line, BIND + ASK + RUN)[1].startswith(b"E"), "its name is gone"


def test_a_name_that_means_another_statement_is_judged_again(line: Line) -> None:
    say(line, PARSE)
    say(line, BIND + ASK + RUN)
    say(line, codec.CloseTarget(b"S", b"s").build() + codec.SYNC)
    say(line, codec.Parse(b"s", b"SELECT b FROM other WHERE id = $1").build() + codec.SYNC)
    assert say(line, BIND + ASK + RUN)[0] == "n"
    assert [operation.title for _, operation in line.session.decided] == ["select public.other"]


def test_new_rules_are_asked(line: Line) -> None:
    for _ in range(2):
        say(line, query(b"SELECT 1"))
    line.session.rules_version = "2"
    line.relay._core.until = 0.0  # as the permit's end does
    assert say(line, query(b"SELECT 1"))[0] == "n"
    assert say(line, query(b"SELECT 1"))[0] == "p"


@pytest.mark.parametrize("same", [True, False])
def test_only_what_was_masked_by_the_rules_in_force_is_learned(line: Line, same: bool, monkeypatch: pytest.MonkeyPatch) -> None:
    """Rules may change between a statement's Bind, which says how its answer is masked, and the end of the answer."""
    relay, answered, learned = line.relay, [], []
    relay.replies.learned = answered.append
    say(line, query(b"SELECT 1"))
    (reply,) = answered
    masks, other = (Mask("hide", columns=("public.t.a",)),), (Mask("hide", columns=("public.t.b",)),)
    monkeypatch.setattr(reply.reading, "known", replace(reply.reading.known, masks=masks))
    monkeypatch.setattr(reply, "judged", Judged(relay.masks.masking(masks if same else other), (), None))
    monkeypatch.setattr(type(relay), "_learn_query", lambda *given: learned.append(given[2]))
    type(relay)._learn_reply(relay, reply)
    assert bool(learned) is same


def test_another_state_of_the_session_is_asked(line: Line) -> None:
    for _ in range(2):
        say(line, query(b"SELECT 1"))
    status = codec.ParameterStatus(b"standard_conforming_strings", b"off").build()
    line.client(query(b"SELECT 1"))
    line.server(status + ANSWER)
    assert line.take()[0] == status + ANSWER
    assert say(line, query(b"SELECT 1"))[0] == "n"


def test_an_answer_that_is_another_comes_the_usual_way(line: Line) -> None:
    for _ in range(2):
        say(line, query(b"SELECT 1"))
    line.client(query(b"SELECT 1") * 2)
    line.server(ERROR + READY + ANSWER[:7])
    line.server(ANSWER[7:])
    assert line.take()[0] == ERROR + READY + ANSWER
    line.session.leave.settle()
    assert [message.text for message in line.relay.recorded][-4:] == [b"SELECT 1", b"SELECT 1", b"ERROR 22012", b"1\nSELECT 1"]
    assert say(line, query(b"SELECT 1"))[0] == "p"


def test_a_server_that_speaks_out_of_turn_is_cut_off(line: Line) -> None:
    for _ in range(2):
        say(line, query(b"SELECT 1"))
    assert line.relay._core.open
    line.server(ANSWER)
    assert line.closed


def test_what_has_passed_is_taken_back_by_nothing(line: Line) -> None:
    """A message that must be judged comes while answers are out: they arrive, and it waits for nothing but its own."""
    for _ in range(2):
        say(line, query(b"SELECT 1"))
    say(line, PARSE)
    say(line, BIND + ASK + RUN)
    line.client(query(b"SELECT 1") + BIND + RUN)
    line.client(query(b"DROP TABLE t"))
    line.server(ANSWER + codec.BIND_COMPLETE + ROW + DONE + READY + ERROR + READY)
    got, sent = line.take()
    assert sent.startswith(query(b"SELECT 1") + BIND + RUN)
    assert got.startswith(ANSWER + codec.BIND_COMPLETE + ROW + DONE + READY + b"E")
    assert b"not that" in got


def test_limits_and_times_give_no_leave(line: Line) -> None:
    line.session.leave.until = 0.0
    for _ in range(3):
        assert say(line, query(b"SELECT 1"))[0] == "n"


NAMES = st.sampled_from([b"", b"s", b"t"])
SELECTS = st.sampled_from(
    [b"SELECT 1", b"SELECT a FROM t WHERE id = 5", b"SELECT a FROM t WHERE id = 77", b"SELECT a/0 FROM t", b"DROP TABLE t"]
)
RUNS = st.tuples(NAMES, st.booleans(), st.sampled_from([b"5", None, b"\1"])).map(
    lambda drawn: codec.Bind(b"", drawn[0], (), (drawn[2],), (0,)).build() + (ASK if drawn[1] else b"") + RUN
)
MESSAGES = st.one_of(
    SELECTS.map(query),
    st.sampled_from([b"BEGIN", b"COMMIT", b"ROLLBACK"]).map(query),
    st.tuples(NAMES, SELECTS).map(lambda drawn: codec.Parse(*drawn).build()),
    RUNS,
    RUNS,
    st.sampled_from([codec.SYNC, codec.FLUSH, RUN, ASK + RUN, codec.Execute(b"").build(), codec.Describe(b"S", b"s").build()]),
    NAMES.map(lambda name: codec.CloseTarget(b"S", name).build()),
)
TURNS = st.lists(st.tuples(st.lists(MESSAGES, min_size=1, max_size=4), st.integers(1, 60), st.integers(1, 60)), max_size=14)


def talk(line: Line, turns: list[tuple[list[bytes], int, int]]) -> tuple[bytes, bytes]:
    """What client and server get; bytes come in pieces."""
    server = Server()
    got = sent = b""
    for messages, cut, answer_cut in turns:
        data = b"".join(messages)
        for piece in (data[:cut], data[cut:]) if cut < len(data) and cut % 3 == 0 else (data,):
            line.client(piece)
        while line.out["server"]:
            to_client, to_server = line.take()
            got, sent = got + to_client, sent + to_server
            answer = server.answer(to_server)
            for piece in (answer[:answer_cut], answer[answer_cut:]) if answer_cut % 3 == 0 else (answer,):
                if piece:
                    line.server(piece)
        got += line.take()[0]
    line.session.leave.settle()
    return got, sent


@settings(max_examples=150, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(TURNS)
def test_a_session_goes_the_same_way_with_and_without_it(tmp_path: Path, turns: list[tuple[list[bytes], int, int]]) -> None:
    asked, passing = lines(tmp_path)
    assert talk(asked, turns) == talk(passing, turns)
    assert asked.closed == passing.closed
    assert asked.relay.recorded == passing.relay.recorded
    count = [Counter(operation.title for _, operation in line.session.decided) for line in (asked, passing)]
    assert count[0] == count[1]
