"""Packets of SFTP version 3: a length that does not count itself, a type, a request id, and fields.

Source: draft-ietf-secsh-filexfer-02, and OpenSSH's PROTOCOL (section 4) where its server reads something else. Strings are bytes here.
"""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from struct import Struct, error
from typing import Final, NamedTuple

from relays.wire import UINT32, Reader, RemoteProtocolError

VERSION_3: Final = 3
MAX_PACKET: Final = 256 << 10  # bytes of a packet after its length: SFTP_MAX_MSG_LENGTH of OpenSSH (sftp.h)
LEAST_PACKET: Final = 5  # a type, and a request id or a version
MAX_HANDLE: Final = 256  # bytes, section 3 of the draft
MAX_EXTENSIONS: Final = 64
MAX_EXTENSION_NAME: Final = 128  # bytes

INIT: Final = 1
VERSION: Final = 2
OPEN: Final = 3
CLOSE: Final = 4
READ: Final = 5
WRITE: Final = 6
LSTAT: Final = 7
FSTAT: Final = 8
SETSTAT: Final = 9
FSETSTAT: Final = 10
OPENDIR: Final = 11
READDIR: Final = 12
REMOVE: Final = 13
MKDIR: Final = 14
RMDIR: Final = 15
REALPATH: Final = 16
STAT: Final = 17
RENAME: Final = 18
READLINK: Final = 19
SYMLINK: Final = 20
STATUS: Final = 101
HANDLE: Final = 102
DATA: Final = 103
NAME: Final = 104
ATTRS: Final = 105
EXTENDED: Final = 200
EXTENDED_REPLY: Final = 201

REQUESTS: Final = frozenset(range(OPEN, SYMLINK + 1)) | {EXTENDED}
# what may answer each kind of request, besides STATUS
REPLIES: Final = {
    OPEN: HANDLE, OPENDIR: HANDLE, READ: DATA, READDIR: NAME, REALPATH: NAME, READLINK: NAME, LSTAT: ATTRS, STAT: ATTRS, FSTAT: ATTRS,
    EXTENDED: EXTENDED_REPLY,
}  # fmt: skip

OK: Final = 0
END_OF_FILE: Final = 1
NO_SUCH_FILE: Final = 2
PERMISSION_DENIED: Final = 3
FAILURE: Final = 4
BAD_MESSAGE: Final = 5
OP_UNSUPPORTED: Final = 8

# flags of OPEN, section 6.3
FOR_READ: Final = 0x01
FOR_WRITE: Final = 0x02
APPEND: Final = 0x04
CREATE: Final = 0x08
TRUNCATE: Final = 0x10
EXCLUSIVE: Final = 0x20
OPEN_FLAGS: Final = 0x3F

HEAD: Final = Struct("!IBI")  # length, type, request id
STRING_HEAD: Final = Struct("!IBII")  # and the length of the string that comes first in all requests and in DATA and HANDLE
WRITE_TAIL: Final = Struct("!QI")  # behind the handle of WRITE and READ: offset, length
UINT64: Final = Struct("!Q")
UINT32_PAIR: Final = Struct("!II")


class Fields(Reader):
    """A cursor over one packet's fields. Every method raises RemoteProtocolError where the packet ends too early."""

    __slots__ = ()

    def uint64(self) -> int:
        try:
            (value,) = UINT64.unpack_from(self._data, self._at)
        except error:
            raise self.short() from None
        self._at += 8
        return int(value)

    def string(self) -> bytes:
        return self.take(self.uint32())


class Attributes(NamedTuple):
    """ATTRS of a request, section 5. What is not given is None; times in seconds since the epoch."""

    size: int | None = None
    owner: tuple[int, int] | None = None  # uid, gid
    permissions: int | None = None
    times: tuple[int, int] | None = None  # access, modification
    extended: int = 0  # pairs

    def describe(self) -> str:
        """For a reviewer: `size 0, owner 0:0, mode 4755`."""
        found = []
        if self.size is not None:
            found.append(f"size {self.size}")
        if self.owner is not None:
            found.append(f"owner {self.owner[0]}:{self.owner[1]}")
        if self.permissions is not None:
            found.append(f"mode {self.permissions & 0o7777:04o}")
        if self.times is not None:
            found.append(f"times {self.times[0]} {self.times[1]}")
        if self.extended:
            found.append(f"{self.extended} extended attributes")
        return ", ".join(found)

    @property
    def special(self) -> bool:
        """Whether set-user-id, set-group-id or the sticky bit is asked for."""
        return bool((self.permissions or 0) & 0o7000)


def attributes(fields: Fields) -> Attributes:
    """ATTRS at the cursor. Raises RemoteProtocolError for flags that version 3 does not have: what follows could not be told."""
    flags = fields.uint32()
    if flags & ~0x8000000F:
        raise RemoteProtocolError("attributes that version 3 does not have")
    size = fields.uint64() if flags & 1 else None
    owner = (fields.uint32(), fields.uint32()) if flags & 2 else None
    permissions = fields.uint32() if flags & 4 else None
    times = (fields.uint32(), fields.uint32()) if flags & 8 else None
    extended = fields.uint32() if flags & 0x80000000 else 0
    for _ in range(extended):
        fields.string()
        fields.string()
    return Attributes(size, owner, permissions, times, extended)


def packet(kind: int, body: bytes) -> bytes:
    """A whole packet."""
    return UINT32.pack(len(body) + 1) + bytes((kind,)) + body


def string(value: bytes) -> bytes:
    return UINT32.pack(len(value)) + value


def init() -> bytes:
    """What the gateway asks the target for: version 3, nothing else."""
    return packet(INIT, UINT32.pack(VERSION_3))


def version(extensions: Iterable[tuple[bytes, bytes]]) -> bytes:
    """VERSION with extensions as (name, data)."""
    return packet(VERSION, UINT32.pack(VERSION_3) + b"".join(string(part) for pair in extensions for part in pair))


def realpath(request: int, path: bytes) -> bytes:
    return packet(REALPATH, UINT32.pack(request) + string(path))


def status(request: int, code: int, message: str) -> bytes:
    """STATUS with a message for people; OpenSSH's client shows its own words for the code."""
    return packet(STATUS, UINT32_PAIR.pack(request, code) + string(message.encode("utf-8", "replace")) + string(b"en"))


def opening(data: bytes) -> tuple[int, Sequence[tuple[bytes, bytes]]]:
    """The version and the extensions of a whole INIT or VERSION. Raises RemoteProtocolError."""
    fields = Fields(data, "SFTP opening", 5)
    number = fields.uint32()
    extensions: list[tuple[bytes, bytes]] = []
    while len(fields):
        name, value = fields.string(), fields.string()
        if len(name) > MAX_EXTENSION_NAME or len(extensions) >= MAX_EXTENSIONS:
            raise RemoteProtocolError("more SFTP extensions than are taken")
        extensions.append((name, value))
    return number, extensions


def only_name(data: bytes) -> bytes:
    """The path of a whole NAME that answers REALPATH. Raises RemoteProtocolError unless there is exactly one."""
    fields = Fields(data, "SFTP name", 9)
    if fields.uint32() != 1:
        raise RemoteProtocolError("an SFTP path with several names")
    name = fields.string()
    fields.string()
    attributes(fields)
    fields.finish()
    return name


def handle_of(data: bytes) -> bytes:
    """The handle in a whole HANDLE. Raises RemoteProtocolError."""
    fields = Fields(data, "SFTP handle", 9)
    found = fields.string()
    fields.finish()
    if not 0 < len(found) <= MAX_HANDLE:
        raise RemoteProtocolError(f"an SFTP handle of {len(found)} bytes")
    return found


def packet_end(buffer: memoryview, at: int, who: str) -> int | None:
    """Where the packet that begins at `at` ends, come or not; None: unknown yet. Raises RemoteProtocolError for a length out of bounds."""
    if len(buffer) < at + 4:
        return None
    (length,) = UINT32.unpack_from(buffer, at)
    if not LEAST_PACKET <= length <= MAX_PACKET:
        raise RemoteProtocolError(f"{who} sent an SFTP packet of {length} bytes: {LEAST_PACKET} to {MAX_PACKET} are taken")
    return at + 4 + int(length)
