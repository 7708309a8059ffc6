"""A PostgreSQL client that is nothing but a socket: it logs in with a password in clear text and reads at the pace it is told."""

from __future__ import annotations

import socket
import struct
import time
from collections.abc import Callable

_HEADER = struct.Struct("!cI")
_PROTOCOL = 196608  # 3.0
_STEP = 1 << 20  # bytes read between two pauses
_EVERY = 16  # pauses between two looks


class Refused(Exception):
    """The other side said no; the text is its message."""


def connect(port: int, user: str, password: str, database: str) -> socket.socket:
    """A connection that is ready for a query. Raises Refused, OSError."""
    stream = socket.create_connection(("127.0.0.1", port), timeout=60)
    pairs = b"".join(text.encode() + b"\0" for text in ("user", user, "database", database)) + b"\0"
    stream.sendall(struct.pack("!II", len(pairs) + 8, _PROTOCOL) + pairs)
    while True:
        kind, body = _message(stream)
        if kind == b"R" and body[:4] == b"\0\0\0\3":
            secret = password.encode() + b"\0"
            stream.sendall(_HEADER.pack(b"p", len(secret) + 4) + secret)
        elif kind == b"R" and body[:4] != b"\0\0\0\0":
            raise Refused(f"asks for authentication {int.from_bytes(body[:4])}, this client only knows clear text")
        elif kind == b"E":
            raise Refused(body.replace(b"\0", b" ").decode("utf-8", "replace"))
        elif kind == b"Z":
            return stream


def query(stream: socket.socket, sql: str) -> None:
    """Send it; the answer is the caller's to read."""
    text = sql.encode() + b"\0"
    stream.sendall(_HEADER.pack(b"Q", len(text) + 4) + text)


def drain(stream: socket.socket, pause: float = 0.0, look: Callable[[], None] | None = None) -> tuple[int, bytes]:
    """Read until ReadyForQuery, with a pause after each MiB; how many bytes came, and the last of them. Raises OSError."""
    seen, last, turns, before = 0, b"", 0, 0
    buffer = bytearray(_STEP)
    while True:
        count = stream.recv_into(buffer)
        if not count:
            raise ConnectionError("the connection was closed before the end of the answer")
        seen += count
        # by its last bytes only: no answer of the benchmark has these in a row
        last = (last + buffer[max(0, count - 64) : count])[-64:]
        if last.endswith((b"Z\0\0\0\5I", b"Z\0\0\0\5T", b"Z\0\0\0\5E")):
            return seen, last
        if pause and seen - before >= _STEP:
            before, turns = seen, turns + 1
            time.sleep(pause)
            if look is not None and turns % _EVERY == 0:
                look()


def _message(stream: socket.socket) -> tuple[bytes, bytes]:
    kind, length = _HEADER.unpack(_exactly(stream, _HEADER.size))
    return kind, _exactly(stream, length - 4)


def _exactly(stream: socket.socket, count: int) -> bytes:
    found = bytearray()
    while len(found) < count:
        data = stream.recv(count - len(found))
        if not data:
            raise ConnectionError("the connection was closed in the middle of a message")
        found += data
    return bytes(found)
