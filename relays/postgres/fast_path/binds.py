"""Bind messages as bytes (PostgreSQL documentation, section 54.7): where they end, and what of their values the recording shows."""

from __future__ import annotations

from struct import Struct
from typing import Final

SHOWN_TEXT: Final = 1_024  # bytes of a bound value that the recording shows

_UINT16: Final = Struct("!H").unpack_from
_INT32: Final = Struct("!i").unpack_from


def bind_ends(data: bytes, at: int, stop: int) -> int:
    """Where a Bind message ends whose names end before `at`; -1 where it does not hold what it says."""
    formats, at = _formats_end(data, at, stop)
    if at < 0 or at + 2 > stop:
        return -1
    count: int = _UINT16(data, at)[0]
    if formats > 1 and formats != count:
        return -1
    at += 2
    for _ in range(count):
        if at + 4 > stop or (length := int(_INT32(data, at)[0])) < -1:
            return -1
        at += 4 + max(length, 0)
    return _formats_end(data, at, stop)[1]


def _formats_end(data: bytes, at: int, stop: int) -> tuple[int, int]:
    """How many format codes stand at `at`, and where they end; -1 where they do not, or one is neither text (0) nor binary (1)."""
    if at + 2 > stop:
        return 0, -1
    count: int = _UINT16(data, at)[0]
    end = at + 2 + 2 * count
    if end > stop or any(data[at + 2 : end : 2]) or any(code > 1 for code in data[at + 3 : end : 2]):
        return 0, -1
    return count, end


def binary(data: bytes, at: int) -> bool:
    """Whether any of the format codes at `at` is that of the binary format."""
    return any(data[at + 2 : at + 2 + 2 * int(_UINT16(data, at)[0])])


def values_shown(data: bytes, bind: int, stop: int) -> bytes | None:
    """The values of a Bind message, a line each; None where one is in binary format."""
    at = data.index(0, bind + 6, stop) + 1
    if binary(data, at):
        return None
    at += 2 + 2 * int(_UINT16(data, at)[0])
    count: int = _UINT16(data, at)[0]
    at += 2
    lines = []
    for index in range(count):
        length: int = _INT32(data, at)[0]
        at += 4
        value = data[at : at + max(length, 0)]
        shown = b"NULL" if length < 0 else value[:SHOWN_TEXT].replace(b"\n", b"\\n")  # no value may look like another line
        lines.append(b"\n-- $%d = %b" % (index + 1, shown))
        at += len(value)
    return b"".join(lines)
