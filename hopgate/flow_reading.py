"""Flow files read back, one record at a time, without mitmproxy: what `flow_format` writes, as plain dictionaries.

A recording may have been edited by anybody: what cannot be read raises BadFlow, nothing else.
"""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any, Final

from hopgate.flow_format import record_end
from hopgate.ledger_format import open_plain

MAX_RECORD: Final = 1 << 30  # bytes
MAX_DEPTH: Final = 32


class BadFlow(ValueError):
    """Bytes that are no flow. The message says where."""


def read_flows(path: Path) -> Iterator[dict[str, Any]]:
    """Every whole record, in order; a torn one at the end is left out. Raises BadFlow, OSError."""
    with open_plain(path) as file:
        fd = file.fileno()
        size = os.fstat(fd).st_size
        at = 0
        while at < size:
            end = record_end(fd, at, size)
            if end is None:
                if _is_torn(os.pread(fd, 13, at), size - at):
                    return
                raise BadFlow(f"no flow begins at byte {at}")
            if end - at > MAX_RECORD:
                raise BadFlow(f"a flow of {end - at} bytes at byte {at}")
            value = decoded(os.pread(fd, end - at, at))
            if not isinstance(value, dict):
                raise BadFlow(f"no flow begins at byte {at}")
            yield value
            at = end


def _is_torn(start: bytes, left: int) -> bool:
    """Whether a record begins so of which only the beginning was written: the session is still open, or its gateway was killed."""
    prefix, colon, _ = start.partition(b":")
    return prefix.isdigit() and (not colon or len(prefix) + 1 + int(prefix) + 1 > left)


def decoded(data: bytes) -> Any:
    """The value of one tnetstring that is all of `data`. Raises BadFlow."""
    try:
        value, end = _value(data, 0, len(data), 0)
    except (ValueError, IndexError, TypeError) as error:
        raise BadFlow("bytes that are no tnetstring") from error
    if end != len(data):
        raise BadFlow("bytes behind a tnetstring")
    return value


def _value(data: bytes, at: int, stop: int, depth: int) -> tuple[Any, int]:
    colon = data.index(b":", at, min(at + 12, stop))
    start = colon + 1
    end = start + int(data[at:colon])
    if end >= stop or depth > MAX_DEPTH:
        raise ValueError
    kind = data[end : end + 1]
    if kind in b"]}":
        members = []
        while start < end:
            member, start = _value(data, start, end, depth + 1)
            members.append(member)
        return (members if kind == b"]" else _mapping(members)), end + 1
    return _scalar(data[start:end], kind), end + 1


def _mapping(members: list[Any]) -> dict[str, Any]:
    names = [name.decode() if isinstance(name, bytes) else name for name in members[::2]]
    if not all(isinstance(name, str) for name in names):
        raise ValueError
    return dict(zip(names, members[1::2], strict=True))


def _scalar(raw: bytes, kind: bytes) -> Any:
    match kind:
        case b",":
            return raw
        case b";":
            return raw.decode()
        case b"#":
            return int(raw)
        case b"^":
            return float(raw)
        case b"!" if raw in (b"true", b"false"):
            return raw == b"true"
        case b"~" if not raw:
            return None
    raise ValueError
