"""What every codec needs: a buffer, big-endian integers, and the two ways in which a conversation goes wrong."""

from __future__ import annotations

from struct import Struct, error
from typing import Final

INT16: Final = Struct("!h")
INT32: Final = Struct("!i")
UINT8: Final = Struct("!B")
UINT16: Final = Struct("!H")
UINT32: Final = Struct("!I")


class ProtocolError(Exception):
    """The conversation cannot go on. `code` is what the wire calls the reason (an SQLSTATE, say), empty for the protocol's own default.

    The text may be shown to the peer: it names what was wrong, and quotes nothing that was sent.
    """

    def __init__(self, message: str, code: str = "") -> None:
        super().__init__(message)
        self.message = message
        self.code = code


class RemoteProtocolError(ProtocolError):
    """The peer broke the protocol or one of our bounds."""


class LocalProtocolError(ProtocolError):
    """We were about to break it: a defect of ours."""


class Buffer:
    """Bytes that have come and are not yet taken. Taking from the front costs what is taken, not what remains (bytearray's own front gap).

    `limit` (bytes) bounds what may wait here: more raises RemoteProtocolError.
    """

    __slots__ = ("_data", "limit")

    def __init__(self, limit: int = 1 << 30) -> None:
        self._data = bytearray()
        self.limit = limit

    def __len__(self) -> int:
        return len(self._data)

    def __bool__(self) -> bool:
        return bool(self._data)

    def feed(self, data: bytes) -> None:
        """Append what was read. Raises RemoteProtocolError beyond `limit`."""
        if len(self._data) + len(data) > self.limit:
            raise RemoteProtocolError(f"more than {self.limit} bytes came where less was due")
        self._data += data

    def peek(self, count: int, offset: int = 0) -> bytes | None:
        """`count` bytes from `offset` without taking them; None when they have not all come."""
        end = offset + count
        return bytes(self._data[offset:end]) if len(self._data) >= end else None

    def take(self, count: int) -> bytes | None:
        """The next `count` bytes; None, and nothing is taken, when they have not all come."""
        data = self._data
        if len(data) < count:
            return None
        taken = bytes(data[:count])
        del data[:count]
        return taken

    def take_all(self) -> bytes:
        """Everything that waits."""
        taken = bytes(self._data)
        self._data.clear()
        return taken

    def take_through(self, end: bytes, limit: int) -> bytes | None:
        """Everything up to and with `end`; None when it has not come. Raises RemoteProtocolError when it is not within `limit` bytes."""
        found = self._data.find(end, 0, limit)
        if found < 0:
            if len(self._data) >= limit:
                raise RemoteProtocolError(f"no end within {limit} bytes")
            return None
        return self.take(found + len(end))


class Reader:
    """A cursor over one whole message. Every method raises RemoteProtocolError where the message ends too early."""

    __slots__ = ("_at", "_data", "_what")

    def __init__(self, data: bytes, what: str = "message", at: int = 0) -> None:
        self._data = data
        self._what = what
        self._at = at

    def __len__(self) -> int:
        """Bytes that are left."""
        return len(self._data) - self._at

    def _integer(self, form: Struct) -> int:
        try:
            (value,) = form.unpack_from(self._data, self._at)
        except error:
            raise self.short() from None
        self._at += form.size
        return int(value)

    def uint8(self) -> int:
        return self._integer(UINT8)

    def uint16(self) -> int:
        return self._integer(UINT16)

    def uint32(self) -> int:
        return self._integer(UINT32)

    def int16(self) -> int:
        return self._integer(INT16)

    def int32(self) -> int:
        return self._integer(INT32)

    def take(self, count: int) -> bytes:
        """The next `count` bytes."""
        end = self._at + count
        if count < 0 or end > len(self._data):
            raise self.short()
        taken = self._data[self._at : end]
        self._at = end
        return taken

    def cstring(self) -> bytes:
        """Bytes up to the next NUL, which is taken too."""
        end = self._data.find(b"\0", self._at)
        if end < 0:
            raise self.short()
        taken = self._data[self._at : end]
        self._at = end + 1
        return taken

    def rest(self) -> bytes:
        """Everything that is left."""
        return self.take(len(self))

    def finish(self) -> None:
        """Raises RemoteProtocolError when something is left: the two sides would read this message differently."""
        if len(self):
            raise RemoteProtocolError(f"{self._what} has {len(self)} bytes too many")

    def short(self) -> RemoteProtocolError:
        """The error of a message that ends before its last field."""
        return RemoteProtocolError(f"{self._what} is shorter than its fields")
