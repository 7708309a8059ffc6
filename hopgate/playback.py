"""A recording read back, a page at a time: HTTP exchanges, what a relay said was said, and terminals (asciicast).

What is in a recording was masked before it was written; what this gives is what is there. The files are read as they lie, without
mitmproxy: a console must not be able to run what an agent has recorded.
"""

from __future__ import annotations

import os
from collections.abc import Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, Final

from hopgate.asciicast import CAST
from hopgate.errors import Denied, Unavailable
from hopgate.flow_format import record_end

MAX_RECORD: Final = 16 << 20  # bytes of one record that is read; a longer one is told, and skipped
MAX_CAST: Final = 64 << 20  # bytes of terminals that are played at once
_DEPTH: Final = 32


@dataclass(frozen=True, slots=True)
class Exchange:
    """One HTTP request and its response as they were after masking. `status` 0: there was none."""

    at: float
    method: str
    url: str
    request_headers: tuple[tuple[str, str], ...]
    request_body: bytes | None
    status: int
    reason: str
    response_headers: tuple[tuple[str, str], ...]
    response_body: bytes | None
    duration: float
    error: str
    messages: tuple[tuple[bool, bytes, float], ...]  # of a WebSocket: (from the client?, content, time)
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Segment:
    """Messages of a relayed connection: (from the client?, readable text, time)."""

    messages: tuple[tuple[bool, bytes, float], ...]
    metadata: Mapping[str, Any] = field(default_factory=dict)


@dataclass(frozen=True, slots=True)
class Skipped:
    """A record that is there and is not shown, and why."""

    why: str


type Item = Exchange | Segment | Skipped


@dataclass(frozen=True, slots=True)
class Reading:
    """A page of a recording. `after` is the offset of what follows, `size` that of the file now: equal at its end."""

    items: tuple[Item, ...]
    after: int
    size: int
    damaged: str = ""


def recording_path(state: Path, relative: str) -> Path:
    """The file of a session's recording. Raises Denied when there is none, or it is elsewhere than recordings are."""
    top = (state / "recordings").resolve()
    path = (state / relative).resolve() if relative else top
    if not path.is_relative_to(top) or path.suffix != ".mitm":
        raise Denied("the session has no recording")
    if not path.is_file():
        raise Denied("the recording is gone: `hopgate verify` says why")
    return path


def is_terminal(item: Item) -> bool:
    """Whether it holds the asciicast lines of a terminal."""
    return isinstance(item, Segment) and CAST in item.metadata


def terminals(path: Path) -> tuple[bytes, ...]:
    """Each terminal of a recording as asciicast v2, `MAX_CAST` bytes of all at most. Reads all of it. Raises Unavailable."""
    found: dict[Any, list[bytes]] = {}
    at = total = 0
    while total < MAX_CAST:
        page = read(path, at)
        for item in page.items:
            if isinstance(item, Segment) and is_terminal(item):
                lines = [text for _, text, _ in item.messages]
                found.setdefault(item.metadata[CAST], []).extend(lines)
                total += sum(map(len, lines))
        if page.after >= page.size or page.damaged or page.after == at:
            break
        at = page.after
    return tuple(b"".join(lines) for lines in found.values())


def read(path: Path, offset: int = 0, *, items: int = 50, budget: int = 4 << 20) -> Reading:
    """At most `items` records from `offset`, or fewer when they are more than `budget` bytes. Raises Unavailable."""
    found: list[Item] = []
    try:
        fd = os.open(path, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
        try:
            size = os.fstat(fd).st_size
            at = begin = min(max(0, offset), size)
            while at < size and len(found) < items and at - begin < budget:
                end = record_end(fd, at, size)
                if end is None:
                    return Reading(tuple(found), at, size, "what follows is no whole record")
                found.append(_item(fd, at, end))
                at = end
            return Reading(tuple(found), at, size)
        finally:
            os.close(fd)
    except OSError as error:
        raise Unavailable(f"the recording cannot be read: {(error.strerror or 'i/o error').lower()}") from None


def _item(fd: int, start: int, end: int) -> Item:
    if end - start > MAX_RECORD:
        return Skipped(f"one record of {(end - start) >> 20} MiB: export the recording to see it")
    try:
        record = parse(os.pread(fd, end - start, start))
        if not isinstance(record, dict):
            raise ValueError
        return _exchange(record) if record.get("type") == "http" else _segment(record)
    except (ValueError, TypeError, KeyError, AttributeError):
        return Skipped("one record that is no flow of ours")


def _exchange(record: dict[str, Any]) -> Exchange:
    request, response = record["request"], record.get("response")
    host, port, scheme = _text(request["host"]), int(request["port"]), _text(request["scheme"])
    authority = _text(request.get("authority") or b"") or (f"{host}:{port}" if port not in (80, 443) else host)
    started = float(request["timestamp_start"])
    websocket = record.get("websocket")
    return Exchange(
        at=started,
        method=_text(request["method"]),
        url=f"{scheme}://{authority}{_text(request['path'])}",
        request_headers=_fields(request["headers"]),
        request_body=request.get("content"),
        status=int(response["status_code"]) if response else 0,
        reason=_text(response["reason"]) if response else "",
        response_headers=_fields(response["headers"]) if response else (),
        response_body=response.get("content") if response else None,
        duration=max(0.0, float(response.get("timestamp_end") or started) - started) if response else 0.0,
        error=str((record.get("error") or {}).get("msg", "")),
        messages=tuple((bool(each[1]), bytes(each[2]), float(each[3])) for each in websocket["messages"]) if websocket else (),
        metadata=record.get("metadata") or {},
    )


def _segment(record: dict[str, Any]) -> Segment:
    messages = tuple((bool(each[0]), bytes(each[1]), float(each[2])) for each in record["messages"])
    return Segment(messages, record.get("metadata") or {})


def _fields(fields: list[list[bytes]]) -> tuple[tuple[str, str], ...]:
    return tuple((_text(name), _text(value)) for name, value in fields)


def _text(value: bytes | str) -> str:
    return value.decode("utf-8", "replace") if isinstance(value, bytes) else value


def parse(data: bytes) -> Any:
    """The value of one tnetstring. Raises ValueError."""
    value, rest = _value(memoryview(data), 0)
    if rest:
        raise ValueError("something follows the value")
    return value


def _value(data: memoryview, depth: int) -> tuple[Any, memoryview]:
    if depth > _DEPTH:
        raise ValueError("nested too deep")
    head = bytes(data[:13]).partition(b":")
    if not head[1] or not head[0].isdigit():
        raise ValueError("no length")
    start, length = len(head[0]) + 1, int(head[0])
    end = start + length
    if end >= len(data):
        raise ValueError("cut off")
    return _typed(data[start:end], chr(data[end]), depth), data[end + 1 :]


def _typed(body: memoryview, kind: str, depth: int) -> Any:
    match kind:
        case ",":
            return bytes(body)
        case ";":
            return str(body, "utf-8", "replace")
        case "#":
            return int(bytes(body))
        case "^":
            return float(bytes(body))
        case "!":
            return bytes(body) == b"true"
        case "~":
            return None
        case "]" | "}":
            found = []
            while body:
                value, body = _value(body, depth + 1)
                found.append(value)
            if kind == "]":
                return found
            if len(found) % 2:
                raise ValueError("a key without a value")
            return {_text(found[i]): found[i + 1] for i in range(0, len(found), 2)}
    raise ValueError("no type")
