"""What a client says once it is connected."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, Self

from relays.postgres.codec.frames import (
    I32,
    MAX_NAME,
    U16,
    U32,
    Body,
    format_codes,
    message,
    packed_formats,
    packed_value,
    text,
    unpack_int32,
    unpack_uint16,
)
from relays.wire import RemoteProtocolError


def name_of(name: bytes) -> bytes:
    """The name of a statement or portal. Raises RemoteProtocolError for one that the server would cut: it takes two of them for the same
    (hash tables of NAMEDATALEN in prepare.c and portalmem.c), and what was judged under one would run under the other."""
    if len(name) > MAX_NAME:
        raise RemoteProtocolError(f"the name of a statement or portal is longer than {MAX_NAME} bytes", "42622")
    return name


@dataclass(frozen=True, slots=True)
class Query:
    """Q: one or more statements, run at once."""

    sql: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(cursor.string())
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"Q", text(self.sql))


@dataclass(frozen=True, slots=True)
class Parse:
    """P: prepare one statement under a name; the empty name is replaced by the next."""

    name: bytes
    sql: bytes
    types: tuple[int, ...] = ()  # OIDs of the parameters; 0 is left to the server

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(name_of(cursor.string()), cursor.string(), tuple(cursor.uint32() for _ in range(cursor.uint16())))
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"P", text(self.name) + text(self.sql) + U16.pack(len(self.types)) + b"".join(map(U32.pack, self.types)))


@dataclass(slots=True)  # not frozen: of all messages it is the one that is made most often
class Bind:
    """B: make a portal of a prepared statement and values."""

    portal: bytes
    statement: bytes
    formats: tuple[int, ...] = ()
    values: tuple[bytes | None, ...] = ()
    results: tuple[int, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        try:
            end = body.index(0)
            at = body.index(0, end + 1) + 1
            portal, statement = name_of(body[:end]), name_of(body[end + 1 : at - 1])
            formats, at = format_codes(body, at)
            (count,) = unpack_uint16(body, at)
            at += 2
            values: list[bytes | None] = []
            for _ in range(count):
                (length,) = unpack_int32(body, at)
                at += 4
                if length >= 0:
                    values.append(body[at : at + length])
                    at += length
                elif length == -1:
                    values.append(None)
                else:
                    raise RemoteProtocolError("a value has a negative length")
            results, at = format_codes(body, at)
        except (ValueError, struct.error):
            raise RemoteProtocolError("a message is shorter than it says") from None
        # a value that the slice cut short moved `at` beyond the end as well
        if at != len(body):
            raise RemoteProtocolError("a message is longer than its content")
        if len(formats) > 1 and len(formats) != count:
            raise RemoteProtocolError("a Bind message has another number of formats than values")
        return cls(portal, statement, formats, tuple(values), results)

    def format_of(self, index: int) -> int:
        """The format of value `index`: one format stands for all, none for text."""
        return 0 if not self.formats else self.formats[0] if len(self.formats) == 1 else self.formats[index]

    def build(self) -> bytes:
        values = U16.pack(len(self.values)) + b"".join(map(packed_value, self.values))
        return message(
            b"B", text(self.portal) + text(self.statement) + packed_formats(self.formats) + values + packed_formats(self.results)
        )


@dataclass(frozen=True, slots=True)
class Describe:
    """D: what a statement (S) takes and gives, or what a portal (P) gives."""

    what: bytes
    name: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        return cls(*_target(body))

    def build(self) -> bytes:
        return message(b"D", self.what + text(self.name))


@dataclass(frozen=True, slots=True)
class CloseTarget:
    """C: forget a statement (S) or a portal (P)."""

    what: bytes
    name: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        return cls(*_target(body))

    def build(self) -> bytes:
        return message(b"C", self.what + text(self.name))


def _target(body: bytes) -> tuple[bytes, bytes]:
    cursor = Body(body)
    what, name = cursor.byte(), name_of(cursor.string())
    cursor.end()
    if what not in (b"S", b"P"):
        raise RemoteProtocolError("a message names neither a statement (S) nor a portal (P)")
    return what, name


@dataclass(frozen=True, slots=True)
class Execute:
    """E: run a portal, for `rows` rows at most; 0 is no limit."""

    portal: bytes
    rows: int = 0

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(name_of(cursor.string()), cursor.int32())
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"E", text(self.portal) + I32.pack(self.rows))


@dataclass(frozen=True, slots=True)
class CopyFail:
    """f: the client gives up a COPY FROM STDIN."""

    reason: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(cursor.string())
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"f", text(self.reason))


@dataclass(frozen=True, slots=True)
class Password:
    """p: a password in clear, or its md5 digest."""

    password: bytes = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(cursor.string())
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"p", text(self.password))


@dataclass(frozen=True, slots=True)
class SASLInitialResponse:
    """p: the chosen mechanism and the client's first message."""

    mechanism: bytes
    data: bytes | None

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(cursor.string(), cursor.value())
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"p", text(self.mechanism) + packed_value(self.data))


@dataclass(frozen=True, slots=True)
class SASLResponse:
    """p: a further message of the client."""

    data: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        return cls(body)

    def build(self) -> bytes:
        return message(b"p", self.data)


SYNC: Final = message(b"S")
FLUSH: Final = message(b"H")
TERMINATE: Final = message(b"X")
COPY_DONE: Final = message(b"c")  # in both directions
