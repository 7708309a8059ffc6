"""Bound values as rules see them: `params`, in order. None is NULL, UNKNOWN what cannot be decoded for certain."""

from __future__ import annotations

import re
import struct
import uuid
from collections.abc import Callable, Mapping, Sequence
from typing import Any, Final

from relays.postgres.codec import Bind
from rules.model import UNKNOWN

_NUMBER: Final = re.compile(r"[+-]?(?:\d+(?:\.\d*)?|\.\d+)(?:[eE][+-]?\d+)?")
_BOOLS: Final[Mapping[str, bool]] = {
    **dict.fromkeys(("t", "true", "y", "yes", "on", "1"), True),
    **dict.fromkeys(("f", "false", "n", "no", "off", "0"), False),
}


def _bool(text: str) -> Any:
    return _BOOLS.get(text.strip().lower(), UNKNOWN)


def _int(text: str) -> Any:
    stripped = text.strip()
    return int(stripped) if re.fullmatch(r"[+-]?\d{1,40}", stripped, re.ASCII) else UNKNOWN


def _float(text: str) -> Any:
    stripped = text.strip()
    return float(stripped) if len(stripped) <= 64 and _NUMBER.fullmatch(stripped) else UNKNOWN


def _str(text: str) -> Any:
    return text


def _untyped(text: str) -> Any:
    """The server chooses the type: what could as well be a number or a truth value is not known to be text."""
    stripped = text.strip()
    return UNKNOWN if _NUMBER.fullmatch(stripped) or stripped.lower() in _BOOLS else text


_TEXT: Final[Mapping[int, Callable[[str], Any]]] = {
    0: _untyped,
    16: _bool,
    **dict.fromkeys((20, 21, 23, 26), _int),
    **dict.fromkeys((700, 701, 1700), _float),
    # text, varchar, bpchar, name, "char", json, jsonb, uuid, date, time, timestamp, timestamptz, interval, inet, cidr, xml
    **dict.fromkeys((25, 1043, 1042, 19, 18, 114, 3802, 2950, 1082, 1083, 1114, 1184, 1186, 869, 650, 142), _str),
}
_PACKED: Final[Mapping[int, struct.Struct]] = {
    16: struct.Struct("!?"),
    20: struct.Struct("!q"),
    21: struct.Struct("!h"),
    23: struct.Struct("!i"),
    26: struct.Struct("!I"),
    700: struct.Struct("!f"),
    701: struct.Struct("!d"),
}
_BINARY_TEXT: Final = frozenset({25, 1043, 1042, 19, 114, 142})


def decode(bind: Bind, types: Sequence[int]) -> tuple[Any, ...]:
    """The values of a Bind message, for parameters of these types (OIDs; 0 and missing ones are not known)."""
    return tuple(
        None if each is None else value(each, types[index] if index < len(types) else 0, bind.format_of(index))
        for index, each in enumerate(bind.values)
    )


def value(value: bytes, kind: int, format: int) -> Any:
    """One value of a type (its OID) in text (0) or binary (1) format; UNKNOWN where that is not certain."""
    try:
        if format == 0:
            reader = _TEXT.get(kind)
            return UNKNOWN if reader is None else reader(value.decode())
        if kind in _BINARY_TEXT:
            return value.decode()
        if kind in _PACKED:
            return _PACKED[kind].unpack(value)[0]
        return str(uuid.UUID(bytes=value)) if kind == 2950 else UNKNOWN
    except (ValueError, struct.error):
        return UNKNOWN
