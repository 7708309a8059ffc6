"""What a server says."""

from __future__ import annotations

import struct
from dataclasses import dataclass, field
from typing import Final, Self

from relays.postgres.codec.frames import I32, MAX_KEY, MAX_SMALL, U16, U32, Body, message, packed_formats, packed_value, text
from relays.wire import RemoteProtocolError

_KIND_NAME_IDS: Final = struct.Struct("!IHIhih")  # of a column: table, attribute, type, size, modifier, format
AUTH_OK: Final = 0
AUTH_CLEARTEXT: Final = 3
AUTH_MD5: Final = 5
AUTH_SASL: Final = 10
AUTH_SASL_CONTINUE: Final = 11
AUTH_SASL_FINAL: Final = 12


@dataclass(frozen=True, slots=True)
class Authentication:
    """R: what the server wants next of a client that logs in. `data` is a salt, mechanisms, or a SASL message."""

    code: int
    data: bytes = b""

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        return cls(cursor.uint32(), cursor.rest())

    @property
    def mechanisms(self) -> tuple[bytes, ...]:
        """Of AUTH_SASL. Raises RemoteProtocolError."""
        cursor, found = Body(self.data), []
        while name := cursor.string():
            found.append(name)
        cursor.end()
        return tuple(found)

    def build(self) -> bytes:
        return message(b"R", U32.pack(self.code) + self.data)


@dataclass(frozen=True, slots=True)
class BackendKeyData:
    """K: what a cancel request must present: 4 bytes in protocol 3.0, up to 256 in 3.2."""

    pid: int
    secret: bytes = field(repr=False)

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(cursor.uint32(), cursor.rest())
        if not 4 <= len(found.secret) <= MAX_KEY:
            raise RemoteProtocolError("a cancel key has an invalid length")
        return found

    def build(self) -> bytes:
        return message(b"K", U32.pack(self.pid) + self.secret)


@dataclass(frozen=True, slots=True)
class ParameterStatus:
    """S: the value that a reported setting has now."""

    name: bytes
    value: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(cursor.string(), cursor.string())
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"S", text(self.name) + text(self.value))


@dataclass(frozen=True, slots=True)
class ReadyForQuery:
    """Z: idle (I), in a transaction (T), or in a failed one (E)."""

    status: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        if body not in (b"I", b"T", b"E"):
            raise RemoteProtocolError("the server is ready in a state that does not exist")
        return cls(body)

    def build(self) -> bytes:
        return message(b"Z", self.status)


@dataclass(frozen=True, slots=True)
class Column:
    """One column of a result. `table` and `attribute` are 0 for what is not plainly a table's column."""

    name: bytes
    table: int = 0  # OID
    attribute: int = 0
    type: int = 25  # OID; text
    size: int = -1
    modifier: int = -1
    format: int = 0


@dataclass(frozen=True, slots=True)
class RowDescription:
    """T: the columns of the rows that follow, or would."""

    columns: tuple[Column, ...]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor, found = Body(body), []
        for _ in range(cursor.uint16()):
            name = cursor.string()
            found.append(Column(name, *_KIND_NAME_IDS.unpack(cursor.take(_KIND_NAME_IDS.size))))
        cursor.end()
        return cls(tuple(found))

    def build(self) -> bytes:
        parts = [U16.pack(len(self.columns))]
        for each in self.columns:
            numbers = (each.table, each.attribute, each.type, each.size, each.modifier, each.format)
            parts.append(text(each.name) + _KIND_NAME_IDS.pack(*numbers))
        return message(b"T", b"".join(parts))


@dataclass(frozen=True, slots=True)
class DataRow:
    """D: one row."""

    values: tuple[bytes | None, ...]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(tuple(cursor.value() for _ in range(cursor.uint16())))
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"D", U16.pack(len(self.values)) + b"".join(map(packed_value, self.values)))


@dataclass(frozen=True, slots=True)
class CommandComplete:
    """C: the tag of a statement that is done."""

    tag: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(cursor.string())
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"C", text(self.tag))


@dataclass(frozen=True, slots=True)
class Report:
    """E and N: an error or a notice, as fields by their letter (section 54.9). The bytes do not say which of the two."""

    fields: tuple[tuple[bytes, bytes], ...]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor, found = Body(body), []
        while (letter := cursor.byte()) != b"\0":
            found.append((letter, cursor.string()))
        cursor.end()
        return cls(tuple(found))

    def get(self, letter: bytes) -> bytes:
        return next((value for each, value in self.fields if each == letter), b"")

    def build(self, kind: bytes = b"E") -> bytes:
        return message(kind, b"".join(letter + text(value) for letter, value in self.fields) + b"\0")


@dataclass(frozen=True, slots=True)
class NotificationResponse:
    """A: somebody's NOTIFY."""

    pid: int
    channel: bytes
    payload: bytes

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(cursor.uint32(), cursor.string(), cursor.string())
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"A", U32.pack(self.pid) + text(self.channel) + text(self.payload))


@dataclass(frozen=True, slots=True)
class ParameterDescription:
    """t: the types of a statement's parameters."""

    types: tuple[int, ...]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(tuple(cursor.uint32() for _ in range(cursor.uint16())))
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"t", U16.pack(len(self.types)) + b"".join(map(U32.pack, self.types)))


@dataclass(frozen=True, slots=True)
class CopyResponse:
    """G (the client is to send), H (the server will) and W (both): the format of the data."""

    format: int
    columns: tuple[int, ...]

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        overall = cursor.byte()[0]
        found = cls(overall, cursor.formats())
        cursor.end()
        if overall not in (0, 1):
            raise RemoteProtocolError("a COPY is neither text (0) nor binary (1)")
        return found

    def build(self, kind: bytes) -> bytes:
        return message(kind, bytes([self.format]) + packed_formats(self.columns))


@dataclass(frozen=True, slots=True)
class NegotiateProtocolVersion:
    """v: the newest minor version that is spoken here, and the `_pq_.` options that are not known."""

    version: int
    options: tuple[bytes, ...] = ()

    @classmethod
    def parse(cls, body: bytes) -> Self:
        cursor = Body(body)
        found = cls(cursor.uint32(), tuple(cursor.string() for _ in range(_bounded(cursor.int32()))))
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"v", U32.pack(self.version) + I32.pack(len(self.options)) + b"".join(map(text, self.options)))


def _bounded(count: int) -> int:
    if not 0 <= count <= MAX_SMALL:
        raise RemoteProtocolError("a message has an invalid number of options")
    return count


PARSE_COMPLETE: Final = message(b"1")
BIND_COMPLETE: Final = message(b"2")
CLOSE_COMPLETE: Final = message(b"3")
NO_DATA: Final = message(b"n")
EMPTY_QUERY: Final = message(b"I")
PORTAL_SUSPENDED: Final = message(b"s")


def report(severity: bytes, code: bytes, sentence: str, *, detail: str = "", hint: str = "") -> Report:
    """An error or notice of our own; NUL bytes are taken out."""
    fields = [(b"S", severity), (b"V", severity), (b"C", code), (b"M", _clean(sentence))]
    if detail:
        fields.append((b"D", _clean(detail)))
    if hint:
        fields.append((b"H", _clean(hint)))
    return Report(tuple(fields))


def _clean(sentence: str) -> bytes:
    return sentence.replace("\0", "?").encode("utf-8", "replace")
