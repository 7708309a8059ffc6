"""The fast path knows whole transactions and nothing else, in Python and compiled alike."""

from __future__ import annotations

import os
import time
from types import ModuleType, SimpleNamespace
from typing import Any

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from hopgate.flow_format import encode_tcp_message
from relays.postgres import codec
from relays.postgres.fast_path import core as twin
from relays.wire import RemoteProtocolError

try:
    from relays.postgres.fast_path import _core as compiled
except ImportError:
    compiled = None
    if os.environ.get("HOPGATE_COMPILED"):
        raise

MODULES = [
    pytest.param(twin, id="python"),
    pytest.param(
        compiled,
        id="compiled",
        marks=pytest.mark.skipif(compiled is None, reason="relays.postgres.fast_path._core is not built: no Cython or no C compiler"),
    ),
]
both = pytest.mark.parametrize("module", MODULES)

DESCRIPTION = codec.RowDescription((codec.Column(b"a", 16400, 2),)).build()
OTHER = codec.RowDescription((codec.Column(b"a", 16400, 3),)).build()
ROW = codec.DataRow((b"7", None, b"x y", b"\xff\x00", "é".encode())).build()
DONE = codec.CommandComplete(b"SELECT 1").build()
READY = codec.ReadyForQuery(b"I").build()
IN_TRANSACTION = codec.ReadyForQuery(b"T").build()
TEXT = b"SELECT a FROM t WHERE id = 5 LIMIT 10"
ANSWER = DESCRIPTION + ROW + DONE + READY
ASK = codec.Describe(b"P", b"").build()
RUN = codec.Execute(b"").build() + codec.SYNC


def query(text: bytes) -> bytes:
    return codec.Query(text).build()


def bind(*values: bytes | None, name: bytes = b"s", formats: tuple[int, ...] = (), portal: bytes = b"") -> bytes:
    return codec.Bind(portal, name, formats, values, (0,)).build()


class Session:
    """A core that knows one query, whose first number is free, and one prepared statement."""

    def __init__(self, module: ModuleType, *, exact: bool = True, head: int = 100, suspects: Any = None) -> None:
        self.statements: dict[bytes, Any] = {}
        self.renewed = self.filled = 0
        self.until = float("inf")
        self.core = module.Core(self.statements, self.renew, self.full, suspects, head)
        self.query = module.Entry("query", b"", DESCRIPTION, exact)
        self.statement = module.Entry("statement", b"SELECT a FROM t WHERE id = $1", DESCRIPTION, exact, lambda body: b"shown: " + body)
        self.core.learn(TEXT, b"\1\0", self.query)
        self.statements[b"s"] = SimpleNamespace(fast=self.core.admit(self.statement))
        self.statements[b"slow"] = SimpleNamespace(fast=None)
        self.core.open = True

    def renew(self) -> float:
        self.renewed += 1
        return self.until

    def full(self) -> None:
        self.filled += 1
        self.core.take_record()

    def said(self) -> list[tuple[bool, bytes]]:
        """What the recording has got, read as tnetstrings."""
        from mitmproxy.io import tnetstring

        record, count, _ = self.core.take_record()
        found = tnetstring.loads(b"%d:%b]" % (len(record), record))
        assert count == len(found)
        assert all(abs(at - time.time()) < 600 for _, _, at in found)
        return [(client, text) for client, text, _ in found]

    def counts(self) -> dict[str, int]:
        return {entry.learned: count for entry, count in self.core.take_counts()}


@both
def test_a_query_passes_with_another_number_where_that_is_free(module: ModuleType) -> None:
    session = Session(module)
    other = query(TEXT.replace(b" 5 ", b" 123456789 "))
    assert session.core.client(query(TEXT) + other) == query(TEXT) + other
    assert session.core.server(ANSWER) == ANSWER
    assert session.core.server(DESCRIPTION + DONE + IN_TRANSACTION) == DESCRIPTION + DONE + IN_TRANSACTION
    assert session.core.transactions == 2
    assert (session.core.rows, session.core.bytes) == (1, len(ANSWER + DESCRIPTION + DONE + IN_TRANSACTION))
    assert (chr(session.core.status), session.core.ended, session.core.bound) == ("T", True, False)
    assert session.core.last is session.query
    assert session.said() == [
        (True, TEXT),
        (True, TEXT.replace(b" 5 ", b" 123456789 ")),
        (False, b"7\t\\N\tx y\t\\xff00\t" + "é".encode() + b"\nSELECT 1"),
        (False, b"SELECT 1"),
    ]
    assert session.counts() == {"query": 2}
    assert session.counts() == {}


@both
@pytest.mark.parametrize(
    "text",
    [
        TEXT.replace(b"10", b"11"),  # not free
        TEXT.replace(b" 5 ", b" 1234567890 "),  # no int4
        TEXT.replace(b" 5 ", b" -5 "),
        TEXT.replace(b" 5 ", b" 5. "),
        TEXT.replace(b" 5 ", b" 5e1 "),
        TEXT.replace(b" 5 ", b" 0x5 "),
        TEXT.replace(b" 5 ", b" 5_0 "),
        TEXT.replace(b" 5 ", b" 5::text "),
        TEXT.replace(b" 5 ", b" $5 "),
        TEXT.replace(b" 5 ", b" '5' "),
        TEXT.replace(b" 5 ", b" 5--\n"),
        TEXT.replace(b" 5 ", b" \xd9\xa5 "),  # ARABIC-INDIC DIGIT FIVE
        TEXT.replace(b" 5 ", b" \0 "),
        TEXT.replace(b" 5 ", b"  "),
        TEXT + b" ",
        TEXT + b"\0",
        TEXT[:-1],
        TEXT.lower(),
        b"",
        TEXT + b" " * 2000,
    ],
)
def test_another_text_does_not_pass(module: ModuleType, text: bytes) -> None:
    session = Session(module)
    raw = b"Q" + (len(text) + 5).to_bytes(4, "big") + text + b"\0"
    assert session.core.client(raw) is None
    assert session.core.client(query(TEXT) + raw) is None
    assert session.core.pending == []
    assert session.counts() == {}
    assert session.said() == []


@both
def test_a_text_without_numbers_passes_as_it_stands(module: ModuleType) -> None:
    session = Session(module)
    begin = module.Entry("begin", b"", None, True)
    session.core.learn(b"BEGIN", b"", begin)
    assert session.core.client(query(b"BEGIN")) == query(b"BEGIN")
    done = codec.CommandComplete(b"BEGIN").build() + IN_TRANSACTION
    assert session.core.server(done) == done
    assert session.core.client(query(b"BEGIN")) is not None
    assert session.core.server(DESCRIPTION + done) is None, "it had no result before"


@both
def test_bound_statements_pass_and_show_their_values(module: ModuleType) -> None:
    session = Session(module)
    data = bind(b"5", None, b"a\nb", formats=(0, 0, 0)) + ASK + RUN + bind(b"x" * 2000) + ASK + RUN
    assert session.core.client(data) == data
    answer = codec.BIND_COMPLETE + ANSWER
    assert session.core.server(answer * 2) == answer * 2
    assert session.core.bound
    text = session.statement.text
    rows = b"7\t\\N\tx y\t\\xff00\t" + "é".encode() + b"\nSELECT 1"
    assert session.said() == [
        (True, text + b"\n-- $1 = 5\n-- $2 = NULL\n-- $3 = a\\nb"),
        (True, text + b"\n-- $1 = " + b"x" * 1024),
        (False, rows),
        (False, rows),
    ]
    assert session.counts() == {"statement": 2}


@both
def test_binary_values_are_shown_by_the_relay(module: ModuleType) -> None:
    session = Session(module)
    data = bind(b"\xab", b"x", formats=(1, 0))
    assert session.core.client(data + ASK + RUN) is not None
    assert session.said() == [(True, b"shown: " + data[5:])]
    session.statement.show = None
    assert session.core.client(data + ASK + RUN) is None
    assert session.core.client(bind(b"\xab", b"x", formats=(1,)) + ASK + RUN) is None
    assert session.core.client(bind(b"5", b"x", formats=(0,)) + ASK + RUN) is not None


@both
@pytest.mark.parametrize("exact", [True, False])
def test_a_description_is_asked_for_where_columns_are_masked(module: ModuleType, exact: bool) -> None:
    """The client does not ask, and gets none."""
    session = Session(module, exact=exact)
    data = bind(b"5") + RUN
    assert session.core.client(query(TEXT) + data) == query(TEXT) + bind(b"5") + (ASK if exact else b"") + RUN
    answer = codec.BIND_COMPLETE + (DESCRIPTION if exact else b"") + ROW + DONE + READY
    assert session.core.server(ANSWER + answer) == ANSWER + codec.BIND_COMPLETE + ROW + DONE + READY


@both
def test_suspended_portals_are_whole_answers(module: ModuleType) -> None:
    session = Session(module)
    data = bind(b"5") + ASK + codec.Execute(b"", 1).build() + codec.SYNC
    answer = codec.BIND_COMPLETE + DESCRIPTION + ROW + codec.PORTAL_SUSPENDED + READY
    assert session.core.client(data) == data
    assert session.core.server(answer) == answer
    assert session.said()[1][1].endswith(b"\n(suspended)")


@both
@pytest.mark.parametrize(
    "data",
    [
        bind(b"5", name=b"slow") + ASK + RUN,
        bind(b"5", name=b"none") + ASK + RUN,
        bind(b"5", portal=b"p") + ASK + RUN,
        bind(b"5") + codec.Describe(b"S", b"").build() + RUN,
        bind(b"5") + codec.Describe(b"P", b"p").build() + RUN,
        bind(b"5") + ASK + codec.Execute(b"p").build() + codec.SYNC,
        bind(b"5") + ASK + codec.Execute(b"").build() + codec.FLUSH,
        bind(b"5") + ASK + codec.Execute(b"", 0).build(),
        bind(b"5") + ASK + codec.Execute(b"", 0x8000_0000 - (1 << 32)).build() + codec.SYNC,
        bind(b"5") + codec.SYNC,
        bind(b"5") + ASK + RUN + codec.SYNC,
        b"B\0\0\0\4",
        b"B\0\0\0\5\0",
        b"B\0\0\0\3" + bind(b"5") + ASK + RUN,
        codec.Parse(b"", b"SELECT 1").build(),
        codec.TERMINATE,
        codec.SYNC,
        b"Q",
        b"\0" * 40,
    ],
    ids=repr,
)
def test_other_messages_do_not_pass(module: ModuleType, data: bytes) -> None:
    session = Session(module)
    for before in (b"", query(TEXT)):
        assert session.core.client(before + data) is None
    assert session.core.pending == []
    assert session.said() == []


@both
def test_bind_messages_that_do_not_add_up_do_not_pass(module: ModuleType) -> None:
    session = Session(module)
    good = bind(b"5", b"66", formats=(0, 1))
    for at in range(5, len(good)):
        for byte in (0, 1, 2, 255, good[at] ^ 128):
            bad = good[:at] + bytes([byte]) + good[at + 1 :]
            passed = session.core.client(bad + ASK + RUN)
            try:
                same = codec.Bind.parse(bad[5:])
            except RemoteProtocolError:
                assert passed is None, bad
            else:
                assert passed is None or (same.statement, same.portal) == (b"s", b"")


@both
@pytest.mark.parametrize(
    "answer",
    [
        OTHER + ROW + DONE + READY,  # another column than was judged
        ROW + DONE + READY,
        DESCRIPTION + ROW + DONE,
        DESCRIPTION + ROW + READY,
        DESCRIPTION + DESCRIPTION + DONE + READY,
        DESCRIPTION + DONE + DONE + READY,
        DESCRIPTION + DONE + codec.ReadyForQuery(b"E").build(),
        DESCRIPTION + DONE + b"Z\0\0\0\5?",
        codec.BIND_COMPLETE + ANSWER,
        codec.ParameterStatus(b"TimeZone", b"UTC").build() + ANSWER,
        b"E\0\0\0\5\0" + READY,
        b"N\0\0\0\5\0" + ANSWER,
        DESCRIPTION + b"I\0\0\0\4" + READY,
        DESCRIPTION + codec.PORTAL_SUSPENDED + READY,
        b"n\0\0\0\4" + DONE + READY,
        ANSWER + b"A",
        ANSWER + ANSWER,
        DESCRIPTION + b"D\0\0\0\5\0" + DONE + READY,
        DESCRIPTION + b"D\xff\xff\xff\xff" + DONE + READY,
        DESCRIPTION + b"C\0\0\0\4" + READY,
        b"",
        b"T",
    ],
    ids=repr,
)
def test_other_answers_are_left_alone(module: ModuleType, answer: bytes) -> None:
    session = Session(module)
    assert session.core.client(query(TEXT)) is not None
    session.said()
    for _ in range(2):
        assert session.core.server(answer) is None
    assert (session.core.transactions, session.core.rows, session.core.bytes) == (0, 0, 0)
    assert session.said() == []
    ((entry, asked, injected, statement),) = session.core.take_pending()
    assert (entry, asked, injected, statement) == (session.query, False, False, None)
    assert session.core.server(ANSWER) is None, "nobody asked"


@both
def test_every_cut_of_an_answer_is_left_alone(module: ModuleType) -> None:
    session = Session(module)
    session.core.client(query(TEXT) + bind(b"5") + RUN)
    whole = ANSWER + codec.BIND_COMPLETE + ANSWER
    for cut in range(1, len(whole)):
        if cut != len(ANSWER):
            assert session.core.server(whole[:cut]) is None
    assert session.core.server(whole) == ANSWER + codec.BIND_COMPLETE + ROW + DONE + READY


@both
def test_every_cut_of_a_request_is_left_alone(module: ModuleType) -> None:
    session = Session(module)
    whole = query(TEXT) + bind(b"5") + ASK + RUN
    for cut in range(1, len(whole)):
        if cut != len(query(TEXT)):
            assert session.core.client(whole[:cut]) is None
    assert session.core.client(whole) == whole


@both
def test_a_suspected_secret_is_left_alone(module: ModuleType) -> None:
    session = Session(module, suspects=lambda data: b"x y" in data)
    session.core.client(query(TEXT) * 2)
    assert session.core.server(ANSWER) is None
    assert session.core.server(ANSWER.replace(b"x y", b"x-y")) is not None


@both
def test_nothing_passes_without_leave(module: ModuleType) -> None:
    session = Session(module)
    session.until = 0.0
    assert session.core.client(query(TEXT)) is None
    session.until = time.monotonic() - 1
    assert session.core.client(query(TEXT)) is not None, "leave that is given counts for this"
    assert session.core.client(query(TEXT)) is not None
    assert session.renewed == 3
    session.until = float("inf")
    assert session.core.client(query(TEXT)) is not None
    assert session.core.client(query(TEXT)) is not None
    assert session.renewed == 4
    session.core.open = False
    assert session.core.client(query(TEXT)) is None


@both
def test_leave_that_fails_is_told(module: ModuleType) -> None:
    session = Session(module)

    def fail() -> float:
        raise ValueError("no")

    session.core = module.Core(session.statements, fail, session.full)
    session.core.open = True
    with pytest.raises(ValueError, match="no"):
        session.core.client(query(TEXT))
    assert session.core.pending == []


@both
def test_what_is_forgotten_does_not_pass(module: ModuleType) -> None:
    session = Session(module)
    session.core.forget()
    assert session.core.client(query(TEXT)) is None
    assert session.core.client(bind(b"5") + ASK + RUN) is None
    session.core.learn(TEXT, b"\1\0", session.query)
    assert session.core.client(query(TEXT)) is not None


@both
def test_what_is_known_is_bounded(module: ModuleType) -> None:
    session = Session(module)
    for number in range(twin.MOST_ENTRIES + 5):
        session.core.learn(b"SELECT a FROM t LIMIT %d" % number, b"\0", module.Entry(number, b""))
    assert session.core.client(query(TEXT)) is None
    assert session.core.client(query(b"SELECT a FROM t LIMIT %d" % (twin.MOST_ENTRIES + 4))) is not None


@both
def test_what_is_not_answered_is_bounded(module: ModuleType) -> None:
    session = Session(module)
    assert session.core.client(query(TEXT) * (twin.MOST_PENDING - 1)) is not None
    assert session.core.client(query(TEXT)) is not None
    assert session.core.client(query(TEXT)) is None
    assert session.core.server(ANSWER) == ANSWER
    assert session.core.client(query(TEXT)) is not None


@both
def test_a_full_record_is_told(module: ModuleType) -> None:
    session = Session(module)
    data = query(TEXT) * 100
    while not session.filled:
        assert session.core.client(data) == data
        assert session.core.server(ANSWER * 100) == ANSWER * 100
    assert session.core.messages < 200


@both
def test_the_head_of_a_result_is_recorded(module: ModuleType) -> None:
    session = Session(module, head=12)
    row = codec.DataRow((b"1234567",)).build()
    session.core.client(query(TEXT) * 2)
    assert session.core.server((DESCRIPTION + row * 3 + DONE + READY) * 2) is not None
    assert session.said()[2:] == [(False, b"1234567\n1234" + twin.CUT + b"SELECT 1")] * 2
    session = Session(module, head=0)
    session.core.client(query(TEXT))
    session.core.server(ANSWER)
    assert session.said()[1] == (False, b"SELECT 1")


def test_records_are_written_as_flows_are() -> None:
    for module in (twin, compiled):
        if module is None:
            continue
        session = Session(module)
        session.core.client(query(TEXT))
        record, _, first = session.core.take_record()
        assert record == encode_tcp_message(True, TEXT, float(record[-19:-2])) or record[-19:-2].endswith(b"0")
        assert abs(first - float(record[-19:-2])) < 1e-3


MESSAGES = st.sampled_from(
    [
        query(TEXT),
        query(TEXT.replace(b" 5 ", b" 77 ")),
        bind(b"5"),
        bind(None),
        ASK,
        RUN,
        codec.SYNC,
        query(b"DROP TABLE t"),
        b"Q\0\0",
        b"\0",
    ]
)
ANSWERS = st.sampled_from(
    [ANSWER, codec.BIND_COMPLETE, DESCRIPTION, OTHER, ROW, DONE, READY, IN_TRANSACTION, codec.PORTAL_SUSPENDED, b"C\0"]
)


@pytest.mark.skipif(compiled is None, reason="relays.postgres.fast_path._core is not built: no Cython or no C compiler")
@settings(max_examples=300, deadline=None)
@given(turns=st.lists(st.tuples(st.booleans(), st.lists(st.one_of(MESSAGES, ANSWERS), max_size=6)), max_size=12), exact=st.booleans())
def test_both_do_the_same(turns: list[tuple[bool, list[bytes]]], exact: bool) -> None:
    one, other = Session(twin, exact=exact), Session(compiled, exact=exact)  # type: ignore[arg-type]
    for client, pieces in turns:
        data = b"".join(pieces)
        results = [(session.core.client if client else session.core.server)(data) for session in (one, other)]
        assert (results[0] or None) == (results[1] or None)
        for name in ("status", "ended", "bound", "transactions", "rows", "bytes", "messages"):
            assert getattr(one.core, name) == getattr(other.core, name), name
    assert one.said() == other.said()
    assert one.counts() == other.counts()
    assert [part[1:3] for part in one.core.take_pending()] == [part[1:3] for part in other.core.take_pending()]


class Outlets:
    def __init__(self) -> None:
        self.told: list[tuple[str, object]] = []

    def to_client(self, data: bytes) -> None:
        self.told.append(("to client", data))

    def to_server(self, data: bytes) -> None:
        self.told.append(("to server", data))

    def client_leg(self, data: bytes) -> None:
        self.told.append(("client leg", data))

    def server_leg(self, data: bytes) -> None:
        self.told.append(("server leg", data))

    def failed(self, error: Exception) -> None:
        self.told.append(("failed", type(error)))


@both
def test_what_passes_goes_to_the_outlets_and_the_rest_to_the_legs(module: ModuleType) -> None:
    session, outlets = Session(module), Outlets()
    core = session.core
    core.stand_between(outlets, outlets.client_leg, outlets.server_leg, outlets.failed)
    core.from_client(query(TEXT))
    core.from_server(ANSWER)
    core.from_client(query(b"DROP TABLE t"))
    core.from_server(b"unasked")
    core.open = False
    core.from_client(query(TEXT))
    core.from_server(ANSWER)
    assert outlets.told == [
        ("to server", query(TEXT)),
        ("to client", ANSWER),
        ("client leg", query(b"DROP TABLE t")),
        ("server leg", b"unasked"),
        ("client leg", query(TEXT)),
        ("server leg", ANSWER),
    ]
    assert session.counts() == {"query": 1}


@both
def test_outlets_are_looked_up_each_time(module: ModuleType) -> None:
    session, outlets = Session(module), Outlets()
    session.core.stand_between(outlets, outlets.client_leg, outlets.server_leg, outlets.failed)
    outlets.to_server = outlets.failed  # type: ignore[assignment,method-assign]
    session.core.from_client(query(TEXT))
    assert outlets.told == [("failed", bytes)]  # the target was cut off: nothing goes there any more


@both
@pytest.mark.parametrize("side", ["client", "server"])
def test_an_exception_ends_it(module: ModuleType, side: str) -> None:
    def fail(data: object = None) -> Any:
        raise RuntimeError("no")

    outlets = Outlets()
    session = Session(module, suspects=fail)
    core = session.core
    core.stand_between(outlets, fail, fail, outlets.failed)
    if side == "client":
        core.from_client(b"?")
    else:
        core.from_client(query(TEXT))
        core.from_server(ANSWER)
    assert outlets.told[-1] == ("failed", RuntimeError)
    assert ("to client", ANSWER) not in outlets.told
