"""Recordings of terminals: what is written, and what is read back."""

from __future__ import annotations

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from hopgate.asciicast import MAX_LINE, BadCast, Cast, Event, Header, read_cast


class Clock:
    def __init__(self) -> None:
        self.now = 100.0

    def __call__(self) -> float:
        return self.now


def written(*steps: tuple[float, str, Any], width: int = 80, height: int = 24) -> list[Any]:
    """The JSON values of the lines after these steps: seconds that passed, method, argument."""
    lines: list[bytes] = []
    clock = Clock()
    cast = Cast(lines.append, width, height, clock, 1_700_000_000.9)
    for passed, method, argument in steps:
        clock.now += passed
        getattr(cast, method)(*(argument if isinstance(argument, tuple) else (argument,)))
    cast.close()
    cast.close()
    cast.output(b"after the end")
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 and line.isascii() for line in lines)
    return [json.loads(line) for line in lines]


def test_a_recording() -> None:
    assert written(
        (0.5, "output", b"$ "), (1, "marker", "uptime: allowed\n"), (0.25, "output", b"up \x1b[1m3 d\x1b[0m\r\n"), (0, "resize", (100, 30))
    ) == [
        {"version": 2, "width": 80, "height": 24, "timestamp": 1_700_000_000},
        [0.5, "o", "$ "],
        [1.5, "m", "uptime: allowed "],
        [1.75, "o", "up \x1b[1m3 d\x1b[0m\r\n"],
        [1.75, "r", "100x30"],
    ]


def test_characters_cut_in_pieces() -> None:
    text = "é日🙂".encode()
    events = written(*((0, "output", bytes((byte,))) for byte in text))
    assert "".join(event[2] for event in events[1:]) == "é日🙂"
    assert written((0, "output", text[:4]))[-1][2] == "\ufffd"
    assert written((0, "output", b"\xff\xfe"))[-1][2] == "\ufffd\ufffd"


def test_sequences_that_do_more_than_show_are_not_written() -> None:
    events = written((0, "output", b"\x1b]52;c;"), (0, "output", b"ZXZpbA==\x07x"), (0, "output", b"\x1b[c"), (0, "marker", "\x1b]0;t\x07"))
    assert [event[1:] for event in events[1:]] == [["o", "x"], ["m", " ]0;t "]]


@pytest.mark.parametrize(("given_size", "size"), [((0, 0), (80, 24)), ((10**9, 10**9), (1000, 1000)), ((-1, 5), (1, 5))])
def test_sizes_that_cannot_be(given_size: tuple[int, int], size: tuple[int, int]) -> None:
    events = written(width=given_size[0], height=given_size[1])
    assert (events[0]["width"], events[0]["height"]) == size
    assert len(written((0, "resize", (80, 24)))) == 1


def test_it_is_read_back() -> None:
    lines: list[bytes] = []
    clock = Clock()
    cast = Cast(lines.append, 80, 24, clock, 5.0)
    cast.output(b"a")
    cast.marker("m")
    clock.now += 2
    cast.resize(1, 2)
    assert list(read_cast(lines)) == [Header(80, 24, 5.0), Event(0, "o", "a"), Event(0, "m", "m"), Event(2, "r", "1x2")]


def test_what_others_wrote_is_screened_too() -> None:
    lines = [b'{"version": 2, "width": 1, "height": 1}', b"", b'[1, "o", "\\u001b]0;x"]', b'[2, "o", "\\u0007y"]', b'[3, "i", "secret"]']
    lines += [b'{"version": 2, "width": 1, "height": 1}', b'[1, "o", "z"]']
    assert [event.text for event in read_cast(lines) if isinstance(event, Event)] == ["", "y", "z"]


@pytest.mark.parametrize(
    "line",
    [b"{}", b'{"version": 1, "width": 1, "height": 1}', b'{"version": 2, "width": "x", "height": 1}', b"[]", b'[1, "o"]', b'[1, "o", 2]',
     b'["x", "o", "y"]', b'[true, "o", "y"]', b'[1, "z", "y"]', b"x", b"\xff", b"1",
     b"[" * 10_000, b'[1, "o", "' + b"x" * MAX_LINE + b'"]'],
    ids=lambda line: line[:20],
)  # fmt: skip
def test_lines_that_are_no_asciicast(line: bytes) -> None:
    with pytest.raises(BadCast):
        list(read_cast([line]))


@given(st.lists(st.binary(max_size=20)))
def test_whatever_comes(pieces: list[bytes]) -> None:
    lines: list[bytes] = []
    cast = Cast(lines.append, 80, 24, Clock())
    for piece in pieces:
        cast.output(piece)
    cast.close()
    found = "".join(event.text for event in read_cast(lines) if isinstance(event, Event))
    assert found == "".join(json.loads(line)[2] for line in lines[1:])
