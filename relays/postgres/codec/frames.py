"""What every PostgreSQL message has: a type byte, a length that counts itself, and a body of integers, strings and values."""

from __future__ import annotations

import struct
from collections.abc import Iterator, Mapping, Sequence
from typing import Final

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
MAX_NAME: Final = 63  # NAMEDATALEN - 1: bytes of a name of a statement or portal that the server tells apart
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
I16: Final = struct.Struct("!h")
U16: Final = struct.Struct("!H")
I32: Final = struct.Struct("!i")
U32: Final = struct.Struct("!I")


def check_header(kind: int, length: int, limits: Mapping[int, int]) -> None:
    """Raise RemoteProtocolError unless a message of that kind may be that long. `length` is as on the wire: it counts itself."""
    limit = limits.get(kind)
    if limit is None:
        raise RemoteProtocolError(f"unknown message type 0x{kind:02x}")
    if not 4 <= length <= limit:
        raise RemoteProtocolError(f"message {chr(kind)!r} has an invalid length: {length}")


def message(kind: bytes, body: bytes = b"") -> bytes:
    """One message with its header."""
    return kind + U32.pack(len(body) + 4) + body


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


def packed_value(value: bytes | None) -> bytes:
    return b"\xff\xff\xff\xff" if value is None else I32.pack(len(value)) + value


unpack_uint16: Final = U16.unpack_from
unpack_int32: Final = I32.unpack_from


def format_codes(body: bytes, at: int) -> tuple[tuple[int, ...], int]:
    """The format codes that stand at `at`, and where they end. Raises struct.error for a body that is cut."""
    (count,) = unpack_uint16(body, at)
    at += 2
    if not count:
        return (), at
    end = at + 2 * count
    found = struct.unpack_from(f"!{count}H", body, at)
    if max(found) > 1:
        raise RemoteProtocolError("a format code is neither text (0) nor binary (1)")
    return found, end


def packed_formats(formats: Sequence[int]) -> bytes:
    return U16.pack(len(formats)) + b"".join(map(I16.pack, formats))
