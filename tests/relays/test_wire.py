"""Buffers and readers: whole, byte by byte, one byte too many, one too few."""

from __future__ import annotations

from collections.abc import Callable
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from relays.wire import Buffer, Reader, RemoteProtocolError

FIELDS: list[tuple[Callable[[Reader], Any], bytes, Any]] = [
    (Reader.uint8, b"\xff", 255),
    (Reader.uint16, b"\x01\x02", 258),
    (Reader.int16, b"\xff\xff", -1),
    (Reader.uint32, b"\x80\0\0\0", 1 << 31),
    (Reader.int32, b"\xff\xff\xff\xfe", -2),
    (lambda reader: reader.take(3), b"abc", b"abc"),
    (lambda reader: reader.take(0), b"", b""),
    (Reader.cstring, b"name\0", b"name"),
    (Reader.cstring, b"\0", b""),
]


@pytest.mark.parametrize(("read", "data", "value"), FIELDS)
def test_a_field_is_read_and_nothing_behind_it(read: Callable[[Reader], Any], data: bytes, value: Any) -> None:
    reader = Reader(data + b"rest")
    assert read(reader) == value
    assert reader.rest() == b"rest"
    reader.finish()


@pytest.mark.parametrize(("read", "data", "value"), [each for each in FIELDS if each[1]])
def test_a_field_that_is_cut_is_an_error_and_not_a_shorter_field(read: Callable[[Reader], Any], data: bytes, value: Any) -> None:
    for length in range(len(data)):
        with pytest.raises(RemoteProtocolError, match="shorter"):
            read(Reader(data[:length]))


def test_a_negative_length_reads_nothing() -> None:
    with pytest.raises(RemoteProtocolError):
        Reader(b"abc").take(-1)


def test_what_is_left_over_is_an_error() -> None:
    with pytest.raises(RemoteProtocolError, match="Bind has 1 bytes too many"):
        Reader(b"x", "Bind").finish()


def test_a_buffer_gives_what_has_come_and_takes_no_more_than_its_limit() -> None:
    buffer = Buffer(4)
    buffer.feed(b"abc")
    assert (buffer.take(4), buffer.peek(2, 1), buffer.peek(3, 1), len(buffer)) == (None, b"bc", None, 3)
    buffer.feed(b"d")
    with pytest.raises(RemoteProtocolError, match="more than 4 bytes"):
        buffer.feed(b"e")
    assert buffer.take(3) == b"abc"
    assert buffer.take_all() == b"d"
    assert not buffer


@given(st.lists(st.binary(max_size=4), max_size=8))
def test_lines_are_the_same_however_they_come(chunks: list[bytes]) -> None:
    buffer, lines = Buffer(), []
    for chunk in chunks:
        buffer.feed(chunk)
        while (line := buffer.take_through(b"\n", 100)) is not None:
            lines.append(line)
    data = b"".join(chunks)
    assert b"".join(lines) + buffer.take_all() == data
    assert all(line.endswith(b"\n") and line.count(b"\n") == 1 for line in lines)
    assert len(lines) == data.count(b"\n")


def test_a_line_without_an_end_is_bounded() -> None:
    buffer = Buffer()
    buffer.feed(b"x" * 9)
    assert buffer.take_through(b"\n", 10) is None
    buffer.feed(b"x")
    with pytest.raises(RemoteProtocolError, match="within 10 bytes"):
        buffer.take_through(b"\n", 10)
