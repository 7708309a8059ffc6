"""Paths on a target as rules see them: absolute, no `.` nor `..`, no double slashes. Textual: where symbolic links lead is unknown."""

from __future__ import annotations

from typing import Final

MAX_PATH: Final = 4096  # bytes, PATH_MAX of Linux


class AmbiguousPath(ValueError):
    """A path that cannot be named to rules. The message is what `reason` says."""


def absolute(path: bytes, base: bytes | None) -> bytes:
    """`path` seen from the directory `base` (absolute; None where it is not known). Raises AmbiguousPath.

    `..` takes back the name before it, whatever that name is a link to; above the root it is the root.
    """
    if b"\0" in path:
        raise AmbiguousPath("a path with a NUL byte")
    if len(path) > MAX_PATH:
        raise AmbiguousPath(f"a path longer than {MAX_PATH} bytes")
    if path[:1] != b"/":
        if base is None:
            raise AmbiguousPath("a relative path, and the directory that it starts from is not known")
        path = base + b"/" + path
    if b"/." not in path and b"//" not in path:
        return path.rstrip(b"/") or b"/"
    found: list[bytes] = []
    for name in path.split(b"/"):
        if name == b"..":
            del found[-1:]
        elif name not in (b"", b"."):
            found.append(name)
    return b"/" + b"/".join(found)


def directory(path: bytes) -> bytes:
    """The directory that an absolute path stands in."""
    return path.rpartition(b"/")[0] or b"/"


def text_of(path: bytes) -> str:
    """The path as the fact that rules compare: bytes that are no UTF-8 stay what they are, as lone surrogates."""
    return path.decode("utf-8", "surrogateescape")
