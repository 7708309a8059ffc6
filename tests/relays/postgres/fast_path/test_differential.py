"""Whatever a client says, in whatever pieces: a session goes the same way with the fast path, in Python and compiled, and without it; and
the server runs nothing that would have been denied.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Callable
from dataclasses import replace
from pathlib import Path

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from relays.postgres import codec, passing
from relays.postgres.fast_path import Core, Entry
from relays.postgres.fast_path import core as twin
from rules.model import Decision, Operation
from tests.relays.postgres.fast_path.database import Database
from tests.relays.postgres.harness import ALLOW, DENY, Line, Session


class Guarded(Session):
    """Denies what touches the table of the schema `secret`, or may: one whose schema is not certain."""

    def judge(self, operation: Operation) -> Decision:
        every = [part.facts for part in (operation.parts or (operation,))]
        names = {name for facts in every for name in (*facts.get("reads"), *facts.get("writes"))}
        verbs = {verb for facts in every for verb in facts.get("verbs")}
        clean = operation.complete and not verbs & {"drop", "unknown"} and all(str(name).startswith("public.") for name in names)
        return replace(ALLOW if clean else DENY, version=self.rules_version)


TEXTS = st.sampled_from(
    [
        b"SELECT 1",
        b"SELECT a FROM t",
        b"SELECT a FROM t WHERE id = 5",
        b"SELECT a FROM t WHERE id = 77",
        b"SELECT a/0 FROM t",
        b"DROP TABLE t",
        b"COPY t TO STDOUT",
        b"COPY t FROM STDIN",
        b"SET search_path = secret",
        b"SET search_path = public",
        b"BEGIN",
        b"COMMIT",
        b"ROLLBACK",
        b"PREPARE n AS SELECT a FROM t",
        b"EXECUTE n",
        b"DEALLOCATE n",
        b"DEALLOCATE ALL",
    ]
)
SELECTS = st.sampled_from(
    [b"SELECT 1", b"SELECT a FROM t", b"SELECT a FROM t WHERE id = 5", b"SELECT a FROM t WHERE id = 77", b"BEGIN", b"COMMIT"]
)
NAMES = st.sampled_from([b"", b"n", b"m"])
PORTALS = st.sampled_from([b"", b"", b"p"])
PARSE = st.builds(codec.Parse, NAMES, TEXTS).map(codec.Parse.build)
BIND = st.builds(codec.Bind, PORTALS, NAMES).map(codec.Bind.build)
RUN = st.builds(
    lambda name, described: (
        codec.Bind(b"", name).build() + (codec.Describe(b"P", b"").build() if described else b"") + codec.Execute(b"").build() + codec.SYNC
    ),
    NAMES,
    st.booleans(),
)
BETWEEN = st.one_of(
    st.sampled_from([b"SET search_path = secret", b"SET search_path = public", b"ROLLBACK"]).map(
        lambda text: codec.SYNC + codec.Query(text).build()
    ),
    PARSE,
    st.just(codec.CloseTarget(b"S", b"n").build()),
)
LATE = st.builds(  # a portal that runs in another state than it was bound in
    lambda begin, text, between: (
        begin + codec.Parse(b"", text).build() + codec.Bind(b"p", b"").build() + between + codec.Execute(b"p").build() + codec.SYNC
    ),
    st.sampled_from([b"", codec.Query(b"BEGIN").build()]),
    st.sampled_from([b"COPY t TO STDOUT", b"EXECUTE n", b"SELECT a FROM t"]),
    BETWEEN,
)
COPY = st.sampled_from([codec.Query(b"COPY t FROM STDIN").build(), codec.Query(b"SELECT 1; COPY t FROM STDIN; SELECT 2").build()])
DATA = st.sampled_from([codec.message(b"d", b"1\n"), codec.message(b"d", b"1\n" * 40), codec.message(b"c"), codec.message(b"f", b"no\0")])
MESSAGES = st.one_of(
    TEXTS.map(lambda text: codec.Query(text).build()),
    st.lists(TEXTS, min_size=2, max_size=3).map(lambda texts: codec.Query(b"; ".join(texts)).build()),
    PARSE,
    BIND,
    RUN,
    SELECTS.map(lambda text: codec.Query(text).build()),
    LATE,
    st.builds(codec.Execute, PORTALS, st.integers(0, 1)).map(codec.Execute.build),
    st.builds(codec.Describe, st.sampled_from([b"S", b"P"]), NAMES).map(codec.Describe.build),
    st.builds(codec.CloseTarget, st.sampled_from([b"S", b"P"]), NAMES).map(codec.CloseTarget.build),
    st.sampled_from([codec.SYNC, codec.SYNC, codec.FLUSH]),
    st.builds(lambda start, data: start + b"".join(data), COPY, st.lists(DATA, max_size=3)),
)
# messages, where they are cut, whether the server answers at once, and into pieces of how many bytes
TURN = st.tuples(
    st.lists(MESSAGES, min_size=1, max_size=4),
    st.one_of(st.just([]), st.lists(st.integers(1, 120), max_size=2)),
    st.sampled_from([True, True, False]),
    st.one_of(st.just(0), st.integers(0, 60)),
)
TURNS = st.lists(TURN, min_size=1, max_size=5).flatmap(lambda pool: st.lists(st.sampled_from(pool), max_size=12))  # what is known passes
type Turns = list[tuple[list[bytes], list[int], bool, int]]
type Cores = tuple[type, type] | None


def pieces(data: bytes, cuts: list[int]) -> list[bytes]:
    at = [0, *sorted({cut for cut in cuts if cut < len(data)}), len(data)]
    return [data[start:end] for start, end in itertools.pairwise(at)]


def talk(line: Line, database: Database, turns: Turns) -> tuple[bytes, bytes]:
    """What client and server get."""
    got = sent = waiting = b""

    def answered(size: int) -> None:
        nonlocal got, sent, waiting
        while waiting:
            answer, waiting = database.answer(waiting), b""
            for piece in [answer[at : at + size] for at in range(0, len(answer), size)] if size else [answer]:
                if piece:
                    line.server(piece)
            took()

    def took() -> None:
        nonlocal got, sent, waiting
        to_client, to_server = line.take()
        got, sent, waiting = got + to_client, sent + to_server, waiting + to_server

    for messages, cuts, at_once, size in turns:
        for piece in pieces(b"".join(messages), cuts):
            line.client(piece)
            took()
            if at_once:
                answered(size)
    answered(0)
    return got, sent


def session(tmp_path: Path, turns: Turns, cores: Cores, monkeypatch: pytest.MonkeyPatch) -> tuple[object, ...]:
    """Everything that can be seen of one; without `cores` it may not take the fast path."""
    with monkeypatch.context() as patch:
        patch.setattr("tests.relays.postgres.harness.Session", Guarded)
        if cores is not None:
            patch.setattr(passing, "Core", cores[0])
            patch.setattr(passing, "Entry", cores[1])
        line, database = Line(tmp_path), Database()
        line.session.leave.until = 0.0 if cores is None else float("inf")
        got, sent = talk(line, database, turns)
        line.session.leave.settle()
    assert all(word != b"DROP" and path == b"public" for word, path in database.touched), database.touched
    return got, sent, line.closed, line.relay.recorded, Counter(operation.title for _, operation in line.session.decided)


def same_way(tmp_path: Path, turns: Turns, monkeypatch: pytest.MonkeyPatch) -> None:
    found = session(tmp_path, turns, None, monkeypatch)
    for cores in {(twin.Core, twin.Entry), (Core, Entry)}:
        assert session(tmp_path, turns, cores, monkeypatch) == found


quick: Callable[..., object] = settings(max_examples=150, deadline=None, suppress_health_check=list(HealthCheck))
long: Callable[..., object] = settings(max_examples=20_000, deadline=None, suppress_health_check=list(HealthCheck))


@quick
@given(TURNS)
def test_a_session_goes_the_same_way(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turns: Turns) -> None:
    same_way(tmp_path, turns, monkeypatch)


@pytest.mark.fuzz
@long
@given(TURNS)
def test_a_session_goes_the_same_way_for_long(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, turns: Turns) -> None:
    same_way(tmp_path, turns, monkeypatch)
