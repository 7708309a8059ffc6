"""The bytes of a ledger: hash-chained lines, signed checkpoints, and how the signed end of a file is found again.

A line is one JSON object whose last key is the chain hash:

    {"i":7,"t":1700000000000000000,"event":"decided",…,"h":"<64 hex digits>"}

`h` is SHA-256 over a domain, the hash of the line before, the length of this line's bytes before `,"h"`, and these bytes as they
were written, so that no canonical form of JSON is needed to verify them. A checkpoint is a line whose event is `checkpoint`; its
signature covers process, line number, time, whether it is final, and the hash of the line before, thus every byte above it.
"""

from __future__ import annotations

import base64
import binascii
import errno
import hashlib
import io
import os
import re
import stat
from collections.abc import Iterator, Mapping
from dataclasses import asdict, dataclass
from typing import Any, BinaryIO, Final, NamedTuple

import orjson
from cryptography.exceptions import InvalidSignature
from cryptography.hazmat.primitives.asymmetric.ed25519 import Ed25519PrivateKey, Ed25519PublicKey

DOMAIN: Final = b"hopgate.ledger.v1\0"
SUFFIX: Final = 72  # ,"h":"<64>"}
CHECKPOINT: Final = "checkpoint"
PROCESS: Final = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
_BLOCK: Final = 1 << 16


class BadLine(ValueError):
    """Bytes that no gateway wrote as a ledger line."""


class Line(NamedTuple):
    """One parsed line. `body` is what the hash covers, `h` the hash as stored (32 bytes)."""

    i: int
    t: int  # nanoseconds since the epoch
    event: str
    fields: Mapping[str, Any]
    body: bytes
    h: bytes


@dataclass(frozen=True, slots=True)
class Head:
    """A signed statement of how far a ledger has come: checkpoint `i` follows a line whose hash is `h` (hex)."""

    process: str
    i: int
    t: int
    final: bool
    h: str
    signature: str  # ed25519, base64

    def json(self) -> str:
        """The form that is anchored: one line, key `hopgate_head`."""
        return orjson.dumps({"hopgate_head": asdict(self)}).decode()

    def signed_by(self, key: Ed25519PublicKey) -> bool:
        try:
            previous = bytes.fromhex(self.h)
            signature = base64.b64decode(self.signature, validate=True)
            key.verify(signature, statement(self.process, self.i, self.t, self.final, previous))
        except (InvalidSignature, ValueError, OverflowError):
            return False
        return len(previous) == 32


@dataclass(frozen=True, slots=True)
class Tail:
    """Where a ledger file may be continued: after its last good checkpoint, or at its beginning."""

    head: Head | None
    digest: bytes  # the hash that the next line is chained to
    following: int  # the number of the next line
    end: int  # bytes of the file that are signed; what follows was never acknowledged


def genesis(process: str) -> bytes:
    """What the first line of a ledger is chained to."""
    return hashlib.sha256(DOMAIN + b"genesis\0" + process.encode()).digest()


def link(previous: bytes, body: bytes) -> bytes:
    """The chain hash of a line with `body` after a line with the hash `previous`."""
    return hashlib.sha256(b"".join((DOMAIN, previous, len(body).to_bytes(8), body))).digest()


def statement(process: str, i: int, t: int, final: bool, previous: bytes) -> bytes:
    """What a checkpoint signs. Every field has a fixed length or its length before it."""
    name = process.encode()
    return b"".join(
        (DOMAIN, b"checkpoint\0", len(name).to_bytes(2), name, i.to_bytes(8), t.to_bytes(8), bytes((final,)), previous),
    )


def checkpoint_body(process: str, i: int, t: int, final: bool, previous: bytes, key: Ed25519PrivateKey) -> tuple[bytes, Head]:
    """The body of checkpoint line `i`, and the head that it states."""
    signature = base64.b64encode(key.sign(statement(process, i, t, final, previous))).decode()
    return _checkpoint(i, t, final, signature), Head(process, i, t, final, previous.hex(), signature)


def _checkpoint(i: int, t: int, final: bool, signature: str) -> bytes:
    return orjson.dumps({"i": i, "t": t, "event": CHECKPOINT, "final": final, "signature": signature})[:-1]


def head_of(line: Line, process: str, previous: bytes) -> Head | None:
    """The head that a checkpoint line states, or None where the line is not one, byte for byte. The signature is not checked."""
    final, signature = line.fields.get("final"), line.fields.get("signature")
    if line.event != CHECKPOINT or not isinstance(final, bool) or not isinstance(signature, str):
        return None
    # a field beside the signed ones could be put in without the key
    if _checkpoint(line.i, line.t, final, signature) != line.body:
        return None
    return Head(process, line.i, line.t, final, previous.hex(), signature)


def parse_line(raw: bytes) -> Line:
    """One line without its line end. Raises BadLine."""
    if raw[-SUFFIX : -SUFFIX + 6] != b',"h":"' or raw[-2:] != b'"}':
        raise BadLine("not a ledger line")
    body = raw[:-SUFFIX]
    try:
        # fromhex would take capitals and blanks, which no gateway writes
        digest = binascii.unhexlify(raw[-SUFFIX + 6 : -2])
        fields = orjson.loads(body + b"}")
    except (binascii.Error, ValueError) as error:
        raise BadLine("not a ledger line") from error
    if digest.hex().encode() != raw[-SUFFIX + 6 : -2]:
        raise BadLine("not a ledger line")
    i, t, event = fields.get("i"), fields.get("t"), fields.get("event")
    if type(i) is not int or type(t) is not int or i < 0 or t < 0 or not isinstance(event, str):
        raise BadLine("a ledger line without number, time or event")
    return Line(i, t, event, fields, body, digest)


def find_tail(fd: int, process: str, key: Ed25519PublicKey) -> Tail | None:
    """The last checkpoint of the open file, searched from its end. None: there is one, but not signed with `key`.

    Lines after the last checkpoint were never acknowledged as durable: a batch and its checkpoint are one write.
    """
    size, block = os.fstat(fd).st_size, _BLOCK
    while True:
        start = max(0, size - block)
        found = _last_checkpoint(os.pread(fd, size - start, start), start)
        if found is not None:
            end, before, line = found
            head = head_of(line, process, before.h)
            if head is None or link(before.h, line.body) != line.h or not head.signed_by(key):
                return None
            return Tail(head, line.h, line.i + 1, end)
        if start == 0:
            return Tail(None, genesis(process), 0, 0)
        block *= 4


def _last_checkpoint(data: bytes, start: int) -> tuple[int, Line, Line] | None:
    """(offset after it, the line before it, it) of the last checkpoint in `data`, which begins at offset `start` of the file."""
    end = data.rfind(b"\n") + 1
    last: Line | None = None
    after = 0
    while end > 0:
        begin = data.rfind(b"\n", 0, end - 1) + 1
        if begin == 0 and start > 0:
            return None  # perhaps only the end of a line
        try:
            line: Line | None = parse_line(data[begin : end - 1])
        except BadLine:
            line = None
        if line is not None and last is not None:
            return start + after, line, last
        if line is not None and line.event == CHECKPOINT:
            last, after = line, end
        end = begin
    return None


def other_heads(directory: os.PathLike[str], process: str) -> dict[str, list[int | str]]:
    """{process: [line number, hash]} of the last checkpoint of every other ledger in `directory`, as a new ledger's first event
    names them.
    """
    heads: dict[str, list[int | str]] = {}
    for name in ledger_names(directory):
        if name == process:
            continue
        with _open_named(directory, name) as file:
            size = file.seek(0, os.SEEK_END)
            start = file.seek(max(0, size - (_BLOCK << 6)))
            found = _last_checkpoint(file.read(), start)
        if found is not None:
            heads[name] = [found[2].i, found[2].h.hex()]
    return heads


def open_plain(path: str | os.PathLike[str]) -> BinaryIO:
    """Open a regular file for reading, and nothing that a link or a pipe put in its place. Raises OSError."""
    fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_NONBLOCK | os.O_CLOEXEC)
    if not stat.S_ISREG(os.fstat(fd).st_mode):
        os.close(fd)
        raise OSError(errno.EINVAL, "Not a regular file")
    return open(fd, "rb")


def ledger_names(directory: os.PathLike[str]) -> list[str]:
    """The processes that have a ledger in `directory`, sorted."""
    try:
        names = os.listdir(directory)
    except FileNotFoundError:
        return []
    return sorted(name.removesuffix(".ndjson") for name in names if name.endswith(".ndjson"))


def _open_named(directory: os.PathLike[str], process: str) -> BinaryIO:
    try:
        return open_plain(os.path.join(directory, f"{process}.ndjson"))
    except OSError:
        return io.BytesIO()  # `verify` says that it cannot be read


def lines_with(directory: os.PathLike[str], marker: bytes) -> Iterator[Line]:
    """Every good line of every ledger in `directory` that contains `marker`; nothing is verified."""
    for name in ledger_names(directory):
        with _open_named(directory, name) as file:
            for raw in file:
                if marker in raw:
                    try:
                        yield parse_line(raw[:-1])
                    except BadLine:
                        continue
