"""What stands for a masked value on the wire: valid for the column's type in the format that the client asked for, or NULL.

A text type takes any text; for the others a client's decoder would fail on `[redacted]`, so they get NULL, except where
`fixed` names a value of the type. NULL stays NULL: masking does not hide that a value is absent.
"""

from __future__ import annotations

import math
import struct
import uuid
from collections.abc import Callable
from decimal import Decimal, InvalidOperation
from hmac import digest
from typing import Final

import orjson

from relays.postgres.rows import Ending
from rules.masking.strategies import HIDDEN, Treatment

type Value = bytes | None  # None is NULL
type Replace = Callable[[bytes], Value]

TEXT, BINARY = 0, 1

_BOOL, _BYTEA, _INT8, _INT2, _INT4, _TEXT, _OID, _JSON, _XML = 16, 17, 20, 21, 23, 25, 26, 114, 142
_FLOAT4, _FLOAT8, _UNKNOWN, _BPCHAR, _VARCHAR, _NAME, _NUMERIC, _CSTRING, _UUID, _JSONB = (
    700,
    701,
    705,
    1042,
    1043,
    19,
    1700,
    2275,
    2950,
    3802,
)
_TEXTS: Final = frozenset({_TEXT, _VARCHAR, _BPCHAR, _NAME, _UNKNOWN, _CSTRING})
_PACKED: Final = {_INT2: "!h", _INT4: "!i", _INT8: "!q", _FLOAT4: "!f", _FLOAT8: "!d"}


def replacement(treatment: Treatment, kind: int, format: int, texts: frozenset[int] = frozenset()) -> Value | Replace:
    """What to put in place of the values of a column: the same for all (None is NULL), or a function of each.

    `kind` is the type's OID, `texts` those of other types whose values are text.
    """
    if treatment.strategy == "null" or format not in (TEXT, BINARY):
        return None
    if kind in _TEXTS or kind in texts:
        return _text(treatment)
    if kind in (_JSON, _JSONB):
        return _json(treatment, b"\x01" if kind == _JSONB and format == BINARY else b"")
    if kind == _BYTEA:
        return _bytea(treatment, format)
    if treatment.strategy == "fixed":
        return _fixed(treatment.value, kind, format)
    return None


def _text(treatment: Treatment) -> Value | Replace:
    """No NUL: text cannot hold one, and some clients end there."""
    if treatment.constant:
        return treatment.of_text("").replace("\0", "").encode()
    if treatment.strategy == "hash":
        return _hash(treatment.hash_key)
    if treatment.strategy == "partial":
        return Ending(HIDDEN.encode(), treatment.keep, treatment.of_bytes)
    return treatment.of_bytes


def _hash(key: bytes) -> Replace:
    """Treatment.of_bytes, in one call: the values of a column are many."""
    return lambda value: b"hmac:" + digest(key, value, "sha256").hex()[:16].encode()


def _json(treatment: Treatment, prefix: bytes) -> Value | Replace:
    if treatment.constant:
        return prefix + orjson.dumps(treatment.of_text(""))

    def replace(value: bytes) -> bytes:
        try:
            document = orjson.loads(value[len(prefix) :])
        except orjson.JSONDecodeError:
            document = None
        return prefix + orjson.dumps(treatment.of_value(document))

    return replace


def _bytea(treatment: Treatment, format: int) -> Value | Replace:
    if treatment.constant:
        hidden = treatment.of_text("").encode()
        return hidden if format == BINARY else b"\\x" + hidden.hex().encode()
    if treatment.strategy == "hash" and format == BINARY:
        return treatment.of_bytes
    return None  # `partial` of bytes would keep what no text shows


def _fixed(value: str, kind: int, format: int) -> Value:
    """`value` as a value of the type; NULL when it is none."""
    try:
        if kind == _BOOL:
            truth = {"true": 1, "t": 1, "false": 0, "f": 0}[value.lower()]
            return bytes((truth,)) if format == BINARY else b"ft"[truth : truth + 1]
        if kind == _UUID:
            found = uuid.UUID(value)
            return found.bytes if format == BINARY else str(found).encode()
        if kind in (_FLOAT4, _FLOAT8):
            packed = struct.pack(_PACKED[kind], float(value))
            return packed if format == BINARY else repr(float(value)).encode() if math.isfinite(float(value)) else None
        if kind in _PACKED:
            packed = struct.pack(_PACKED[kind], int(value))
            return packed if format == BINARY else str(int(value)).encode()
        if kind == _NUMERIC and format == TEXT and Decimal(value).is_finite():
            return format_decimal(Decimal(value))
    except (KeyError, ValueError, struct.error, OverflowError, InvalidOperation):
        return None
    return None


def format_decimal(value: Decimal) -> bytes | None:
    """A numeric without an exponent; None when that would be long."""
    if abs(value.adjusted()) > 100:
        return None
    return f"{value:f}".encode()


def is_text(kind: int, texts: frozenset[int]) -> bool:
    """Whether values of the type are text in both formats."""
    return kind in _TEXTS or kind in texts or kind == _XML


def is_json(kind: int) -> bool:
    return kind in (_JSON, _JSONB)


def json_prefix(kind: int, format: int) -> bytes:
    """jsonb in binary begins with a version (jsonb_send)."""
    return b"\x01" if kind == _JSONB and format == BINARY else b""


def shown(kind: int, format: int, value: bytes) -> bytes:
    """A value as the bytes that detectors look at: numbers in decimal, hexadecimal bytea as what it stands for."""
    try:
        if format == BINARY and kind in (_INT8, _INT4, _OID):
            return b"%d" % int.from_bytes(value, "big", signed=kind != _OID)
        if format == BINARY and kind == _NUMERIC:
            return _numeric(value)
        if format == TEXT and kind == _BYTEA and value.startswith(b"\\x"):
            return bytes.fromhex(value[2:].decode("ascii"))
    except (ValueError, struct.error):
        return value
    return value


def _numeric(value: bytes) -> bytes:
    """numeric_send: digits in base 10000, weight of the first, sign, digits after the point; the integer part is enough to look at."""
    count, weight, sign, scale = struct.unpack_from("!hhHh", value)
    digits = struct.unpack_from(f"!{count}h", value, 8)
    whole = [digits[index] if index < count else 0 for index in range(min(weight, 100) + 1)]
    text = b"".join(b"%04d" % digit for digit in whole).lstrip(b"0") or b"0"
    rest = b"".join(b"%04d" % digit for digit in digits[len(whole) :])[: max(scale, 0)]
    return (b"-" if sign == 0x4000 else b"") + text + (b"." + rest if rest else b"")
