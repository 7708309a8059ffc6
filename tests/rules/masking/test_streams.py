"""Streams: where the borders between pieces fall never matters, and nothing passes before it could be judged."""

from __future__ import annotations

import itertools
import json
from collections.abc import Callable

import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from rules.masking import DETECTORS, Stream, TextStream, Unmaskable, compile_plan, terminal
from rules.masking import streams as streams_module
from rules.model import Mask

SECRET = b"hunter2-secret"
PLAN = compile_plan((Mask("p", jsonpath=("$..password",)), Mask("d", detect=DETECTORS)), secrets=(SECRET,))
JWT = b"eyJhbGciOiJIUzI1NiJ9.eyJzdWIiOiIxMjM0NTY3ODkwIn0.dozjgNryP4J3jVmNHl0w5N_XgL0n3I9PlFUP0THsR8U"


def events() -> Stream:
    found = PLAN.stream("text/event-stream; charset=utf-8")
    assert found is not None
    return found


def lines() -> Stream:
    found = PLAN.stream("application/x-ndjson")
    assert found is not None
    return found


def text() -> TextStream:
    return PLAN.text_stream()


def fed(stream: Stream | TextStream, data: bytes, cuts: list[int]) -> bytes:
    borders = sorted({0, len(data), *(cut % (len(data) + 1) for cut in cuts)})
    return b"".join(stream.feed(data[start:end]) for start, end in itertools.pairwise(borders)) + stream.finish()


EVENTS = [
    (b'{"password":"x"}\n\n', b'{"password":"[redacted]"}\n\n'),
    (b'\n [{\n"password": "x"\n}]\n\n', b'\n [{\n"password": "[redacted]"\n}]\n\n'),
    (b'data: {"password":"x","a":1}\n\n', b'data: {"password":"[redacted]","a":1}\n\n'),
    (b'id: 7\r\nevent: e\r\ndata:{"a":1}\r\n\r\n', None),
    (b'data: {\ndata: "password": "x"\ndata: }\n\n', b'data: {\ndata: "password": "[redacted]"\ndata: }\n\n'),
    (b"data: [DONE]\n\n", None),
    (b': {"password":"x"}\r\r', b': {"password":"[redacted]"}\r\r'),
    (b"data: key AKIAIOSFODNN7EXAMPLE\ndata: two\n\n", b"data: key [redacted]\ndata: two\n\n"),
    (b'\xef\xbb\xbfdata: {"password":1}\n\n', b'\xef\xbb\xbfdata: {"password":"[redacted]"}\n\n'),
    (b"event: hunter2-secret\n\n", b"event: [redacted]\n\n"),
    (b"\n\n\n", None),
    (b'data: {"p":"' + SECRET + b'"}\n\n', b'data: {"p":"[redacted]"}\n\n'),
]


@pytest.mark.parametrize(("data", "expected"), EVENTS)
def test_events_whole_and_byte_by_byte(data: bytes, expected: bytes | None) -> None:
    expected = data if expected is None else expected
    for cuts in ([], list(range(len(data)))):
        assert fed(events(), data, cuts) == expected
    assert fed(events(), data + b"data: x", [5]) == expected + b"data: x"
    assert PLAN.body("text/event-stream", data).data == expected


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from([data for data, _ in EVENTS]), max_size=5).map(b"".join), st.lists(st.integers(0, 500), max_size=12))
def test_borders_never_matter_to_events(data: bytes, cuts: list[int]) -> None:
    masked = fed(events(), data, cuts)
    assert masked == PLAN.body("text/event-stream", data).data
    assert SECRET not in masked
    assert b'"x"' not in masked


LINES = [b'{"password":"x"}\n', b'{"a":1}\n', b"\n", b'\x1e{"a":"hunter2\\u002dsecret"}\r\n', b"3\n", b'["a@b.com"]\n']


@settings(max_examples=150, deadline=None)
@given(st.lists(st.sampled_from(LINES), max_size=6).map(b"".join), st.lists(st.integers(0, 300), max_size=12))
def test_borders_never_matter_to_lines(data: bytes, cuts: list[int]) -> None:
    masked = fed(lines(), data, cuts)
    assert masked == PLAN.body("application/x-ndjson", data).data
    for line in masked.splitlines():
        if line.strip(b"\x1e\r"):
            value = json.loads(line.strip(b"\x1e\r"))
            assert value in (3, {"a": 1}, {"password": "[redacted]"}, {"a": "[redacted]"}, ["[redacted]"])


@pytest.mark.parametrize(
    ("make", "data"),
    [
        (lines, b'{"password":"x"\n'),
        (lines, b"plain words\n"),
        (events, b'data: {"password":"x"\n\n'),
        (events, b'data: {"password":"x",}\n\n'),
    ],
)
def test_what_cannot_be_masked_ends_the_stream_for_good(make: Callable[[], Stream], data: bytes) -> None:
    stream = make()
    with pytest.raises(Unmaskable):
        stream.feed(data)
    for again in (lambda: stream.feed(b"{}\n\n"), stream.finish):
        with pytest.raises(Unmaskable):
            again()


@pytest.mark.parametrize("make", [events, lines])
def test_what_is_held_is_bounded(make: Callable[[], Stream], monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(streams_module, "LONGEST_UNIT", 1000)
    stream = make()
    with pytest.raises(Unmaskable, match="longer"):
        for _ in range(100):
            assert stream.feed(b"data: " + b"x" * 100) == b""


@pytest.mark.parametrize(
    "label", ["application/json", "text/plain", "", "text/event-stream; charset=utf-16", "application/x-ndjson; charset=utf-7"]
)
def test_what_is_not_streamable(label: str) -> None:
    assert PLAN.stream(label) is None


def test_a_unit_passes_as_soon_as_it_is_whole() -> None:
    stream = events()
    assert stream.feed(b'data: {"a":1}\n') == b""
    assert stream.feed(b"\ndata") == b'data: {"a":1}\n\n'


PEM = b"-----BEGIN RSA PRIVATE KEY-----\nMIIEowIBAAKCAQEA\nabcd+/==\n-----END RSA PRIVATE KEY-----"
TEXTS = [
    SECRET, b"AKIAIOSFODNN7EXAMPLE", JWT, b"Bearer abc.def-123/4=", b"4111 1111 1111 1111", b"DE89 3704 0044 0532 0130 00", b"123-45-6789",
    b"bob@example.com", b"+44 20 7946 0958", b"hunter2%2Dsecret", PEM, b"(212) 555-0100", b"aHVudGVyMi1zZWNyZXQ=",
]  # fmt: skip
FILLERS = [b" ", b"\n", b" ok ", b"$ ls -l\r\n", b"\x1b[0m", b" and ", b"\t", b"; "]
TELLING = [
    SECRET,
    *b"AKIAIOSF eyJzdWI abc.def 0532 45-6789 bob@ 7946 hunter2 MIIE abcd+ 555-0100 HVudGVyMi1zZWNyZX".split(),
    b"1111 1111",
]


@settings(max_examples=300, deadline=None)
@given(
    st.lists(st.tuples(st.sampled_from(FILLERS), st.sampled_from([*TEXTS, b"word"]), st.sampled_from(FILLERS)), max_size=5).map(
        lambda parts: b"".join(piece for part in parts for piece in part)
    ),
    st.lists(st.integers(0, 400), max_size=15),
)
def test_no_border_lets_a_secret_pass_in_text(data: bytes, cuts: list[int]) -> None:
    masked = fed(text(), data, cuts)
    for telling in TELLING:
        assert telling not in masked
    if not any(found in data for found in TEXTS):
        assert masked == data


@pytest.mark.parametrize("secret", TEXTS)
def test_text_byte_by_byte(secret: bytes) -> None:
    data = b"$ cat it\r\n" + secret + b"\r\nbye\r\n"
    masked = fed(text(), data, list(range(len(data))))
    assert masked.startswith(b"$ cat it\r\n")
    assert masked.endswith(b"\r\nbye\r\n")
    assert b"[redacted]" in masked
    for telling in TELLING:
        assert telling not in masked


def test_text_passes_at_the_end_of_a_word() -> None:
    stream = text()
    assert stream.feed(b"total 12\nuser@host:~$ ") == b"total 12\nuser@host:~$ "
    assert stream.feed(b"ls") == b""
    assert stream.finish() == b"ls"


def test_a_key_that_never_ends_hides_all_that_follows() -> None:
    stream = text()
    out = stream.feed(b"x -----BEGIN PRIVATE KEY-----\nMIIEabc\n") + stream.feed(b"AAAA\nBBBB\n" * 1000) + stream.finish()
    assert out == b"x -----BEGIN PRIVATE KEY-----[redacted]"


@pytest.mark.parametrize("piece", [1, 7, 1000, 10**6])
def test_a_word_longer_than_may_be_held(piece: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(terminal, "HOLD", 5000)
    long = JWT + b"x" * 20_000
    data = b"a " + b"y" * 20_000 + b" " + long + b" b"
    stream = text()
    masked = fed(stream, data, list(range(0, len(data), piece)))
    assert masked == b"a " + b"y" * 20_000 + b" [redacted] b"


def test_what_text_holds_is_bounded() -> None:
    stream = text()
    for _ in range(100):
        stream.feed(b"z" * 10_000)
        assert len(stream._held) <= 2 * terminal.HOLD


@pytest.mark.parametrize("opener", [b"Bearer ", b"1 ", b"-----BEGIN ", b"DE12 "])
def test_only_a_few_words_wait_for_the_next(opener: bytes) -> None:
    """All that waits is looked at with every piece: a client may have it come byte by byte."""
    stream = text()
    for _ in range(300):
        stream.feed(opener)
        assert len(stream._held) <= 700
    assert b"abc.def" not in stream.feed(b"Bearer abc.def-123/4=\n") + stream.finish()


def test_an_empty_plan_passes_text_at_once() -> None:
    stream = compile_plan(()).text_stream()
    assert stream.feed(b"AKIAIOSFODNN7EXAM") + stream.feed(b"PLE") + stream.finish() == b"AKIAIOSFODNN7EXAMPLE"


@pytest.mark.parametrize(
    ("pieces", "shown"),
    [
        ([b"Password: "], b"Password: "),
        ([b"hal", b"f"], b"half"),
        ([b"say hunter2-s"], b"say "),
        ([b"hun"], b"hun"),  # too short to tell: half of all words would wait
        ([b"x -----BEGIN RSA PRI"], b"x "),
        ([b"Bearer abc.def-123/4="], b"Bearer [redacted]"),
    ],
)
def test_what_waits_for_a_word_that_does_not_come_is_let_go(pieces: list[bytes], shown: bytes) -> None:
    stream = text()
    assert b"".join([*map(stream.feed, pieces), stream.idle()]) == shown
    assert not stream.holding or shown != b"".join(pieces)


def test_a_secret_that_comes_slowly_stays_hidden() -> None:
    stream = text()
    out = b""
    for piece in (b"it is ", SECRET[:6], SECRET[6:], b" indeed\n", PEM[:20], PEM[20:50], PEM[50:], b"\nend\n"):
        out += stream.feed(piece) + stream.idle()
    out += stream.finish()
    assert out.startswith(b"it is ")
    assert out.endswith(b"end\n")
    assert b" indeed\n" in out
    assert not any(telling in out for telling in (SECRET, SECRET[6:], b"MIIE", b"abcd+"))
