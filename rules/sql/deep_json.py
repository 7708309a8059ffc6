"""JSON of any depth, without recursion: for trees that the usual decoder does not go down to.

CPython 3.12 stops compiled decoders at some 1,500 levels, which no setting changes; a chain of 2,000 operators has 4,000.
"""

from __future__ import annotations

import re
from typing import Any, Final

import msgspec

_TOKEN: Final = re.compile(rb'[ \t\r\n]*+(?:(?P<mark>[{}\[\],:])|(?P<string>"(?:[^"\\]++|\\.)*+")|(?P<other>[-+.0-9A-Za-z]++))', re.DOTALL)
_decode: Final = msgspec.json.Decoder().decode


def decode(text: bytes) -> Any:
    """Objects as dicts, arrays as lists. Raises ValueError (msgspec.DecodeError is one) for what is no JSON, commas and colons aside."""
    root: list[Any] = []
    stack: list[Any] = [root]
    keys: list[str | None] = [None]  # of each open object: the key whose value comes next
    at, end, match = 0, len(text.rstrip()), _TOKEN.match
    while at < end:
        found = match(text, at)
        if found is None:
            raise ValueError(f"no JSON at byte {at}")
        at = found.end()
        mark = found["mark"]
        inside = stack[-1]
        if mark in (b"{", b"["):
            value: Any = {} if mark == b"{" else []
            _put(inside, keys, value)
            stack.append(value)
            keys.append(None)
        elif mark in (b"}", b"]"):
            if len(stack) == 1 or isinstance(inside, dict) is not (mark == b"}") or keys[-1] is not None:
                raise ValueError(f"no JSON at byte {at}")
            stack.pop()
            keys.pop()
        elif mark is None:
            value = _decode(found[0])
            if isinstance(inside, dict) and keys[-1] is None and isinstance(value, str):
                keys[-1] = value
            else:
                _put(inside, keys, value)
    if len(stack) != 1 or len(root) != 1:
        raise ValueError("no JSON: it has no end")
    return root[0]


def _put(inside: Any, keys: list[str | None], value: Any) -> None:
    if isinstance(inside, list):
        inside.append(value)
        return
    key, keys[-1] = keys[-1], None
    if key is None:
        raise ValueError("a value without a key")
    inside[key] = value
