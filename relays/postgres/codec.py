"""PostgreSQL messages <-> bytes, protocol 3.0 and 3.2 (PostgreSQL documentation, sections 54.7 and 54.8). No I/O.

A message is a type byte, a length that counts itself, and a body. Each class below reads one kind of body with `parse`, which raises
RemoteProtocolError for anything that is not exactly one, and writes a whole message with `build`. What a client says is in
`frontend`-classes, what a server says in `backend`-classes; some bytes mean different things in the two directions.

Bodies are bytes. Strings stay bytes too: what they mean depends on the session's encoding, which is not the codec's business.
"""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final, Self

from relays.wire import RemoteProtocolError

PROTOCOL_3_0: Final = 3 << 16
PROTOCOL_3_2: Final = 3 << 16 | 2
SSL_REQUEST: Final = 1234 << 16 | 5679
GSSENC_REQUEST: Final = 1234 << 16 | 5680
CANCEL_REQUEST: Final = 1234 << 16 | 5678

HEADER: Final = 5  # type and length
MAX_STARTUP: Final = 10_000  # MAX_STARTUP_PACKET_LENGTH of the server (pqcomm.h)
MAX_SMALL: Final = 65_536  # messages that hold a name or a number
MAX_QUERY: Final = 16 << 20  # Query and Parse; beyond 1 MiB the rules see an incomplete statement
MAX_BIND: Final = 64 << 20
MAX_LARGE: Final = 0x3FFF_FFFF  # PQ_LARGE_MESSAGE_LIMIT: MaxAllocSize - 1, for what is passed on in pieces
MAX_ERROR: Final = 1 << 20  # ErrorResponse, NoticeResponse, NotificationResponse
MAX_ROW_DESCRIPTION: Final = 4 << 20  # 1,664 columns with names of 63 bytes are 137 KiB
MAX_PASSWORD: Final = 65_536  # PG_MAX_AUTH_TOKEN_LENGTH
MAX_KEY: Final = 256  # secret of a cancel request, in protocol 3.2

# the bound of each kind of message, by direction; a kind that is not here is unknown
FRONTEND_LIMITS: Final[Mapping[int, int]] = {
    ord("Q"): MAX_QUERY,
    ord("P"): MAX_QUERY,
    ord("B"): MAX_BIND,
    ord("D"): MAX_SMALL,
    ord("E"): MAX_SMALL,
    ord("C"): MAX_SMALL,
    ord("F"): MAX_BIND,
    ord("H"): 4,
    ord("S"): 4,
    ord("X"): 4,
    ord("d"): MAX_LARGE,
    ord("c"): 4,
    ord("f"): MAX_SMALL,
    ord("p"): MAX_PASSWORD,
}
BACKEND_LIMITS: Final[Mapping[int, int]] = {
    ord("R"): MAX_SMALL,
    ord("K"): 8 + MAX_KEY,
    ord("S"): MAX_SMALL,
    ord("Z"): 5,
    ord("T"): MAX_ROW_DESCRIPTION,
    ord("D"): MAX_LARGE,
    ord("C"): MAX_SMALL,
    ord("I"): 4,
    ord("E"): MAX_ERROR,
    ord("N"): MAX_ERROR,
    ord("A"): MAX_ERROR,
    ord("1"): 4,
    ord("2"): 4,
    ord("3"): 4,
    ord("n"): 4,
    ord("s"): 4,
    ord("t"): MAX_ROW_DESCRIPTION,
    ord("G"): MAX_SMALL,
    ord("H"): MAX_SMALL,
    ord("W"): MAX_SMALL,
    ord("d"): MAX_LARGE,
    ord("c"): 4,
    ord("V"): MAX_LARGE,
    ord("v"): MAX_SMALL,
}

unpack_header: Final = struct.Struct("!BI").unpack_from
_I16: Final = struct.Struct("!h")
_U16: Final = struct.Struct("!H")
_I32: Final = struct.Struct("!i")
_U32: Final = struct.Struct("!I")
_KIND_NAME_IDS: Final = struct.Struct("!IHIhih")  # of a column: table, attribute, type, size, modifier, format


def check_header(kind: int, length: int, limits: Mapping[int, int]) -> None:
    """Raise RemoteProtocolError unless a message of that kind may be that long. `length` is as on the wire: it counts itself."""
    limit = limits.get(kind)
    if limit is None:
        raise RemoteProtocolError(f"unknown message type 0x{kind:02x}")
    if not 4 <= length <= limit:
        raise RemoteProtocolError(f"message {chr(kind)!r} has an invalid length: {length}")


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message with its header."""
    return kind + _U32.pack(len(body) + 4) + body


def split(data: bytes, limits: Mapping[int, int]) -> Iterator[tuple[int, bytes]]:
    """The messages of a buffer that holds whole ones only, as (kind, body). Raises RemoteProtocolError."""
    at, end = 0, len(data)
    while at < end:
        if end - at < HEADER:
            raise RemoteProtocolError("a message is cut off in its header")
        kind, length = unpack_header(data, at)
        check_header(kind, length, limits)
        stop = at + 1 + length
        if stop > end:
            raise RemoteProtocolError("a message is cut off")
        yield kind, data[at + HEADER : stop]
        at = stop


class Body:
    """A cursor over one message's body. Every method raises RemoteProtocolError where the body has not what is asked for."""

    __slots__ = ("at", "data")

    def __init__(self, data: bytes) -> None:
        self.data = data
        self.at = 0

    def take(self, count: int) -> bytes:
        stop = self.at + count
        if count < 0 or stop > len(self.data):
            raise RemoteProtocolError("a message is shorter than it says")
        piece = self.data[self.at : stop]
        self.at = stop
        return piece

    def byte(self) -> bytes:
        return self.take(1)

    def int16(self) -> int:
        return int.from_bytes(self.take(2), "big", signed=True)

    def uint16(self) -> int:
        return int.from_bytes(self.take(2), "big")

    def int32(self) -> int:
        return int.from_bytes(self.take(4), "big", signed=True)

    def uint32(self) -> int:
        return int.from_bytes(self.take(4), "big")

    def string(self) -> bytes:
        """Bytes up to the next NUL, without it."""
        stop = self.data.find(b"\0", self.at)
        if stop < 0:
            raise RemoteProtocolError("a string has no end")
        piece = self.data[self.at : stop]
        self.at = stop + 1
        return piece

    def value(self) -> bytes | None:
        """A length and that many bytes; a length of -1 is NULL."""
        length = self.int32()
        if length < -1:
            raise RemoteProtocolError("a value has a negative length")
        return None if length < 0 else self.take(length)

    def rest(self) -> bytes:
        piece = self.data[self.at :]
        self.at = len(self.data)
        return piece

    def formats(self) -> tuple[int, ...]:
        found = tuple(self.int16() for _ in range(self.uint16()))
        if any(each not in (0, 1) for each in found):
            raise RemoteProtocolError("a format code is neither text (0) nor binary (1)")
        return found

    def end(self) -> None:
        if self.at != len(self.data):
            raise RemoteProtocolError("a message is longer than its content")


def text(value: bytes) -> bytes:
    """A string as it stands in a message."""
    if b"\0" in value:
        raise ValueError("a string in a message cannot hold a NUL byte")
    return value + b"\0"


def _value(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else _I32.pack(len(value)) + value


_UNPACK_U16: Final = _U16.unpack_from
_UNPACK_I32: Final = _I32.unpack_from


def _format_codes(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """The format codes that stand at `at`, and where they end. Raises struct.error for a body that is cut."""
    (count,) = _UNPACK_U16(body, at)
    at += 2
    if not count:
        return (), at
    end = at + 2 * count
    found = struct.unpack_from(f"!{count}H", body, at)
    if max(found) > 1:
        raise RemoteProtocolError("a format code is neither text (0) nor binary (1)")
    return found, end


def _formats(formats: Sequence[int]) -> bytes:
    return _U16.pack(len(formats)) + b"".join(map(_I16.pack, formats))


# --- what a client says


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
        found = cls(cursor.string(), cursor.string(), tuple(cursor.uint32() for _ in range(cursor.uint16())))
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"P", text(self.name) + text(self.sql) + _U16.pack(len(self.types)) + b"".join(map(_U32.pack, self.types)))


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
            portal, statement = body[:end], body[end + 1 : at - 1]
            formats, at = _format_codes(body, at)
            (count,) = _UNPACK_U16(body, at)
            at += 2
            values: list[bytes | None] = []
            for _ in range(count):
                (length,) = _UNPACK_I32(body, at)
                at += 4
                if length >= 0:
                    values.append(body[at : at + length])
                    at += length
                elif length == -1:
                    values.append(None)
                else:
                    raise RemoteProtocolError("a value has a negative length")
            results, at = _format_codes(body, at)
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
        values = _U16.pack(len(self.values)) + b"".join(map(_value, self.values))
        return message(b"B", text(self.portal) + text(self.statement) + _formats(self.formats) + values + _formats(self.results))


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
    what, name = cursor.byte(), cursor.string()
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
        found = cls(cursor.string(), cursor.int32())
        cursor.end()
        return found

    def build(self) -> bytes:
        return message(b"E", text(self.portal) + _I32.pack(self.rows))


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
        return message(b"p", text(self.mechanism) + _value(self.data))


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


# --- what a server says

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
        return message(b"R", _U32.pack(self.code) + self.data)


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
        return message(b"K", _U32.pack(self.pid) + self.secret)


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
        parts = [_U16.pack(len(self.columns))]
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
        return message(b"D", _U16.pack(len(self.values)) + b"".join(map(_value, self.values)))


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
        return message(b"A", _U32.pack(self.pid) + text(self.channel) + text(self.payload))


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
        return message(b"t", _U16.pack(len(self.types)) + b"".join(map(_U32.pack, self.types)))


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
        return message(kind, bytes([self.format]) + _formats(self.columns))


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
        return message(b"v", _U32.pack(self.version) + _I32.pack(len(self.options)) + b"".join(map(text, self.options)))


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
