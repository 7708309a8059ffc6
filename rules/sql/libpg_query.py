"""libpg_query, PostgreSQL 18's own grammar: SQL text -> parse tree, as the JSON that the library prints.

The library is the one that the wheel `postgast` bundles (BSD), called by ctypes: postgast's own protobuf decoding fails at
a few hundred nested queries. It is loaded at the first use. ctypes lets go of the GIL while the library runs; the call
keeps no state, so threads may parse side by side.
"""

from __future__ import annotations

import ctypes
import importlib.util
import pathlib
import sys
from collections.abc import Callable
from functools import cache
from typing import Any, Final

import msgspec

from rules.sql import deep_json

_NAMES: Final = {"darwin": "libpg_query.dylib", "win32": "pg_query.dll"}
MAX_TREE: Final = 64 << 20  # bytes of JSON; 1 MiB of `1,` gives 45 MB
MAX_DEEP_TREE: Final = 4 << 20  # of one that is too deep for the usual decoder; a chain of 2,000 operators gives 0.5 MB


class SyntaxRefused(ValueError):
    """PostgreSQL's grammar does not accept the text. `position` counts characters from 1; the message quotes nothing of the text."""

    def __init__(self, position: int, message: str = "") -> None:
        super().__init__(message or f"not a statement of PostgreSQL's grammar, at character {position}")
        self.position = position


class LibraryMissing(RuntimeError):
    """The wheel `postgast` is not installed, or without its library."""


class _Error(ctypes.Structure):
    _fields_ = (
        ("message", ctypes.c_char_p),
        ("funcname", ctypes.c_char_p),
        ("filename", ctypes.c_char_p),
        ("lineno", ctypes.c_int),
        ("cursorpos", ctypes.c_int),
        ("context", ctypes.c_char_p),
    )


class _Result(ctypes.Structure):
    _fields_ = (("tree", ctypes.c_char_p), ("stderr", ctypes.c_char_p), ("error", ctypes.POINTER(_Error)))


def _path() -> pathlib.Path:
    spec = importlib.util.find_spec("postgast")
    if spec is None or spec.origin is None:
        raise LibraryMissing("SQL cannot be read: install postgast 0.2")
    path = pathlib.Path(spec.origin).with_name(_NAMES.get(sys.platform, "libpg_query.so"))
    if not path.is_file():
        raise LibraryMissing("SQL cannot be read: postgast is installed without libpg_query; install its wheel for this platform")
    return path


@cache
def _library() -> tuple[Callable[[bytes], Any], Callable[[Any], None]]:
    library = ctypes.CDLL(str(_path()))
    library.pg_query_parse.argtypes, library.pg_query_parse.restype = [ctypes.c_char_p], _Result
    library.pg_query_free_parse_result.argtypes, library.pg_query_free_parse_result.restype = [_Result], None
    return library.pg_query_parse, library.pg_query_free_parse_result


def parse_json(text: bytes) -> bytes:
    """The parse tree as JSON. `text` must be within rules.sql.bounds: the library trusts its stack.

    Raises SyntaxRefused and LibraryMissing.
    """
    parse, free = _library()
    result = parse(text)
    try:
        if result.error:
            raise SyntaxRefused(result.error.contents.cursorpos)
        tree: bytes = result.tree
        return tree
    finally:
        free(result)


_decode: Final = msgspec.json.Decoder().decode


def parse(text: bytes) -> list[dict[str, Any]]:
    """The statements of `text` as decoded nodes, each `{kind: fields}`.

    Raises SyntaxRefused (also for a tree that is too large or too deep to decode) and LibraryMissing.
    """
    tree = parse_json(text)
    if len(tree) > MAX_TREE:
        raise SyntaxRefused(0, f"the parse tree is larger than {MAX_TREE} bytes")
    try:
        statements = _decoded(tree).get("stmts", ())
    except (RecursionError, ValueError):
        raise SyntaxRefused(0, "the parse tree cannot be decoded") from None
    return [statement.get("stmt", {}) for statement in statements]


def _decoded(tree: bytes) -> Any:
    try:
        return _decode(tree)
    except RecursionError:
        if len(tree) > MAX_DEEP_TREE:
            raise
        return deep_json.decode(tree)  # some ten times slower
